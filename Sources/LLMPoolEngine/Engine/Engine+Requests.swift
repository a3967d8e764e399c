import CLLMPoolSystem
import LLMPoolCore
import LLMPoolWire

extension Engine {
  // MARK: In

  func admit(_ request: RequestState) {
    let slot = request.id.slot
    while requests.count <= slot { requests.append(nil) }
    requests[slot] = request
    let port = port(of: request.queue)
    request.port = port
    port.live += 1
    if port.live == 1 { livePorts += 1 }
    request.creditThreshold = max(1, streamWindow / 4)
    request.origin = origin(of: request).id.slot
    tell(.submitted(request.id, OriginID(slot: request.origin), request.options))
    // Where it was closed since the request was submitted, the engine may have been told of that before.
    if request.queue.isClosed { tell(.cancelled(request.id)) }
  }

  func send(_ attempt: AttemptID, _ id: RequestID, _ connectionID: ConnectionID, _ isReused: Bool) {
    // A connection that is gone was reported as closed, and the core has taken the attempt back.
    guard let request = requests[id.slot], request.id == id, let connection = connection(connectionID),
      connection.phase == .open, let session = connection.session
    else { return }
    request.attempt = attempt
    request.connection = connection
    request.bodySent = 0
    request.isUploadWaiting = false
    request.isReused = isReused
    request.failureMessage = nil
    request.answer.reset()
    var timings = TimingsRecord()
    timings.admitted = microseconds(since: request)
    // A connection that was warmed before the submission is new, too, but nobody waited for it.
    if !isReused, max(connection.connectedAt, connection.securedAt) >= request.options.submittedAt.nanoseconds {
      timings.resolved = microseconds(at: connection.resolvedAt, since: request)
      timings.connected = microseconds(at: connection.connectedAt, since: request)
      timings.secured = microseconds(at: connection.securedAt, since: request)
    }
    request.timings = timings
    session.begin(request)
  }

  func abort(_ attempt: AttemptID) {
    guard let request = request(attempt) else { return }
    request.attempt = nil
    request.connection?.session?.abort(request)
  }

  func credit(_ id: RequestID, _ bytes: Int) {
    guard let request = requests[id.slot], request.id == id else { return }
    let credited = min(bytes, request.answer.uncredited)
    request.answer.uncredited -= credited
    request.answer.creditAhead += min(bytes - credited, Int.max - request.answer.creditAhead)
    if request.answer.isHeld, request.answer.uncredited <= streamWindow / 2 {
      request.answer.isHeld = false
      if let attempt = request.attempt { tell(.progressed(attempt, .releasedByApplication)) }
    }
    if credited > 0 { request.connection?.session?.credit(request, credited) }
  }

  // MARK: What the sessions tell

  /// Microseconds from the submission to now, at least 1.
  func microseconds(since request: RequestState) -> UInt64 { microseconds(at: now, since: request) }

  /// 0 for a time that never was; what happened before the submission counts as its first microsecond.
  private func microseconds(at time: Int64, since request: RequestState) -> UInt64 {
    guard time > 0 else { return 0 }
    return UInt64(max(1, (time - request.options.submittedAt.nanoseconds) / 1_000))
  }

  func progressed(_ request: RequestState, _ phase: Phase) {
    if let attempt = request.attempt { tell(.progressed(attempt, phase)) }
  }

  func received(_ request: RequestState) {
    if request.timings.firstByte == 0 { request.timings.firstByte = microseconds(since: request) }
    progressed(request, .received)
  }

  /// `headers` nil: they are in the answer already, and there is no reason phrase.
  func answerHead(
    _ request: RequestState, status: UInt16, version: AnswerVersion, reason: UnsafeRawBufferPointer,
    headers: UnsafeRawBufferPointer?
  ) {
    guard let attempt = request.attempt else { return }
    let answer = request.answer
    answer.hasHead = true
    answer.status = status
    answer.version = version.rawValue
    if let headers {
      answer.head.reserve(reason.count + headers.count)
      answer.head.append(reason)
      answer.head.append(headers)
      answer.reasonCount = reason.count
    }
    var advice = RetryAdvice.none
    if request.flags.contains(.retryStatus), status >= 400 { advice = retryAdvice(answer.headers) }
    tell(.answered(attempt, httpStatus: Int(status), advice))
  }

  private func retryAdvice(_ headers: UnsafeRawBufferPointer) -> RetryAdvice {
    var clock = timespec()
    clock_gettime(CLOCK_REALTIME, &clock)
    var advice = RetryAdvice()
    if let wait = RetryAfter.milliseconds(in: headers, now: Int64(clock.tv_sec)) {
      advice.retryAfter = .milliseconds(min(wait, UInt64(Int32.max)))
    }
    if let value = HeaderBlock.value(of: "x-should-retry", in: headers) {
      if value.elementsEqual("true".utf8) { advice.shouldRetry = true }
      if value.elementsEqual("false".utf8) { advice.shouldRetry = false }
    }
    return advice
  }

  /// Takes bytes of the body; returns how many of them the session may credit at once. `isWhole`: it believes that
  /// nothing came before or comes after them.
  @discardableResult
  func answerBody(_ request: RequestState, _ bytes: UnsafeRawBufferPointer, isWhole: Bool) -> Int {
    guard request.attempt != nil, bytes.count > 0 else { return bytes.count }
    let answer = request.answer
    if answer.delivery == .discarded { return bytes.count }
    // With server-sent events the first event counts, wherever it ends.
    if request.timings.firstData == 0, !request.flags.contains(.sse) {
      request.timings.firstData = microseconds(since: request)
    }
    guard request.isStreamed else {
      collectBody(request, bytes, isWhole: isWhole)
      return bytes.count
    }
    if answer.delivery == .delivering { return stageBody(request, bytes) }
    answer.body.append(bytes)
    return 0
  }

  private func collectBody(_ request: RequestState, _ bytes: UnsafeRawBufferPointer, isWhole: Bool) {
    let answer = request.answer
    if isWhole, answer.body.count == 0, answer.wholeBody == nil, bytes.count <= Engine.copiedBodyLimit {
      answer.wholeBody = events.place(bytes)
    } else {
      if let first = answer.wholeBody { answer.body.append(first.readable) }
      answer.wholeBody = nil
      answer.body.append(bytes)
    }
    if max(bytes.count, answer.body.count) > request.maxResponseBytes { tooLarge(request) }
  }

  private func stageBody(_ request: RequestState, _ bytes: UnsafeRawBufferPointer) -> Int {
    if let stream = request.answer.sse { return stageSSE(request, stream, bytes) }
    return stageData(request, bytes)
  }

  private func tooLarge(_ request: RequestState) {
    request.failureMessage =
      "the body is larger than max_response_bytes (\(request.maxResponseBytes)); raise it, or stream the answer"
    giveUp(request, .tooLarge)
  }

  /// Ends the attempt from our side while its answer is still coming.
  func giveUp(_ request: RequestState, _ failure: Failure) {
    request.connection?.session?.abort(request)
    finished(request, Outcome(failure: failure), reusable: false)
  }

  func finished(_ request: RequestState, _ outcome: Outcome, reusable: Bool) {
    guard let attempt = request.attempt else { return }
    request.answer.isComplete = outcome.failure == nil
    tell(.finished(attempt, outcome, reusable: reusable))
  }

  // MARK: Out

  /// The core has ruled that no retry follows: the head may go out, and what has come of the body.
  func deliver(_ request: RequestState) {
    let answer = request.answer
    answer.delivery = .delivering
    guard request.isStreamed else { return }
    stageHead(request)
    if request.flags.contains(.sse), HeaderBlock.isEventStream(answer.headers) { answer.sse = SSEStream() }
    if answer.body.count > 0 {
      let credit = stageBody(request, answer.body.readable)
      if credit > 0 { request.connection?.session?.credit(request, credit) }
      answer.body.removeAll()
    }
  }

  func discard(_ request: RequestState) {
    request.answer.delivery = .discarded
    request.answer.body.removeAll()
    request.answer.wholeBody = nil
  }

  func complete(_ id: RequestID, _ completion: Completion) {
    guard let request = requests[id.slot], request.id == id else { return }
    requests[id.slot] = nil
    request.timings.done = microseconds(since: request)
    noteLatencies(request)
    stageDone(request, completion)
    request.attempt = nil
    request.connection = nil
    completed.append(id)
    guard let port = request.port else { return }
    port.live -= 1
    if port.live == 0 { livePorts -= 1 }
  }

  private func noteLatencies(_ request: RequestState) {
    guard let origin = origins[Int(request.origin)] else { return }
    let timings = request.timings
    origin.latencies.total.add(timings.done)
    if timings.admitted > 0 { origin.latencies.admitted.add(timings.admitted) }
    if timings.firstByte > 0 { origin.latencies.firstByte.add(timings.firstByte) }
  }

  /// Pieces of an upload have come.
  func written(_ id: RequestID) {
    guard let request = requests[id.slot], request.id == id, let connection = request.connection else { return }
    if request.isUploadWaiting {
      request.isUploadWaiting = false
      // The clock starts with what came, not with the first byte of it that the server takes.
      progressed(request, .wrote)
    }
    connection.session?.bodyArrived(request)
  }

  /// All that came of an upload was sent, and more is to come.
  func uploadWaits(_ request: RequestState) {
    request.isUploadWaiting = true
    progressed(request, .waitingForApplication)
  }

  /// A session has taken bytes of an upload: they cannot be sent again.
  func uploadTaken(_ request: RequestState, _ taken: Upload.Taken) {
    if taken.count > 0, !request.isBodyConsumed {
      request.isBodyConsumed = true
      tell(.bodyConsumed(request.id))
    }
    if taken.isWritable { stageWritable(request) }
  }
}
