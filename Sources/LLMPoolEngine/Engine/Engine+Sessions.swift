import CLLMPoolSystem
import LLMPoolCore
import LLMPoolWire

// What the sessions tell: see SessionHost.
extension Engine: SessionHost {
  func progressed(_ request: RequestState, _ phase: Phase) {
    if phase == .sent { endSending(request) }
    if let attempt = request.attempt.id { tell(attempt, phase) }
  }

  func sent(_ request: RequestState) {
    request.attempt.timings.sent = microseconds(since: request)
    progressed(request, .sent)
  }

  func received(_ request: RequestState) {
    if request.attempt.timings.firstByte == 0 { request.attempt.timings.firstByte = microseconds(since: request) }
    // Once a turn, whose time its clock is set to.
    guard request.attempt.heardAt != now else { return }
    request.attempt.heardAt = now
    progressed(request, .received)
  }

  func answerHead(
    _ request: RequestState, status: UInt16, version: AnswerVersion, reason: UnsafeRawBufferPointer,
    headers: UnsafeRawBufferPointer?
  ) {
    guard let attempt = request.attempt.id else { return }
    request.answer.hasHead = true
    request.answer.status = status
    request.answer.version = version.rawValue
    if let headers {
      request.answer.head.reserve(reason.count + headers.count)
      request.answer.head.append(reason)
      request.answer.head.append(headers)
      request.answer.reasonCount = reason.count
    }
    var advice = RetryAdvice.none
    let minds = request.flags.contains(.retryStatus) || request.budget.exists || request.isHedged
    if minds, status >= 400 { advice = retryAdvice(request.answer.headers) }
    if request.budget.exists { noteLimits(attempt, request.answer.headers) }
    if minds, status == 429, advice.shouldRetry == nil, SpentQuota.mayBeNamed(behind: request.answer.headers) {
      request.answer.unheardAdvice = advice
      unheardRefusals.append(UnheardRefusal(request: request, attempt: attempt, due: now + Engine.refusalPatience))
      return
    }
    tell(.answered(attempt, httpStatus: Int(status), advice))
    if request.hasEventClock { watchEvents(request, attempt) }
  }

  func answerBody(_ request: RequestState, _ bytes: UnsafeRawBufferPointer, isWhole: Bool) -> Int {
    guard request.attempt.id != nil, bytes.count > 0 else { return bytes.count }
    request.attempt.bodyReceived += bytes.count
    if request.answer.delivery == .discarded { return bytes.count }
    if request.answer.watch != nil { noteEvents(request, bytes) }
    // With server-sent events the first event counts, wherever it ends.
    if request.attempt.timings.firstData == 0, !request.flags.contains(.sse) {
      request.attempt.timings.firstData = microseconds(since: request)
    }
    guard request.isStreamed else {
      collectBody(request, bytes, isWhole: isWhole)
      hearRefusal(request)
      return bytes.count
    }
    if request.answer.delivery == .delivering, request.answer.waiting.isEmpty { return stageBody(request, bytes) }
    keepWaiting(request, bytes)
    hearRefusal(request)
    return 0
  }

  func finished(_ request: RequestState, _ outcome: Outcome, reusable: Bool) {
    guard let attempt = request.attempt.id else { return }
    endSending(request)
    hearRefusal(request, isOver: true)
    request.answer.isComplete = outcome.failure == nil
    tell(.finished(attempt, outcome, reusable: reusable))
  }

  func uploadWaits(_ request: RequestState) {
    request.attempt.isUploadWaiting = true
    progressed(request, .waitingForApplication)
  }

  func uploadTaken(_ request: RequestState, _ taken: Upload.Taken) {
    request.attempt.bodySent += taken.count
    if taken.count > 0, !request.isBodyConsumed {
      request.isBodyConsumed = true
      tell(.bodyConsumed(request.id))
    }
    if taken.isWritable { stageWritable(request) }
  }

  // MARK: What follows from it

  /// Only a stream of events has an event clock. It is a 200, after which no retry follows, so that this is the head
  /// that goes out.
  private func watchEvents(_ request: RequestState, _ attempt: AttemptID) {
    guard request.answer.status == 200 else { return }
    let kind = HeaderBlock.kind(request.answer.headers)
    guard kind == .events else {
      // Whoever reads everything as a stream, as the adapters do, reads documents so, too.
      let isStream = request.flags.contains(.sse) || (request.isStreamed && kind != .document)
      return isStream ? noteUnwatched(request, isEncoded: kind == .encodedEvents) : ()
    }
    request.answer.watch = WatchedEvents(events: EventWatch(quietNames: quietEvents), headAt: now)
    tell(attempt, .beganEvents)
  }

  private func noteUnwatched(_ request: RequestState, isEncoded: Bool) {
    counters.unwatchedStreams += 1
    guard let origin = origins[Int(request.origin)] else { return }
    origin.counters.unwatchedStreams += 1
    noteUnwatchedStream(origin, isEncoded: isEncoded)
  }

  private func noteEvents(_ request: RequestState, _ bytes: UnsafeRawBufferPointer) {
    request.answer.watch?.lastByte = now
    guard request.answer.watch?.events.take(bytes) == true else { return }
    request.answer.watch?.lastEvent = now
    if let attempt = request.attempt.id { tell(attempt, .receivedEvent) }
  }

  /// A body that does not come keeps no refusal from the core for longer than this.
  private static let refusalPatience: Int64 = 1_000_000_000

  /// Tells the core of those whose body has taken too long.
  func hearRefusals() {
    while let first = unheardRefusals.first {
      let isHeard = first.request.answer.unheardAdvice == nil || first.request.attempt.id != first.attempt
      guard isHeard || first.due <= now else { return }
      unheardRefusals.removeFirst()
      if !isHeard { hearRefusal(first.request, isOver: true) }
    }
  }

  /// The core is told of a refusal when its body shows that it is for good, or when so much of the body is here that
  /// it does not.
  private func hearRefusal(_ request: RequestState, isOver: Bool = false) {
    guard var advice = request.answer.unheardAdvice, let attempt = request.attempt.id else { return }
    let isForGood = SpentQuota.isNamed(in: request.answer.heldBody)
    guard isForGood || isOver || request.answer.heldBody.count >= SpentQuota.reach else { return }
    request.answer.unheardAdvice = nil
    if isForGood { advice.shouldRetry = false }
    tell(.answered(attempt, httpStatus: Int(request.answer.status), advice))
  }

  private func retryAdvice(_ headers: UnsafeRawBufferPointer) -> RetryAdvice {
    var advice = RetryAdvice()
    if let wait = RetryAfter.milliseconds(in: headers, now: wallClockSeconds()) {
      advice.retryAfter = .milliseconds(min(wait, UInt64(Int32.max)))
    }
    if let value = HeaderBlock.value(of: "x-should-retry", in: headers) {
      if value.elementsEqual("true".utf8) { advice.shouldRetry = true }
      if value.elementsEqual("false".utf8) { advice.shouldRetry = false }
    }
    return advice
  }

  private func collectBody(_ request: RequestState, _ bytes: UnsafeRawBufferPointer, isWhole: Bool) {
    let sum = request.answer.body.count + (request.answer.wholeBody?.bytes.count ?? 0) + bytes.count
    guard sum <= request.maxResponseBytes else { return tooLarge(request) }
    if isWhole, request.answer.body.count == 0, request.answer.wholeBody == nil, bytes.count <= Engine.copiedBodyLimit {
      request.answer.wholeBody = events.place(bytes)
    } else {
      let first = request.answer.wholeBody?.readable ?? UnsafeRawBufferPointer(start: nil, count: 0)
      guard request.answer.body.append(first), request.answer.body.append(bytes)
      else { return outOfMemory(request, sum) }
      request.answer.wholeBody = nil
    }
  }
}
