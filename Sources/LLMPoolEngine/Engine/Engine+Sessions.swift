import CLLMPoolSystem
import LLMPoolCore
import LLMPoolWire

// What the sessions tell: see SessionHost.
extension Engine: SessionHost {
  func progressed(_ request: RequestState, _ phase: Phase) {
    if phase == .sent { endSending(request) }
    if let attempt = request.attempt.id { tell(.progressed(attempt, phase)) }
  }

  func sent(_ request: RequestState) {
    request.attempt.timings.sent = microseconds(since: request)
    progressed(request, .sent)
  }

  func received(_ request: RequestState) {
    if request.attempt.timings.firstByte == 0 { request.attempt.timings.firstByte = microseconds(since: request) }
    progressed(request, .received)
  }

  func answerHead(
    _ request: RequestState, status: UInt16, version: AnswerVersion, reason: UnsafeRawBufferPointer,
    headers: UnsafeRawBufferPointer?
  ) {
    guard let attempt = request.attempt.id else { return }
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
    let minds = request.flags.contains(.retryStatus) || request.budget.exists || request.isHedged
    if minds, status >= 400 { advice = retryAdvice(answer.headers) }
    if request.budget.exists { noteLimits(attempt, answer.headers) }
    if minds, status == 429, advice.shouldRetry == nil, SpentQuota.mayBeNamed(behind: answer.headers) {
      answer.unheardAdvice = advice
      unheardRefusals.append(UnheardRefusal(request: request, answer: answer, due: now + Engine.refusalPatience))
      return
    }
    tell(.answered(attempt, httpStatus: Int(status), advice))
    if request.hasEventClock { watchEvents(request, attempt) }
  }

  func answerBody(_ request: RequestState, _ bytes: UnsafeRawBufferPointer, isWhole: Bool) -> Int {
    guard request.attempt.id != nil, bytes.count > 0 else { return bytes.count }
    request.attempt.bodyReceived += bytes.count
    let answer = request.answer
    if answer.delivery == .discarded { return bytes.count }
    if answer.watch != nil { noteEvents(request, bytes) }
    // With server-sent events the first event counts, wherever it ends.
    if request.attempt.timings.firstData == 0, !request.flags.contains(.sse) {
      request.attempt.timings.firstData = microseconds(since: request)
    }
    guard request.isStreamed else {
      collectBody(request, bytes, isWhole: isWhole)
      hearRefusal(request)
      return bytes.count
    }
    if answer.delivery == .delivering, answer.waiting.isEmpty { return stageBody(request, bytes) }
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
    let answer = request.answer
    guard answer.status == 200 else { return }
    let kind = HeaderBlock.kind(answer.headers)
    guard kind == .events else {
      // Whoever reads everything as a stream, as the adapters do, reads documents so, too.
      let isStream = request.flags.contains(.sse) || (request.isStreamed && kind != .document)
      return isStream ? noteUnwatched(request, isEncoded: kind == .encodedEvents) : ()
    }
    answer.watch = WatchedEvents(events: EventWatch(quietNames: quietEvents), headAt: now)
    tell(.progressed(attempt, .beganEvents))
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
    if let attempt = request.attempt.id { tell(.progressed(attempt, .receivedEvent)) }
  }

  /// A body that does not come keeps no refusal from the core for longer than this.
  private static let refusalPatience: Int64 = 1_000_000_000

  /// Tells the core of those whose body has taken too long.
  func hearRefusals() {
    while let first = unheardRefusals.first {
      let isHeard = first.answer.unheardAdvice == nil || first.request.answer !== first.answer
      guard isHeard || first.due <= now else { return }
      unheardRefusals.removeFirst()
      if !isHeard { hearRefusal(first.request, isOver: true) }
    }
  }

  /// The core is told of a refusal when its body shows that it is for good, or when so much of the body is here that
  /// it does not.
  private func hearRefusal(_ request: RequestState, isOver: Bool = false) {
    let answer = request.answer
    guard var advice = answer.unheardAdvice, let attempt = request.attempt.id else { return }
    let isForGood = SpentQuota.isNamed(in: answer.heldBody)
    guard isForGood || isOver || answer.heldBody.count >= SpentQuota.reach else { return }
    answer.unheardAdvice = nil
    if isForGood { advice.shouldRetry = false }
    tell(.answered(attempt, httpStatus: Int(answer.status), advice))
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
    let answer = request.answer
    let sum = answer.body.count + (answer.wholeBody?.bytes.count ?? 0) + bytes.count
    guard sum <= request.maxResponseBytes else { return tooLarge(request) }
    if isWhole, answer.body.count == 0, answer.wholeBody == nil, bytes.count <= Engine.copiedBodyLimit {
      answer.wholeBody = events.place(bytes)
    } else {
      let first = answer.wholeBody?.readable ?? UnsafeRawBufferPointer(start: nil, count: 0)
      guard answer.body.append(first), answer.body.append(bytes) else { return outOfMemory(request, sum) }
      answer.wholeBody = nil
    }
  }
}
