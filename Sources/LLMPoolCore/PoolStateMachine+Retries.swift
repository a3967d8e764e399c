// Whether and when a request is tried again. LLM calls cost money: without asking only what the server provably did
// not act on; never once a part of the answer was delivered or a part of an upload is gone.
extension PoolStateMachine {
  /// An attempt, or a dial that the request counted on, has failed; the request is on no connection. `refusal`: of the
  /// attempt, where there was one.
  mutating func attemptFailed(_ slot: Int, _ failure: Failure, unseen: Bool, _ refusal: Refusal? = nil) {
    if unseen { refund(slot) } else { requests[slot].wasSeen = true }
    if requests[slot].hedging == .sent { return promote(slot) }
    // Its answer was to be dropped anyway.
    if requests[slot].isDiscarding { return backOff(slot, until: requests[slot].retryAt) }
    if unseen, let refusal, isReplayable(slot), PoolStateMachine.isRefusal(failure) {
      return resend(slot, failure, refusal)
    }
    guard mayRetry(slot, failure, unseen: unseen) else { return complete(slot, failure) }
    let isDial = unseen && refusal == nil
    retry(slot, failure, unseen: unseen, attempt: isDial ? 0 : requests[slot].attempts)
  }

  /// The connection was gone before the engine sent anything: no attempt in any server's eyes, so that not even who
  /// wants no retry minds.
  mutating func attemptUnsent(_ slot: Int) {
    refund(slot)
    if requests[slot].hedging == .sent { return promote(slot) }
    resend(slot, .write, .neverSent)
  }

  // MARK: What nobody has acted on

  /// Why an attempt that provably nobody acted on came back.
  enum Refusal {
    /// The connection was ending.
    case ofConnection
    /// The server did not want this one, while the connection goes on.
    case ofStream
    /// More was sent than a connection allowed whose SETTINGS had not come: our doing.
    case beyondLimit
    /// The connection was gone before.
    case neverSent
  }

  func refusal(of slot: Int, on connection: Int) -> Refusal {
    let streams = requests[slot].attempt.streamsBeforeSettings
    if streams > 0, streams > connections[connection].streamsAllowed ?? 0 { return .beyondLimit }
    return connections[connection].isRetiring ? .ofConnection : .ofStream
  }

  private static func isRefusal(_ failure: Failure) -> Bool {
    switch failure {
    case .refused, .read, .write, .protocolViolation: return true
    default: return false
    }
  }

  static var freeResendLimit: UInt8 { 3 }
  /// So often in a row a request is sent again at once.
  static var immediateResends: Int { 2 }
  static var resendBackoffMin: Nanoseconds { .milliseconds(10) }
  /// Where the request has no pool timeout: a server must not keep it going round for ever.
  static var resendPatience: Nanoseconds { .seconds(10) }

  /// What nobody has acted on is sent again without a limit to how often (RFC 9113, section 8.7), until the request has
  /// waited for its pool timeout since it was refused first. From the third time in a row on after a backoff; where
  /// connections end and others succeed meanwhile (servers close after so many requests) it begins anew.
  private mutating func resend(_ slot: Int, _ failure: Failure, _ refusal: Refusal) {
    if isBroken(slot) { return endBroken(slot) }
    if refusal == .beyondLimit, failure == .refused, requests[slot].freeResends < PoolStateMachine.freeResendLimit {
      requests[slot].freeResends += 1
      return requeue(slot)
    }
    let delay = delayOfResend(slot, refusal)
    let isExhausted = isMutant(.refusalCounted) && requests[slot].refusals > options.maxRetries
    guard !isExhausted, isInTime(slot, delay) else { return complete(slot, failure) }
    if refusal != .neverSent {
      count(requests[slot].origin) { $0.retries += 1 }
      noteRetry(slot, failure, 0, delay, attempt: requests[slot].attempts)
    }
    if delay == 0 { requeue(slot) } else { backOff(slot, until: now + delay) }
  }

  private mutating func delayOfResend(_ slot: Int, _ refusal: Refusal) -> Nanoseconds {
    let successes = origins[Int(requests[slot].origin)].counters.succeeded
    if requests[slot].refusedAt == .never { requests[slot].refusedAt = now }
    if refusal != .ofStream, requests[slot].successesBefore != successes { requests[slot].refusals = 0 }
    requests[slot].successesBefore = successes
    requests[slot].refusals += 1
    let times = requests[slot].refusals - PoolStateMachine.immediateResends
    guard times > 0, !isMutant(.refusalHammered) else { return 0 }
    return max(backoff(times), PoolStateMachine.resendBackoffMin)
  }

  private func isInTime(_ slot: Int, _ delay: Nanoseconds) -> Bool {
    let options = requests[slot].options
    let patience = options.timeouts.pool == .max ? PoolStateMachine.resendPatience : options.timeouts.pool
    if isMutant(.refusalForEver) { return true }
    let end = min(requests[slot].refusedAt + patience, options.submittedAt + options.timeouts.total)
    return now + delay < end
  }

  // MARK: Retries

  func isReplayable(_ slot: Int) -> Bool {
    (!requests[slot].isDelivered || isMutant(.retryDelivered)) && !requests[slot].bodyConsumed
      && !requests[slot].options.flags.contains(.noRetry) && closeDeadline == nil
  }

  private mutating func mayRetry(_ slot: Int, _ failure: Failure, unseen: Bool) -> Bool {
    if origins[Int(requests[slot].origin)].breaker.isOpen, !isMutant(.breakerRetries) { return false }
    if failure == .connect, wantsNoRedial(slot), !isMutant(.redialUnasked) { return false }
    let limit = maxRetries(slot) + (isMutant(.retryTooMany) ? 1 : 0)
    guard isReplayable(slot), requests[slot].retries < limit else { return false }
    switch failure {
    case .refused, .connect, .read, .write, .protocolViolation:
      guard unseen || isMutant(.retrySeen) || requests[slot].options.flags.contains(.retrySent) else { return false }
    case .firstByteTimeout, .readTimeout, .writeTimeout, .eventTimeout:
      guard requests[slot].options.flags.contains(.retrySent) else { return false }
    default: return false
    }
    return retryBudget.take(now)
  }

  private func maxRetries(_ slot: Int) -> Int {
    let own = requests[slot].options.maxRetries
    return own == 0 ? options.maxRetries : Int(own)
  }

  private func retryAfterMax(_ slot: Int) -> Nanoseconds {
    RequestOptions.resolved(requests[slot].options.retryAfterMax, with: options.retryAfterMax)
  }

  /// The head of an answer is here: it goes out, or the request is tried again because of its status.
  mutating func answered(_ slot: Int, _ status: Int, _ advice: RetryAdvice) {
    requests[slot].wasSeen = true
    requests[slot].attempt.hasProgress = true
    forgetRefusals(slot)
    headOfBudget(slot, status, advice)
    countAnswer(slot, status)
    if requests[slot].hedging != .none, yieldsToHedge(slot, status, advice) { return }
    if let delay = statusRetryDelay(slot, status, advice) {
      requests[slot].isDiscarding = true
      requests[slot].retryAt = now + delay
      requests[slot].retries += 1
      noteRetry(slot, nil, status, delay, attempt: requests[slot].attempts)
      count(requests[slot].origin) { $0.retries += 1 }
      actions.append(.discard(requests[slot].attemptID))
      return arm(slot)
    }
    if requests[slot].hedging == .promoted { count(requests[slot].origin) { $0.hedgesWon += 1 } }
    if requests[slot].options.flags.contains(.streamed) { requests[slot].isDelivered = true }
    actions.append(.deliver(requests[slot].attemptID))
  }

  /// What the vendors' SDKs take for temporary, unless the answer says what it is.
  func isTemporary(_ status: Int, _ advice: RetryAdvice) -> Bool {
    status >= 400 && (advice.shouldRetry ?? (status == 408 || status == 409 || status == 429 || status >= 500))
  }

  /// Retry-After: RFC 9110, section 10.2.3.
  private mutating func statusRetryDelay(_ slot: Int, _ status: Int, _ advice: RetryAdvice) -> Nanoseconds? {
    guard requests[slot].options.flags.contains(.retryStatus), isReplayable(slot),
      requests[slot].retries < maxRetries(slot), !origins[Int(requests[slot].origin)].breaker.isOpen
    else { return nil }
    guard isTemporary(status, advice) else { return nil }
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

  private mutating func retry(_ slot: Int, _ failure: Failure, unseen: Bool, attempt: UInt32) {
    let delay = backoff(Int(requests[slot].retries) + 1)
    // It would sleep past its end and be told of that, not of what went wrong.
    let options = requests[slot].options
    let isTooLong =
      now + delay >= options.submittedAt + options.timeouts.total || (unseen && delay >= options.timeouts.pool)
    if isTooLong, !isMutant(.backoffBeyondEnd) { return complete(slot, failure) }
    requests[slot].retries += 1
    forgetRefusals(slot)
    count(requests[slot].origin) { $0.retries += 1 }
    noteRetry(slot, failure, 0, delay, attempt: attempt)
    backOff(slot, until: now + delay)
  }

  /// Something else happened to the request: what is refused from now on is refused for the first time.
  private mutating func forgetRefusals(_ slot: Int) {
    requests[slot].refusals = 0
    requests[slot].refusedAt = .never
  }

  /// `attempt`: that failed; 0: a dial did, whatever was sent before.
  private mutating func noteRetry(
    _ slot: Int, _ failure: Failure?, _ status: Int, _ delay: Nanoseconds, attempt: UInt32
  ) {
    countRetry(requests[slot].origin, failure, status)
    guard watched.contains(.retry) else { return }
    let origin = OriginID(slot: requests[slot].origin)
    actions.append(
      .notice(
        .retry(
          requests[slot].id, origin, failure: failure, httpStatus: status, delay: delay, attempt: attempt)))
  }

  mutating func backOff(_ slot: Int, until instant: Instant) {
    if isBroken(slot) { return endBroken(slot) }
    let origin = requests[slot].origin
    leaveState(slot)
    count(origin) { $0.backingOff += 1 }
    requests[slot].state = .backingOff
    requests[slot].isDiscarding = false
    requests[slot].retryAt = instant
    arm(slot)
  }

  /// Back to its old place in the queue, or to its budget. The caller serves the origin afterwards.
  mutating func requeue(_ slot: Int) {
    if isBroken(slot) { return endBroken(slot) }
    let origin = requests[slot].origin
    leaveState(slot)
    count(origin) { $0.pending += 1 }
    requests[slot].state = .pending
    requests[slot].isDiscarding = false
    requests[slot].isAged = false
    requests[slot].waitsSince = now
    requests[slot].queuedAt = now
    requests[slot].poolTimeUsed = requests[slot].refusedAt == .never ? 0 : now - requests[slot].refusedAt
    if requests[slot].options.budget.exists { return enterBudgetAgain(slot) }
    waiting.append(Int32(slot), &requestLinks)
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
