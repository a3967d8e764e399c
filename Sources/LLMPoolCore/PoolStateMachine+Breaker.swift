// A server that is down costs one timeout, and not one for each call. Closed, a breaker counts the failures in a row
// that brought no HTTP answer. Open, it ends each call at once with the last of them, and tries meanwhile whether the
// server is back: where no connection could be made by dials of its own, of which no caller hears; where connections
// can be made, and bring no answer, by letting one request go out. Whatever is answered closes it. A trial that is
// given up goes on, and its answer closes the breaker like any other.
extension PoolStateMachine {
  /// Nobody dials for callers who have gone: after so long without one the next call is the probe.
  static var breakerInterest: Nanoseconds { .seconds(60) }
  /// Between two probes at least.
  static var probePauseMin: Nanoseconds { .milliseconds(50) }

  public func breaker(of origin: OriginID) -> BreakerView? {
    let slot = Int(origin.slot)
    guard slot < origins.count, origins[slot].breaker.isOpen else { return nil }
    let breaker = origins[slot].breaker
    return BreakerView(
      openedAt: breaker.openedAt, failures: breaker.failures, cause: breaker.cause, status: breaker.status,
      failedAt: breaker.failedAt)
  }

  // MARK: Counting

  /// A dial has failed. Where something is open the server is not down.
  mutating func countFailedDial(_ origin: Int32, _ failure: Failure) {
    guard options.breakerFailures > 0, origins[Int(origin)].usable == 0 else { return }
    countFailure(origin, failure, isOfDial: true)
  }

  /// An attempt has ended without an answer. What was lost together counts once; a stream that the server has reset
  /// while the connection goes on is a word of the server's, and a connection that had carried others may have been
  /// closed before the request came.
  mutating func countFailedAttempt(_ slot: Int, on connection: Int, _ failure: Failure) {
    guard options.breakerFailures > 0, !requests[slot].attempt.hasHead, isVerdict(slot) else { return }
    if connections[connection].isMultiplexed {
      guard connections[connection].isRetiring else { return }
    } else if failure == .read || failure == .write {
      guard connections[connection].served <= 1 || requests[slot].attempt.hasAnswer else { return }
    }
    let origin = Int(requests[slot].origin)
    if let before = origins[origin].breaker.lossesBefore {
      guard Int32(bitPattern: requests[slot].attempt.sequence &- before) >= 0 else { return }
    }
    origins[origin].breaker.lossesBefore = nextSequence
    countFailure(Int32(origin), failure)
  }

  /// A clock of an attempt has run out. Who is less patient than the pool says nothing about the server, and a server
  /// that answers others meanwhile is not down.
  mutating func countTimeout(_ slot: Int, _ failure: Failure) {
    guard options.breakerFailures > 0, !requests[slot].attempt.hasHead, isVerdict(slot) else { return }
    let own = requests[slot].options.timeouts
    let since = requests[slot].attempt.clockSince
    let isPools =
      switch failure {
      case .writeTimeout: own.write >= options.timeouts.write
      case .firstByteTimeout: own.firstByte >= options.timeouts.firstByte
      case .readTimeout: own.read >= options.timeouts.read
      // It ran while the request waited, too: the server must have had half of it at least.
      case .totalTimeout:
        own.total >= options.timeouts.total && requests[slot].attempt.isSent
          && now - since >= options.timeouts.total / 2
      default: false
      }
    let origin = requests[slot].origin
    guard isPools, origins[Int(origin)].heardAt <= since else { return }
    countFailure(origin, failure)
  }

  /// The head of an answer.
  mutating func countAnswer(_ slot: Int, _ status: Int) {
    requests[slot].attempt.hasHead = true
    let origin = requests[slot].origin
    if options.breakerFailures > 0, options.breakerStatuses.contains(status) {
      guard isVerdict(slot) else { return }
      countFailure(origin, .refused, status: status)
      return tellBroken(origin)
    }
    guard origins[Int(origin)].breaker.failures > 0, !isMutant(.breakerIgnoresAnswers) else { return }
    if origins[Int(origin)].breaker.isOpen { closeBreaker(origin) }
    origins[Int(origin)].breaker.failures = 0
  }

  /// While it is open only what goes out as a probe counts: what was sent before has nothing new to tell.
  private func isVerdict(_ slot: Int) -> Bool {
    let breaker = origins[Int(requests[slot].origin)].breaker
    return !breaker.isOpen || breaker.trial == requests[slot].id
  }

  private mutating func countFailure(_ origin: Int32, _ failure: Failure, isOfDial: Bool = false, status: Int = 0) {
    let slot = Int(origin)
    origins[slot].breaker.failures += 1
    origins[slot].breaker.cause = failure
    origins[slot].breaker.status = status
    origins[slot].breaker.failedAt = now
    origins[slot].breaker.isOfDial = isOfDial
    if origins[slot].breaker.isOpen {
      origins[slot].breaker.probes += 1
    } else {
      guard origins[slot].breaker.failures >= options.breakerFailures else { return }
      openBreaker(origin)
    }
    // As between dials.
    origins[slot].breaker.probeAt =
      now + max(PoolStateMachine.probePauseMin, redialPause(origins[slot].breaker.probes))
    armOrigin(origin)
  }

  // MARK: Open and closed

  private mutating func openBreaker(_ origin: Int32) {
    let slot = Int(origin)
    origins[slot].breaker.openedAt = now
    origins[slot].breaker.calledAt = now
    origins[slot].breaker.probes = 1
    origins[slot].breaker.isUntold = true
    count(origin) { $0.breakersOpen += 1 }
    guard watched.contains(.breakerOpened) else { return }
    let breaker = origins[slot].breaker
    actions.append(
      .notice(.breakerOpened(OriginID(slot: origin), breaker.cause, breaker.status, failures: breaker.failures)))
  }

  /// One failure more opens it again, until something is answered.
  mutating func closeBreaker(_ origin: Int32, isBack: Bool = true) {
    let slot = Int(origin)
    guard origins[slot].breaker.isOpen else { return }
    let openFor = now - origins[slot].breaker.openedAt
    origins[slot].breaker = Breaker()
    origins[slot].breaker.lossesBefore = nextSequence
    origins[slot].breaker.failures = max(0, options.breakerFailures - 1)
    count(origin) { $0.breakersOpen -= 1 }
    guard watched.contains(.breakerClosed) else { return }
    actions.append(.notice(.breakerClosed(OriginID(slot: origin), after: openFor, isBack: isBack)))
  }

  /// Other options, or nobody has called for long: what was counted is void.
  mutating func resetBreaker(_ origin: Int32) {
    closeBreaker(origin, isBack: false)
    origins[Int(origin)].breaker = Breaker()
  }

  /// A connection was made.
  mutating func breakerDialed(_ origin: Int32) {
    if origins[Int(origin)].breaker.isOpen, origins[Int(origin)].breaker.isOfDial { closeBreaker(origin) }
  }

  /// Everybody who waits at an origin whose breaker has opened is told, wherever he waits: it happens seldom, and is
  /// worth a look at all requests.
  mutating func tellBroken(_ origin: Int32) {
    guard origins[Int(origin)].breaker.isUntold else { return }
    origins[Int(origin)].breaker.isUntold = false
    guard !isMutant(.breakerUntold) else { return }
    let told = requests.indices.filter { slot in
      requests[slot].origin == origin && (requests[slot].state == .pending || requests[slot].state == .backingOff)
    }
    for slot in told.sorted(by: { requests[$0].order < requests[$1].order }) where isBroken(slot) { endBroken(slot) }
  }

  mutating func endBroken(_ slot: Int) {
    let origin = requests[slot].origin
    count(origin) { $0.breakerRejections += 1 }
    complete(slot, origins[Int(origin)].breaker.cause, isBroken: true)
  }

  // MARK: Calls while it is open

  /// Must the request end, as its origin's breaker is open and it is not the one that is let through?
  func isBroken(_ slot: Int) -> Bool {
    let breaker = origins[Int(requests[slot].origin)].breaker
    return breaker.isOpen && breaker.trial != requests[slot].id
  }

  /// A new request to an origin whose breaker is open: does it go out, to see whether the server is back?
  mutating func isTrial(_ slot: Int) -> Bool {
    let origin = requests[slot].origin
    giveTrialUp(origin)
    let breaker = origins[Int(origin)].breaker
    let dials = breaker.isOfDial && !breaker.isHindered && now - breaker.calledAt < PoolStateMachine.breakerInterest
    origins[Int(origin)].breaker.calledAt = now
    let isDue = breaker.probeAt <= now || breaker.isHindered
    let mayTry = breaker.trial == nil && isDue && !dials && canTry(slot)
    guard mayTry || isMutant(.breakerManyTrials) else {
      armOrigin(origin)
      return false
    }
    origins[Int(origin)].breaker.trial = requests[slot].id
    origins[Int(origin)].breaker.triedAt = now
    return true
  }

  /// A probe waits neither for its budget nor for an application that writes.
  private func canTry(_ slot: Int) -> Bool {
    let options = requests[slot].options
    guard !options.flags.contains(.upload) else { return false }
    return !options.budget.exists || hasRoomNow(Int(options.budget.slot), uses[slot].cost)
  }

  /// It may be more patient than the pool is: another finds out then.
  private mutating func giveTrialUp(_ origin: Int32) {
    let breaker = origins[Int(origin)].breaker
    guard let slot = breaker.trial.flatMap({ live($0) }), requests[slot].state == .active else { return }
    let patience = options.timeouts.read == .max ? PoolStateMachine.breakerInterest : options.timeouts.read
    if now - breaker.triedAt >= patience { origins[Int(origin)].breaker.trial = nil }
  }

  /// The request is over. Without a verdict, as it was cancelled or less patient than the pool, another may try.
  mutating func endTrial(_ slot: Int) {
    let origin = requests[slot].origin
    guard origins[Int(origin)].breaker.trial == requests[slot].id else { return }
    origins[Int(origin)].breaker.trial = nil
    armOrigin(origin)
  }

  // MARK: Dials of its own

  /// When it dials next; `never`: it does not.
  func breakerDialsAt(_ origin: Int) -> Instant {
    let breaker = origins[origin].breaker
    guard breaker.isOpen, breaker.isOfDial, breaker.trial == nil, origins[origin].dialing == 0, closeDeadline == nil,
      breaker.probeAt - breaker.calledAt < PoolStateMachine.breakerInterest, !isMutant(.breakerForgetsToDial)
    else { return .never }
    return breaker.probeAt
  }

  /// It takes no connection from others: where there is no place a call waits for one in turn.
  mutating func dialForBreaker(_ origin: Int32) {
    origins[Int(origin)].breaker.isHindered = !mayHoldMore(origin) || !hasPlace
    guard !origins[Int(origin)].breaker.isHindered, !hasNoAddress(origin) else {
      origins[Int(origin)].breaker.probeAt = now + PoolStateMachine.redialBackoffMax
      return
    }
    startDial(origin, timeout: options.timeouts.connect)
  }
}
