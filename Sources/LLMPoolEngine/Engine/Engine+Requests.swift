import CLLMPoolSystem
import LLMPoolCore
import LLMPoolWire

extension Engine {
  // MARK: In

  func admit(_ request: RequestState) {
    let slot = request.id.slot
    while requests.count <= slot { requests.append(nil) }
    requests[slot] = .passUnretained(request)
    let port = port(of: request.queue)
    port.live += 1
    if port.live == 1 {
      livePorts += 1
      if port.queue.rest == 0 { impatientPorts += 1 }
    }
    request.port = consume port
    request.creditThreshold = max(1, streamWindow / 4)
    request.hasEventClock =
      RequestOptions.resolved(request.options.timeouts.event, with: settings.core.timeouts.event) != .max
    request.origin = originID(of: request).slot
    var options = request.options
    let budgetName = request.budgetName
    if budgetName.count > 0 {
      request.budget = budget(named: budgetName)
      options.budget = request.budget
    }
    tell(.submitted(request.id, OriginID(slot: request.origin), options))
    // Where it was closed since the request was submitted, the engine may have been told of that before.
    if request.queue.isClosed { tell(.cancelled(request.id)) }
  }

  /// Microseconds from the submission to now, at least 1.
  func microseconds(since request: RequestState) -> UInt64 { microseconds(at: now, since: request) }

  /// 0 for a time that never was; what happened before the submission counts as its first microsecond.
  func microseconds(at time: Int64, since request: RequestState) -> UInt64 {
    guard time > 0 else { return 0 }
    return UInt64(max(1, (time - request.options.submittedAt.nanoseconds) / 1_000))
  }

  /// The request, if it is not over.
  func live(_ id: RequestID) -> RequestState? {
    // The request of a stop that another process was asked for is none, and here there may never have been one.
    guard id.slot < requests.count, let request = requests[id.slot]?.takeUnretainedValue(), request.id == id else {
      return nil
    }
    return request
  }

  func send(_ request: RequestState, _ attempt: AttemptID, _ connectionID: ConnectionID, _ isReused: Bool) {
    let isFirst = request.attempt.connection == nil
    begin(request, attempt, connectionID, isReused)
    let timings = request.attempt.timings
    if isFirst, timings.admitted > 0 { record(.poolWait, timings.admitted - timings.budgeted, of: request.origin) }
  }

  /// A second attempt of the request.
  func hedge(_ attempt: AttemptID, _ id: RequestID, _ connectionID: ConnectionID, _ isReused: Bool) {
    guard let request = live(id) else { return }
    let twin = RequestState(twinOf: request)
    twins[attempt.slot] = twin
    begin(twin, attempt, connectionID, isReused)
  }

  /// The first attempt is over: its twin is the request from now on.
  func promote(_ attempt: AttemptID) {
    guard let twin = twin(attempt), let first = live(twin.id) else { return }
    twins[attempt.slot] = nil
    endSending(first)
    // Events of the answer keep the twin, and that the first, for its bytes: not the connection that it was on.
    first.forgetSending()
    twin.creditAhead = first.creditAhead
    requests[twin.id.slot] = .passUnretained(twin)
    inbox.withLock { $0.live[twin.id.slot] = twin }
  }

  private func begin(
    _ request: RequestState, _ attempt: AttemptID, _ connectionID: ConnectionID, _ isReused: Bool
  ) {
    // A connection that is gone was reported as closed, and the core has taken the attempt back.
    guard let connection = connection(connectionID), connection.phase == .open, let session = connection.session,
      !isReused || connection.isQuiet()
    else { return }
    assert(!request.attempt.isSending)
    request.begin(attempt, on: connection, isReused: isReused)
    request.attempt.isSending = true
    sending += 1
    noteTimes(request, connection)
    session.begin(request)
  }

  private func noteTimes(_ request: RequestState, _ connection: Connection) {
    request.attempt.timings.admitted = microseconds(since: request)
    request.attempt.timings.budgeted = request.budgeted
    // A connection that is used again, or was warmed before the submission: nobody waited for it.
    let opened = max(connection.connectedAt, connection.securedAt)
    guard !request.attempt.isReused, opened >= request.options.submittedAt.nanoseconds else { return }
    request.attempt.timings.resolved = microseconds(at: connection.resolvedAt, since: request)
    request.attempt.timings.connected = microseconds(at: connection.connectedAt, since: request)
    request.attempt.timings.secured = microseconds(at: connection.securedAt, since: request)
  }

  /// It was sent to its end, or will not be.
  func endSending(_ request: RequestState) {
    guard request.attempt.isSending else { return }
    request.attempt.isSending = false
    sending -= 1
  }

  func abort(_ attempt: AttemptID) {
    guard let request = request(attempt) else { return }
    endSending(request)
    request.attempt.id = nil
    request.attempt.connection?.session?.abort(request)
    if request.isHedged, twins[attempt.slot] === request { twins[attempt.slot] = nil }
  }

  func cancel(_ id: RequestID) {
    tell(.cancelled(id))
    // For the core it is over; what waits of its answer is not wanted any more.
    guard let request = live(id), var ending = request.ending else { return }
    ending.failure = .cancelled
    end(request, ending)
  }

  /// The application gave back bytes of the window, or memory of event records.
  func credit(_ id: RequestID, _ bytes: Int, records: Int) {
    guard let request = live(id) else { return }
    let credited = min(bytes, request.answer.uncredited)
    request.answer.uncredited -= credited
    request.creditAhead += min(bytes - credited, Int.max - request.creditAhead)
    request.answer.recordBytes -= min(records, request.answer.recordBytes)
    stageWaiting(request)
    let isReleased = request.answer.isHeld && !holdsMuch(request.answer)
    if isReleased {
      request.answer.isHeld = false
      if let attempt = request.attempt.id { tell(attempt, .releasedByApplication) }
    }
    if credited > 0 || isReleased { request.attempt.connection?.session?.credit(request, credited) }
  }

  // MARK: The body of an answer

  func keepWaiting(_ request: RequestState, _ bytes: UnsafeRawBufferPointer) {
    request.answer.waiting.append(bytes)
    if request.answer.waiting.isShort { outOfMemory(request, bytes.count) }
  }

  /// Of memory that an answer wants: the request ends, not the process.
  func outOfMemory(_ request: RequestState, _ bytes: Int) {
    request.attempt.failureMessage = "no memory for \(bytes) bytes of the answer"
    giveUp(request, .outOfMemory)
  }

  /// Stages what the application may be left to hold, the rest waits; returns what may be credited at once.
  func stageBody(_ request: RequestState, _ bytes: UnsafeRawBufferPointer) -> Int {
    var rest = bytes
    let credit = stageBody(request, &rest)
    if rest.count > 0, request.answer.delivery == .delivering { keepWaiting(request, rest) }
    return credit
  }

  private func stageBody(_ request: RequestState, _ rest: inout UnsafeRawBufferPointer) -> Int {
    guard let stream = request.answer.sse else { return stageData(request, &rest) }
    let credit = stageSSE(request, stream, &rest)
    recordEvents(request, stream)
    return credit
  }

  /// The application has given events back, or may have the first: what waits goes on.
  private func stageWaiting(_ request: RequestState) {
    guard !request.answer.waiting.isEmpty, request.answer.delivery == .delivering, !isFull(request.answer)
    else { return }
    var waiting = request.answer.waiting.take()
    var rest = waiting.readable
    let credit = stageBody(request, &rest)
    waiting.consume(waiting.count - rest.count)
    // What ended the request meanwhile has ended this, too.
    if waiting.isEmpty || request.answer.delivery != .delivering { waiting.removeAll(keepingCapacity: false) }
    swap(&request.answer.waiting, &waiting)
    if credit > 0 { request.attempt.connection?.session?.credit(request, credit) }
    if request.answer.waiting.isEmpty, let ending = request.ending { end(request, ending) }
  }

  /// The pool is being closed: what waits is the application's to read, however much it holds.
  func endAllWaiting() {
    for request in liveRequests {
      guard let ending = request.ending else { continue }
      request.answer.holdsAll = true
      stageWaiting(request)
      if request.ending != nil { end(request, ending) }
    }
  }

  func tooLarge(_ request: RequestState) {
    let body = request.answer.announcedLength.map { "the body of \($0) bytes" } ?? "the body"
    request.attempt.failureMessage =
      "\(body) is larger than max_response_bytes (\(request.maxResponseBytes)); raise it, or stream the answer"
    giveUp(request, .tooLarge)
  }

  /// Ends the attempt from our side while its answer is still coming.
  func giveUp(_ request: RequestState, _ failure: Failure) {
    request.answer.delivery = .discarded
    if var ending = request.ending {  // for the core it is over
      ending.failure = failure
      return end(request, ending)
    }
    request.attempt.connection?.session?.abort(request)
    finished(request, Outcome(failure: failure), reusable: false)
  }

  // MARK: Out

  /// The core has ruled that no retry follows: the head may go out, and what has come of the body.
  func deliver(_ request: RequestState) {
    request.answer.delivery = .delivering
    guard request.isStreamed else {
      if let length = request.answer.announcedLength, length > UInt64(request.maxResponseBytes) { tooLarge(request) }
      return
    }
    stageHead(request)
    if request.flags.contains(.sse), request.answer.isEventStream {
      let limit = request.maxEventBytes == 0 ? Int(settings.maxEventBytes) : request.maxEventBytes
      request.answer.sse = SSEStream(maximumEventBytes: limit)
    }
    stageWaiting(request)
  }

  func discard(_ request: RequestState) {
    request.answer.delivery = .discarded
    request.answer.body.removeAll()
    request.answer.waiting.removeAll(keepingCapacity: false)
    request.answer.wholeBody = nil
  }

  /// For the core the request is over. Its DONE comes behind all that came of its answer, which may wait.
  func complete(_ request: RequestState, _ completion: Completion) {
    request.attempt.timings.done = microseconds(since: request)
    request.attempt.timings.budgeted = request.budgeted
    record(.total, request.attempt.timings.done, of: request.origin)
    let firstByte = request.attempt.timings.firstByte
    if firstByte > 0 { record(.firstByte, firstByte, of: request.origin) }
    endSending(request)
    request.attempt.id = nil
    // What we end ourselves ends now.
    let failure = completion.failure
    let isServersEnd = failure == nil || failure == .read || failure == .protocolViolation
    guard isServersEnd, request.answer.delivery == .delivering, !request.answer.waiting.isEmpty
    else { return end(request, completion) }
    request.ending = completion
  }

  private func end(_ request: RequestState, _ completion: Completion) {
    let slot = request.id.slot
    requests[slot] = nil
    // One that has ended by itself is left until here.
    if request.isHedged { twins[Int32(truncatingIfNeeded: slot)] = nil }
    request.ending = nil
    guard let port = request.port.take() else { return }
    completed.append(Completed(slot: slot, done: stageDone(request, completion, on: port)))
    request.leave()
    port.live -= 1
    guard port.live == 0 else { return }
    livePorts -= 1
    if port.queue.rest == 0 { impatientPorts -= 1 }
  }

  /// Pieces of an upload have come.
  func written(_ id: RequestID) {
    guard let request = live(id), let connection = request.attempt.connection else { return }
    if request.attempt.isUploadWaiting {
      request.attempt.isUploadWaiting = false
      // The clock starts with what came, not with the first byte of it that the server takes.
      progressed(request, .wrote)
    }
    connection.session?.bodyArrived(request)
  }
}
