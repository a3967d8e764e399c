// A connection's life: dialled, open, idle, retired, closed.
extension PoolStateMachine {
  // MARK: Dialling

  @discardableResult
  mutating func startDial(_ origin: Int32, timeout: Nanoseconds) -> Int {
    let slot = newConnection(origin)
    connections[slot].deadline = now + timeout
    count(origin) {
      $0.opened += 1
      $0.connecting += 1
    }
    origins[Int(origin)].dialing += 1
    connectionCountChanged(origin)
    armConnection(slot)
    dialWhenResolved(slot)
    return slot
  }

  private mutating func newConnection(_ origin: Int32) -> Int {
    let slot: Int
    if let free = freeConnections.popLast() {
      slot = Int(free)
    } else {
      slot = connections.count
      connections.append(ConnectionRecord())
      connectionTimerPositions.append(IndexedHeap.absent)
      roomPositions.append(IndexedHeap.absent)
      connectionLinks.append(SlotList.Link())
      idleLinks.append(SlotList.Link())
      originIdleLinks.append(SlotList.Link())
      hostDialLinks.append(SlotList.Link())
    }
    let generation = connections[slot].generation &+ 1
    connections[slot] = ConnectionRecord()
    connections[slot].generation = generation
    connections[slot].identity = identity
    connections[slot].origin = origin
    connections[slot].state = .dialing
    origins[Int(origin)].connections.append(Int32(slot), &connectionLinks)
    return slot
  }

  mutating func dialed(_ slot: Int, _ version: WireVersion, _ address: AddressID?) {
    let origin = connections[slot].origin
    connections[slot].state = .open
    connections[slot].version = version
    connections[slot].address = address
    connections[slot].lastReceived = now
    connections[slot].streamLimit = connections[slot].isMultiplexed ? streamLimit(slot) : 1
    connections[slot].resetBudget = PoolStateMachine.resetBudget
    connections[slot].resetBudgetAt = now
    connections[slot].deadline = agedAt()
    origins[Int(origin)].dialing -= 1
    origins[Int(origin)].version = version
    origins[Int(origin)].usable += 1
    origins[Int(origin)].dialFailures = 0
    origins[Int(origin)].dialFailure = nil
    origins[Int(origin)].redialAt = Instant(nanoseconds: .min)
    breakerDialed(origin)
    count(origin) {
      $0.connecting -= 1
      $0.idle += 1
    }
    connections[slot].idleSince = now
    idle.append(Int32(slot), &idleLinks)
    enterIdle(slot)
    if connections[slot].isMultiplexed { updateRoom(slot) }
    if watched.contains(.connectionOpened) {
      actions.append(.notice(.connectionOpened(connectionID(slot), OriginID(slot: origin))))
    }
    armConnection(slot)
    if connections[slot].hedgeFor >= 0 { hedgeDialed(slot) }
    settle(origin)
    if !version.isMultiplexed, origins[Int(origin)].warmTarget > 0 { warm(origin, origins[Int(origin)].warmTarget) }
    origins[Int(origin)].warmTarget = 0
  }

  /// Until its SETTINGS come a connection carries what the origin allowed last, at least one stream: a server that
  /// allowed none for a while must be asked again.
  func streamLimit(_ slot: Int) -> Int {
    if let allowed = connections[slot].streamsAllowed { return min(allowed, options.maxStreamsPerConnection) }
    let remembered = origins[Int(connections[slot].origin)].streamsAllowed ?? .max
    return min(max(1, remembered), options.maxStreamsPerConnection)
  }

  /// Connections that are opened together must not all end together.
  private mutating func agedAt() -> Instant {
    guard options.maxConnectionAge != .max else { return .never }
    let spread = options.maxConnectionAge / 10
    return now + (options.maxConnectionAge - spread + Int64.random(in: 0...max(1, 2 * spread), using: &random))
  }

  mutating func dialFailed(_ slot: Int, _ failure: Failure) {
    let origin = connections[slot].origin
    removeConnection(slot, failure == .connectTimeout ? .connectTimeout : .dialFailed)
    count(origin) { $0.connectFailures += 1 }
    origins[Int(origin)].dialFailures += 1
    origins[Int(origin)].dialFailure = failure
    countFailedDial(origin, failure)
    tellWaiters(origin, failure)
    tellBroken(origin)
    origins[Int(origin)].redialAt = now + redialPause(origins[Int(origin)].dialFailures)
    uncoverExcess(origin)
    settle(origin)
  }

  /// The oldest waiter that no other dial serves fails with this one, and so do those behind it that want no other;
  /// where the origin is down, everybody does whom none serves, whether he counted on a dial or waited for a place.
  private mutating func tellWaiters(_ origin: Int32, _ failure: Failure) {
    let capacity = dialCapacity(origin)
    let isDown = isDown(origin)
    var isFirst = true
    while origins[Int(origin)].covered.count > capacity, let first = origins[Int(origin)].covered.first {
      guard isFirst || isDown || wantsNoRedial(Int(first.slot)) else { break }
      isFirst = false
      attemptFailed(Int(first.slot), failure, unseen: true)
    }
    while isDown, !isMutant(.outageUntold), let first = origins[Int(origin)].uncovered.first {
      attemptFailed(Int(first.slot), failure, unseen: true)
    }
  }

  func wantsNoRedial(_ slot: Int) -> Bool { requests[slot].options.flags.contains(.noRedial) }

  /// May a connection be dialled for this waiter now? Who wants to hear of a failure at once waits out no pause.
  func mayDial(_ origin: Int32, for slot: Int) -> Bool {
    origins[Int(origin)].redialAt <= now || (wantsNoRedial(slot) && origins[Int(origin)].dialFailure != nil)
  }

  /// So many dials failed one after the other, and nothing is open that a waiter could get.
  private func isDown(_ origin: Int32) -> Bool {
    origins[Int(origin)].dialFailures >= PoolStateMachine.dialFailuresInARow && origins[Int(origin)].usable == 0
  }

  /// What a waiter who runs out of patience is told instead: why its origin could not be reached, where a dial failed
  /// while it waited, or none was tried after one that had failed shortly before.
  func outage(_ slot: Int) -> Failure? {
    let origin = origins[Int(requests[slot].origin)]
    guard origin.usable == 0, origin.redialAt >= requests[slot].options.submittedAt, !isMutant(.outageUnexplained)
    else { return nil }
    return origin.dialFailure
  }

  static var dialFailuresInARow: Int { 3 }
  /// Requests that arrive after an outage must not wait long for the next dial.
  static var redialBackoffMax: Nanoseconds { .seconds(1) }

  /// After so many dials in a row that failed.
  mutating func redialPause(_ failures: Int) -> Nanoseconds {
    min(backoff(failures), PoolStateMachine.redialBackoffMax)
  }

  // MARK: Open

  mutating func settings(_ slot: Int, _ maxStreams: Int) {
    let origin = connections[slot].origin
    connections[slot].streamsAllowed = maxStreams
    origins[Int(origin)].streamsAllowed = maxStreams
    // Another connection would hear the same: no hurry to dial it.
    if maxStreams == 0 { origins[Int(origin)].redialAt = now + PoolStateMachine.redialBackoffMax }
    guard connections[slot].state == .open, connections[slot].isMultiplexed else { return }
    if !isMutant(.settingsIgnored) { connections[slot].streamLimit = streamLimit(slot) }
    updateRoom(slot)
    serve(origin)
  }

  mutating func goAway(_ slot: Int) {
    guard connections[slot].state == .open else { return }
    let origin = connections[slot].origin
    retire(slot, .goAway)
    settle(origin)
  }

  mutating func received(_ slot: Int) {
    connections[slot].lastReceived = now
    connections[slot].isPinging = false
  }

  /// The connection is given up a second before the server does it, lest a request meets its FIN.
  mutating func keepAlive(_ slot: Int, _ limit: Nanoseconds) {
    connections[slot].keepaliveExpiry = max(0, limit - .seconds(1))
    if connections[slot].isIdle { armConnection(slot) }
  }

  /// The engine has closed the connection. What it never heard of goes back to the queue, as nothing was sent.
  mutating func connectionClosed(_ slot: Int, _ reason: CloseReason) {
    let origin = connections[slot].origin
    if connections[slot].state == .dialing { return dialFailed(slot, .connect) }
    stopUsing(slot)
    while connections[slot].hedges.first != SlotList.none { hedgeClosed(Int(connections[slot].hedges.first)) }
    while connections[slot].requests.first != SlotList.none {
      let request = Int(connections[slot].requests.first)
      detach(request)
      if requests[request].attempt.hasProgress {
        countFailedAttempt(request, on: slot, .read)
        attemptFailed(request, .read, unseen: false)
      } else {
        attemptUnsent(request)
      }
    }
    removeConnection(slot, reason)
    settle(origin)
  }

  func hasRoom(_ slot: Int) -> Bool {
    let connection = connections[slot]
    return connection.state == .open && connection.isMultiplexed
      && (!connection.isRetiring || isMutant(.retiringReused))
      && connection.streams < connection.streamLimit + (isMutant(.streamLimitOffByOne) ? 1 : 0)
  }

  mutating func updateRoom(_ slot: Int) {
    let origin = Int(connections[slot].origin)
    let isListed = roomPositions[slot] != IndexedHeap.absent
    guard hasRoom(slot) else {
      if isListed { origins[origin].room.remove(Int32(slot), &roomPositions) }
      return
    }
    let free = connections[slot].streamLimit - connections[slot].streams
    let key = IndexedHeap.Key(major: Int64(free), minor: UInt64(slot))
    if isListed {
      origins[origin].room.update(Int32(slot), key, &roomPositions)
    } else {
      origins[origin].room.insert(Int32(slot), key, &roomPositions)
    }
  }

  // MARK: Idle and ending

  /// A request has left the connection, which can carry others; `settle` gives it to them.
  mutating func released(_ slot: Int) {
    guard connections[slot].streams == 0 else { return }
    let origin = connections[slot].origin
    if connections[slot].isRetiring || owesConnection(origin) {
      return closeConnection(slot, connections[slot].retireReason)
    }
    count(origin) {
      $0.inUse -= 1
      $0.idle += 1
    }
    connections[slot].idleSince = now
    idle.append(Int32(slot), &idleLinks)
    enterIdle(slot)
    armConnection(slot)
  }

  /// Its one request, or one of its streams, has ended.
  mutating func leaveFinished(_ slot: Int, _ reusable: Bool, _ reason: CloseReason) {
    if !connections[slot].isMultiplexed, !reusable { closeConnection(slot, reason) } else { released(slot) }
  }

  /// A pool that closes keeps nothing.
  var keepaliveLimit: Int { closeDeadline == nil ? options.maxKeepaliveConnections : 0 }

  mutating func trimIdle() {
    while counters.connections > options.maxConnections, evictIdle() {}
    while counters.idle > keepaliveLimit + (isMutant(.keepaliveOffByOne) ? 1 : 0), idle.first != SlotList.none {
      closeConnection(Int(idle.first), .keepaliveLimit)
    }
  }

  private mutating func enterIdle(_ slot: Int) {
    guard !connections[slot].isMultiplexed else { return }
    origins[Int(connections[slot].origin)].idle.append(Int32(slot), &originIdleLinks)
  }

  /// A request is about to use an idle connection.
  mutating func leaveIdle(_ slot: Int) {
    idle.remove(Int32(slot), &idleLinks)
    let origin = connections[slot].origin
    if !connections[slot].isMultiplexed { origins[Int(origin)].idle.remove(Int32(slot), &originIdleLinks) }
    count(origin) {
      $0.idle -= 1
      $0.inUse += 1
    }
  }

  /// Nothing new goes on it; it is closed when its last request is over, at once if it has none.
  mutating func retire(_ slot: Int, _ reason: CloseReason) {
    guard connections[slot].state == .open, !connections[slot].isRetiring else { return }
    stopUsing(slot)
    connections[slot].retireReason = reason
    if connections[slot].streams == 0 { closeConnection(slot, reason) }
  }

  /// Nothing new goes on it.
  mutating func stopUsing(_ slot: Int) {
    guard !connections[slot].isRetiring else { return }
    connections[slot].isRetiring = true
    if connections[slot].state == .open { origins[Int(connections[slot].origin)].usable -= 1 }
    if connections[slot].isMultiplexed { updateRoom(slot) }
  }

  /// Asks the engine to close it; for the limits it is gone with this call.
  mutating func closeConnection(_ slot: Int, _ reason: CloseReason) {
    // While its name is looked up the engine has not heard of it.
    if !connections[slot].isResolving { actions.append(.close(connectionID(slot), reason)) }
    removeConnection(slot, reason)
  }

  mutating func removeConnection(_ slot: Int, _ reason: CloseReason) {
    assert(connections[slot].requests.isEmpty && connections[slot].hedges.isEmpty)
    let origin = connections[slot].origin
    switch connections[slot].state {
    case .free: return
    case .dialing: leaveDialing(slot)
    case .open: leaveOpen(slot, reason)
    }
    count(origin) { $0.closed += 1 }
    count(origin, .closed(reason))
    if connectionTimerPositions[slot] != IndexedHeap.absent {
      connectionTimers.remove(Int32(slot), &connectionTimerPositions)
    }
    origins[Int(origin)].connections.remove(Int32(slot), &connectionLinks)
    connections[slot].state = .free
    freeConnections.append(Int32(slot))
    origins[Int(origin)].lastUsed = now
    connectionCountChanged(origin)
    armOrigin(origin)
    let mayDial = !origins[Int(origin)].uncovered.isEmpty && origins[Int(origin)].blockedSince == .never
    if mayDial { unserved.append(origin) }
  }

  private mutating func leaveDialing(_ slot: Int) {
    let origin = connections[slot].origin
    origins[Int(origin)].dialing -= 1
    count(origin) { $0.connecting -= 1 }
    if connections[slot].hedgeFor >= 0 { hedgeDialLost(slot) }
    if connections[slot].isResolving {
      hosts[Int(origins[Int(origin)].host)].dials.remove(Int32(slot), &hostDialLinks)
    }
  }

  private mutating func leaveOpen(_ slot: Int, _ reason: CloseReason) {
    let origin = connections[slot].origin
    if idleLinks[slot].isLinked {
      idle.remove(Int32(slot), &idleLinks)
      origins[Int(origin)].idle.removeIfLinked(Int32(slot), &originIdleLinks)
      count(origin) { $0.idle -= 1 }
    } else {
      count(origin) { $0.inUse -= 1 }
    }
    stopUsing(slot)
    if roomPositions[slot] != IndexedHeap.absent { origins[Int(origin)].room.remove(Int32(slot), &roomPositions) }
    if watched.contains(.connectionClosed) {
      actions.append(.notice(.connectionClosed(connectionID(slot), OriginID(slot: origin), reason)))
    }
  }

  // MARK: Resets

  /// Servers answer floods of RST_STREAM with GOAWAY (nghttpd after 1,000, others earlier).
  static var resetBudget: Int { 500 }
  static var resetRefill: Nanoseconds { .milliseconds(100) }

  /// The caller goes on with `released`.
  mutating func spendReset(_ slot: Int) {
    let refill = (now - connections[slot].resetBudgetAt) / PoolStateMachine.resetRefill
    if refill > 0 {
      connections[slot].resetBudget = min(PoolStateMachine.resetBudget, connections[slot].resetBudget + Int(refill))
      connections[slot].resetBudgetAt = connections[slot].resetBudgetAt + refill * PoolStateMachine.resetRefill
    }
    connections[slot].resetBudget -= 1
    if connections[slot].resetBudget <= 0 { stopUsing(slot) }
  }

  /// So long the answer to a PING may take before the resets that wait for it go on.
  static var resetPatience: Nanoseconds { .seconds(1) }

  mutating func resetsHeld(_ slot: Int) {
    guard connections[slot].state == .open else { return }
    connections[slot].resetsDueAt = now + PoolStateMachine.resetPatience
    armConnection(slot)
  }

  mutating func releaseResets(_ slot: Int) {
    connections[slot].resetsDueAt = .never
    actions.append(.releaseResets(connectionID(slot)))
  }
}
