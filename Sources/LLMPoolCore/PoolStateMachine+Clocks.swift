// What is due when. Each record has at most one entry in its heap; an entry may be early, then the record is looked
// at and armed again.
extension PoolStateMachine {
  /// A request that waits half of the timeout of its wait comes before every priority; without a timeout after 5 s.
  private func agesAt(_ slot: Int) -> Instant {
    let timeouts = requests[slot].options.timeouts
    let timeout = requests[slot].budgetStep == .waiting ? timeouts.budget : timeouts.pool
    return requests[slot].queuedAt + (timeout == .max ? .seconds(5) : timeout / 2)
  }

  /// The next thing that happens to the request by time alone, and the failure that it is; nil: not a failure.
  func nextClock(_ slot: Int) -> (due: Instant, failure: Failure?) {
    let options = requests[slot].options
    var due = isMutant(.forgottenTotalTimer) ? .never : options.submittedAt + options.timeouts.total
    var failure: Failure? = .totalTimeout
    func earlier(_ instant: Instant, _ what: Failure?) {
      if instant < due {
        due = instant
        failure = what
      }
    }
    switch requests[slot].state {
    case .free: return (.never, nil)
    case .pending:
      if requests[slot].budgetStep == .waiting {
        if !isMutant(.forgottenBudgetTimeout) {
          earlier(requests[slot].waitsSince + options.timeouts.budget, .budgetTimeout)
        }
      } else if requests[slot].isCovered, !isMutant(.poolClockRuns) {
        earlier(requests[slot].waitsSince + options.timeouts.connect, .connectTimeout)
      } else if !isMutant(.forgottenPoolTimer) {
        let left = options.timeouts.pool == .max ? .max : options.timeouts.pool - requests[slot].poolTimeUsed
        earlier(requests[slot].waitsSince + left, .poolTimeout)
      }
      if !requests[slot].isAged, !isMutant(.ageingForgotten) { earlier(agesAt(slot), nil) }
    case .active:
      let attempt = requests[slot].attempt
      let silence = silence(of: attempt, options.timeouts)
      earlier(silence.due, silence.failure)
      if attempt.eventsSince != .never, !attempt.isHeld, !isMutant(.forgottenEventTimer) {
        earlier(attempt.eventsSince + options.timeouts.event, .eventTimeout)
      }
      if requests[slot].isDiscarding { earlier(requests[slot].retryAt, nil) }
      if requests[slot].hedging != .none { earlier(hedgeDeadline(slot), nil) }
    case .backingOff: earlier(requests[slot].retryAt, nil)
    }
    return (due, failure)
  }

  /// When the clock of an attempt runs out, and what that is.
  @inline(__always)
  func silence(of attempt: Attempt, _ timeouts: Timeouts<Nanoseconds>) -> (due: Instant, failure: Failure?) {
    switch attempt.clock {
    case .none: (.never, nil)
    case .write: (attempt.clockSince + timeouts.write, .writeTimeout)
    case .firstByte: (attempt.clockSince + timeouts.firstByte, .firstByteTimeout)
    case .read: (isMutant(.forgottenReadTimer) ? .never : attempt.clockSince + timeouts.read, .readTimeout)
    }
  }

  mutating func awaitAnswer(_ slot: Int) {
    guard !requests[slot].attempt.isHeld else {
      requests[slot].attempt.clock = .none
      return
    }
    let hasOwnClock = !requests[slot].attempt.hasAnswer && requests[slot].options.timeouts.firstByte != .max
    restartClock(slot, hasOwnClock ? .firstByte : .read)
  }

  /// Moves with every byte, hence only stamps the time; the heap is touched only where the deadline comes nearer.
  mutating func restartClock(_ slot: Int, _ clock: Attempt.Clock) {
    let isSame = requests[slot].attempt.clock == clock
    requests[slot].attempt.clock = clock
    requests[slot].attempt.clockSince = now
    if !isSame { arm(slot) }
  }

  mutating func arm(_ slot: Int) {
    let due = nextClock(slot).due
    guard due != .never else { return }
    let key = IndexedHeap.Key(major: due.nanoseconds, minor: requests[slot].order)
    if !isTimed(slot) {
      requestTimers.insert(Int32(slot), key, &requestTimerPositions)
    } else if key < requestTimers.key(of: Int32(slot), requestTimerPositions) {
      requestTimers.update(Int32(slot), key, &requestTimerPositions)
    }
  }

  mutating func fireTimers() {
    guard !isStopped else { return }
    if let closeDeadline, closeDeadline <= now { endEverything() }
    while let first = connectionTimers.first, first.key.major <= now.nanoseconds {
      connectionTimers.remove(first.slot, &connectionTimerPositions)
      connectionDue(Int(first.slot))
    }
    while let first = originTimers.first, first.key.major <= now.nanoseconds {
      originTimers.remove(first.slot, &originTimerPositions)
      originDue(first.slot)
    }
    while let first = budgetTimers.first, first.key.major <= now.nanoseconds {
      budgetTimers.remove(first.slot, &budgetTimerPositions)
      budgetDue(first.slot)
    }
    while let first = requestTimers.first, first.key.major <= now.nanoseconds {
      requestTimers.remove(first.slot, &requestTimerPositions)
      requestDue(Int(first.slot))
    }
  }

  private mutating func requestDue(_ slot: Int) {
    let (due, failure) = nextClock(slot)
    guard due <= now else { return arm(slot) }
    let waitsForConnection = requests[slot].state == .pending && requests[slot].budgetStep != .waiting
    if failure != nil, waitsForConnection, !requests[slot].isCovered, let cause = outage(slot) {
      return end(slot, cause)
    }
    if let failure { return timeOut(slot, failure) }
    switch requests[slot].state {
    case .free: return
    case .pending:
      requests[slot].isAged = true
      reRank(slot)
      arm(slot)
    case .active:
      guard requests[slot].isDiscarding else { return hedgeDue(slot) }
      // The dropped answer is still coming when its retry is due.
      let connection = Int(requests[slot].attempt.connection)
      let origin = requests[slot].origin
      abort(slot)
      leaveAborted(connection)
      requeue(slot)
      settle(origin)
    case .backingOff:
      let origin = requests[slot].origin
      requeue(slot)
      serve(origin)
    }
  }

  /// The silence of a server can be tried again where the request says so; its other clocks end it.
  private mutating func timeOut(_ slot: Int, _ failure: Failure) {
    guard requests[slot].state == .active else { return end(slot, failure) }
    let connection = Int(requests[slot].attempt.connection)
    let origin = requests[slot].origin
    abort(slot)
    leaveAborted(connection)
    countTimeout(slot, failure)
    if failure == .totalTimeout {
      requests[slot].wasSeen = true
      complete(slot, failure)
    } else {
      attemptFailed(slot, failure, unseen: false)
    }
    settle(origin)
  }

  private mutating func reRank(_ slot: Int) {
    let origin = Int(requests[slot].origin)
    if requests[slot].budgetStep == .waiting {
      let budget = requests[slot].options.budget.slot
      budgets[Int(budget)].queue.update(Int32(slot), rank(slot), &queuePositions)
      touch(budget)
    } else if requests[slot].isCovered {
      origins[origin].covered.update(Int32(slot), rank(slot), &queuePositions)
    } else {
      origins[origin].uncovered.update(Int32(slot), rank(slot), &queuePositions)
    }
  }

  // MARK: Connections

  /// HTTP/2 PING: when the next is due, or when the answer to the last must have come.
  private func pingDue(_ slot: Int) -> Instant {
    let isAsked = connections[slot].isMultiplexed && options.pingInterval > 0 && options.pingInterval != .max
    guard isAsked else { return .never }
    if isMutant(.forgottenPing), connections[slot].isPinging { return .never }
    if connections[slot].isPinging { return connections[slot].pingedAt + pingDeadline }
    return max(connections[slot].lastReceived, connections[slot].pingedAt) + options.pingInterval
  }

  private var pingDeadline: Nanoseconds { min(options.pingInterval, .seconds(15)) }

  private func expiresAt(_ slot: Int) -> Instant {
    guard connections[slot].isIdle, !isMutant(.forgottenExpiry) else { return .never }
    return connections[slot].idleSince + min(options.keepaliveExpiry, connections[slot].keepaliveExpiry)
  }

  /// The next thing that happens to the connection by time alone.
  func connectionDeadline(_ slot: Int) -> Instant {
    let deadline = connections[slot].deadline
    guard connections[slot].state == .open else { return deadline }
    let resetsDueAt = isMutant(.forgottenResets) ? .never : connections[slot].resetsDueAt
    return min(min(deadline, resetsDueAt), expiresAt(slot), pingDue(slot))
  }

  mutating func armConnection(_ slot: Int) {
    let due = connectionDeadline(slot)
    guard due != .never else { return }
    let key = IndexedHeap.Key(major: due.nanoseconds, minor: UInt64(slot))
    if connectionTimerPositions[slot] == IndexedHeap.absent {
      connectionTimers.insert(Int32(slot), key, &connectionTimerPositions)
    } else if key < connectionTimers.key(of: Int32(slot), connectionTimerPositions) {
      connectionTimers.update(Int32(slot), key, &connectionTimerPositions)
    }
  }

  private mutating func connectionDue(_ slot: Int) {
    let origin = connections[slot].origin
    switch connections[slot].state {
    case .free: return
    case .dialing:
      guard connections[slot].deadline <= now else { return armConnection(slot) }
      // While the name is looked up the engine has not heard of it.
      if !connections[slot].isResolving { actions.append(.close(connectionID(slot), .connectTimeout)) }
      dialFailed(slot, .connectTimeout)
    case .open:
      if connections[slot].resetsDueAt <= now { releaseResets(slot) }
      if expiresAt(slot) <= now {
        closeConnection(slot, .expired)
      } else if connections[slot].deadline <= now {
        connections[slot].deadline = .never
        retire(slot, .aged)
      } else if pingDue(slot) <= now {
        pingDue(slot, origin)
      }
      if connections[slot].state == .open { armConnection(slot) }
      settle(origin)
    }
  }

  private mutating func pingDue(_ slot: Int, _ origin: Int32) {
    if connections[slot].isPinging { return loseConnection(slot, .pingTimeout) }
    connections[slot].isPinging = true
    connections[slot].pingedAt = now
    actions.append(.ping(connectionID(slot)))
  }

  /// The connection is dead: every request on it fails, as the server may have acted on it.
  mutating func loseConnection(_ slot: Int, _ reason: CloseReason) {
    stopUsing(slot)
    while connections[slot].hedges.first != SlotList.none { abortHedge(Int(connections[slot].hedges.first)) }
    while connections[slot].requests.first != SlotList.none {
      let request = Int(connections[slot].requests.first)
      abort(request)
      countFailedAttempt(request, on: slot, .read)
      attemptFailed(request, .read, unseen: false)
    }
    closeConnection(slot, reason)
  }

  // MARK: Origins

  /// An origin that nobody has used for so long is forgotten.
  static var originMemory: Nanoseconds { .seconds(600) }

  mutating func armOrigin(_ origin: Int32) {
    let slot = Int(origin)
    guard origins[slot].isKnown else { return }
    var due = min(origins[slot].reliefAt, breakerDialsAt(slot))
    if !origins[slot].uncovered.isEmpty, origins[slot].redialAt > now, !isMutant(.forgottenRedial) {
      due = min(due, origins[slot].redialAt)
    }
    if origins[slot].requests == 0, origins[slot].connections.isEmpty {
      due = min(due, origins[slot].lastUsed + PoolStateMachine.originMemory)
    }
    guard due != .never else { return }
    let key = IndexedHeap.Key(major: due.nanoseconds, minor: UInt64(slot))
    if originTimerPositions[slot] == IndexedHeap.absent {
      originTimers.insert(origin, key, &originTimerPositions)
    } else if key < originTimers.key(of: origin, originTimerPositions) {
      originTimers.update(origin, key, &originTimerPositions)
    }
  }

  private mutating func originDue(_ origin: Int32) {
    let slot = Int(origin)
    if origins[slot].requests == 0, origins[slot].connections.isEmpty {
      if origins[slot].lastUsed + PoolStateMachine.originMemory <= now {
        if canForget(origin) { return forget(origin) }
        origins[slot].lastUsed = now
      }
    }
    if origins[slot].reliefAt <= now {
      relieve(origin)
      serveBlocked()
    }
    if !origins[slot].uncovered.isEmpty, origins[slot].redialAt <= now { serve(origin) }
    if breakerDialsAt(slot) <= now { dialForBreaker(origin) }
    armOrigin(origin)
  }

  /// Not while a lookup is under way for it alone: the answer would meet whoever has the name's id next.
  private func canForget(_ origin: Int32) -> Bool {
    let host = Int(origins[Int(origin)].host)
    return host < 0 || !hosts[host].isResolving || hosts[host].origins.count > 1
  }

  private mutating func forget(_ origin: Int32) {
    resetBreaker(origin)
    leaveHost(origin)
    origins[Int(origin)] = OriginRecord()
    actions.append(.forget(OriginID(slot: origin)))
  }
}
