// Whether and when a request is tried again. LLM calls cost money: without asking only what the server provably did
// not act on; never once a part of the answer was delivered or a part of an upload is gone.
extension PoolStateMachine {
  /// An attempt, or a dial that the request counted on, has failed; the request is on no connection.
  mutating func attemptFailed(_ slot: Int, _ failure: Failure, unseen: Bool) {
    if !unseen { requests[slot].wasSeen = true }
    // Its answer was to be dropped anyway.
    if requests[slot].isDiscarding { return backOff(slot, until: requests[slot].retryAt) }
    if unseen, isFreeToResend(slot, failure) { return resendFreely(slot) }
    guard mayRetry(slot, failure, unseen: unseen) else { return complete(slot, failure) }
    retry(slot, failure, unseen: unseen)
  }

  /// The connection was gone before the engine sent anything: no attempt in any server's eyes.
  mutating func attemptUnsent(_ slot: Int) {
    if requests[slot].freeResends < PoolStateMachine.freeResendLimit { return resendFreely(slot) }
    attemptFailed(slot, .write, unseen: true)
  }

  static var freeResendLimit: UInt8 { 3 }

  private mutating func resendFreely(_ slot: Int) {
    requests[slot].freeResends += 1
    requeue(slot)
  }

  /// More was sent than a connection allowed whose SETTINGS had not come: that is our doing and costs no retry.
  private func isFreeToResend(_ slot: Int, _ failure: Failure) -> Bool {
    failure == .refused && requests[slot].sentBeforeSettings && isReplayable(slot)
      && requests[slot].freeResends < PoolStateMachine.freeResendLimit
  }

  private func isReplayable(_ slot: Int) -> Bool {
    (!requests[slot].isDelivered || isMutant(.retryDelivered)) && !requests[slot].bodyConsumed
      && !requests[slot].options.flags.contains(.noRetry) && closeDeadline == nil
  }

  private mutating func mayRetry(_ slot: Int, _ failure: Failure, unseen: Bool) -> Bool {
    let limit = maxRetries(slot) + (isMutant(.retryTooMany) ? 1 : 0)
    guard isReplayable(slot), requests[slot].retries < limit else { return false }
    switch failure {
    case .refused, .connect, .read, .write, .protocolViolation:
      guard unseen || isMutant(.retrySeen) || requests[slot].options.flags.contains(.retrySent) else { return false }
    case .firstByteTimeout, .readTimeout, .writeTimeout:
      guard requests[slot].options.flags.contains(.retrySent) else { return false }
    default: return false
    }
    // What nobody has acted on adds no load to a server; all else must not amplify an outage.
    return (unseen && failure != .connect) || retryBudget.take(now)
  }

  private func maxRetries(_ slot: Int) -> Int {
    let own = requests[slot].options.maxRetries
    return own == 0 ? options.maxRetries : Int(own)
  }

  private func retryAfterMax(_ slot: Int) -> Nanoseconds {
    let own = requests[slot].options.retryAfterMax
    return own == RequestOptions.asPool ? options.retryAfterMax : own
  }

  /// The head of an answer is here: it goes out, or the request is tried again because of its status.
  mutating func answered(_ slot: Int, _ status: Int, _ advice: RetryAdvice) {
    requests[slot].wasSeen = true
    requests[slot].hasProgress = true
    if let delay = statusRetryDelay(slot, status, advice) {
      requests[slot].isDiscarding = true
      requests[slot].retryAt = now + delay
      requests[slot].retries += 1
      noteRetry(slot, nil, status, delay)
      count(requests[slot].origin) { $0.retries += 1 }
      actions.append(.discard(requests[slot].attempt))
      return arm(slot)
    }
    if requests[slot].options.flags.contains(.streamed) { requests[slot].isDelivered = true }
    actions.append(.deliver(requests[slot].attempt))
  }

  /// RFC 9110, section 10.2.3 (Retry-After), and what the vendors' SDKs take for temporary.
  private mutating func statusRetryDelay(_ slot: Int, _ status: Int, _ advice: RetryAdvice) -> Nanoseconds? {
    guard requests[slot].options.flags.contains(.retryStatus), isReplayable(slot),
      requests[slot].retries < maxRetries(slot)
    else { return nil }
    let isTemporary = status == 408 || status == 409 || status == 429 || status >= 500
    guard status >= 400, advice.shouldRetry ?? isTemporary else { return nil }
    let delay = advice.retryAfter.map { max(0, $0) } ?? backoff(Int(requests[slot].retries) + 1)
    // Nobody is helped by a request that sleeps past its own end: better the answer in hand.
    guard advice.retryAfter == nil || delay <= retryAfterMax(slot),
      now + delay < requests[slot].options.submittedAt + requests[slot].options.timeouts.total
    else { return nil }
    return retryBudget.take(now) ? delay : nil
  }

  /// Full jitter: anything between nothing and the doubled delay, so that clients do not come back together.
  mutating func backoff(_ failures: Int) -> Nanoseconds {
    let doubled = options.retryBackoff.multipliedReportingOverflow(by: 1 << min(failures - 1, 30))
    let limit = min(options.retryBackoffMax, doubled.overflow ? .max : doubled.partialValue)
    return limit <= 0 ? 0 : Int64.random(in: 0...limit, using: &random)
  }

  private mutating func retry(_ slot: Int, _ failure: Failure, unseen: Bool) {
    let delay = backoff(Int(requests[slot].retries) + 1)
    requests[slot].retries += 1
    count(requests[slot].origin) { $0.retries += 1 }
    // A request that was refused goes on elsewhere at once; where nobody answered, time must pass.
    let isImmediate = unseen && failure != .connect && requests[slot].retries == 1
    noteRetry(slot, failure, 0, isImmediate ? 0 : delay)
    if isImmediate { requeue(slot) } else { backOff(slot, until: now + delay) }
  }

  private mutating func noteRetry(_ slot: Int, _ failure: Failure?, _ status: Int, _ delay: Nanoseconds) {
    guard watched.contains(.retry) else { return }
    let origin = OriginID(slot: requests[slot].origin)
    actions.append(
      .notice(.retry(requests[slot].id, origin, failure: failure, httpStatus: status, delay: delay)))
  }

  mutating func backOff(_ slot: Int, until instant: Instant) {
    let origin = requests[slot].origin
    leaveState(slot)
    count(origin) { $0.backingOff += 1 }
    requests[slot].state = .backingOff
    requests[slot].isDiscarding = false
    requests[slot].retryAt = instant
    arm(slot)
  }

  /// Back to its old place in the queue. The caller serves the origin afterwards.
  mutating func requeue(_ slot: Int) {
    let origin = requests[slot].origin
    leaveState(slot)
    count(origin) { $0.pending += 1 }
    requests[slot].state = .pending
    waiting.append(Int32(slot), &requestLinks)
    requests[slot].isDiscarding = false
    requests[slot].isAged = false
    requests[slot].stamp = now
    requests[slot].queuedAt = now
    requests[slot].poolTimeUsed = 0
    enqueue(slot)
    arm(slot)
  }
}

/// Retries may add 20 % to the recent requests, and 3 a second, so that an outage is not amplified.
struct RetryBudget: Sendable {
  private static let unit = 1_000_000
  private static let capacity = 100 * unit
  private var tokens = 10 * unit
  private var refilledAt: Instant?

  mutating func requestArrived() { tokens = min(RetryBudget.capacity, tokens + RetryBudget.unit / 5) }

  mutating func take(_ now: Instant) -> Bool {
    if let refilledAt {
      // 3 units a second: 3 millionths of a unit's million each microsecond.
      let microseconds = min((now - refilledAt) / 1_000, 100_000_000)
      tokens = min(RetryBudget.capacity, tokens + Int(microseconds) * 3)
    }
    refilledAt = now
    guard tokens >= RetryBudget.unit else { return false }
    tokens -= RetryBudget.unit
    return true
  }
}
