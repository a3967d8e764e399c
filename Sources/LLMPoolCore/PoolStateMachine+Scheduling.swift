// Who gets which connection: reuse first, then a dial as far as the limits allow, then waiting in turn. What becomes of
// a waiter, in the order in which it is tried:
//
// 1. A connection of its origin is free: it is sent, the longest waiting of the highest priority first (`reuse`).
// 2. A dial that is under way will serve it: it is covered, its connect clock runs (`coverWaiters`).
// 3. The name of its origin could not be resolved a moment ago: it fails with that (`failWaiters`).
// 4. A dial of its origin failed a moment ago: it waits for the next (`waitToRedial`).
// 5. Its origin may hold no more connections: it waits for one of them.
// 6. A place is free, or an idle connection of any origin can be closed for it: it is dialled for (`startDial`).
// 7. No place is free: its origin waits for one in turn, those without any connection first (`block`).
//
// Whoever counts on no dial waits for its pool timeout at most, and is told at once where its origin is down
// (`tellWaiters`).
extension PoolStateMachine {
  /// The fullest h2 connection with room, else the most recently used idle h1 connection.
  func availableConnection(_ origin: Int32) -> Int? {
    if let room = origins[Int(origin)].room.first { return Int(room.slot) }
    let idle = isMutant(.leastRecentlyReused) ? origins[Int(origin)].idle.first : origins[Int(origin)].idle.last
    return idle == SlotList.none ? nil : Int(idle)
  }

  /// Gives free connections of the origin to its waiters in their order, and dials for the rest.
  mutating func serve(_ origin: Int32) {
    reuse(origin)
    dialForWaiters(origin)
  }

  /// After a connection or a place has become free: first the waiters of its origin take what is open, then those
  /// who wait for a place get it in turn, then the origin dials, and as many idle ones are kept as the options allow.
  mutating func settle(_ origin: Int32) {
    if origins[Int(origin)].breaker.isUntold { tellBroken(origin) }
    reuse(origin)
    serveBlocked()
    dialForWaiters(origin)
    trimIdle()
  }

  mutating func reuse(_ origin: Int32) {
    while let slot = firstWaiter(origin), let connection = availableConnection(origin) {
      assign(slot, to: connection)
    }
  }

  // MARK: Dials that waiters count on

  /// How many waiters the dials under way will serve.
  func dialCapacity(_ origin: Int32) -> Int {
    let dialing = origins[Int(origin)].dialing
    guard dialing > 0 else { return 0 }
    // The first connection to an https origin may turn out to be h2: nobody dials beside it.
    guard let version = origins[Int(origin)].version else { return isMutant(.coldBurstDials) ? dialing : .max }
    guard version.isMultiplexed else { return dialing }
    // A server that allowed no stream at all is asked with one.
    let each = min(origins[Int(origin)].streamsAllowed ?? .max, options.maxStreamsPerConnection)
    let (capacity, overflow) = dialing.multipliedReportingOverflow(by: max(each, 1))
    return overflow ? .max : capacity
  }

  mutating func coverWaiters(_ origin: Int32) {
    let capacity = dialCapacity(origin)
    while origins[Int(origin)].covered.count < capacity, let next = origins[Int(origin)].uncovered.first {
      cover(Int(next.slot))
    }
  }

  /// After a dial was lost or an origin turned out to speak h1: fewer waiters are served by what is under way.
  mutating func uncoverExcess(_ origin: Int32) {
    let capacity = dialCapacity(origin)
    while origins[Int(origin)].covered.count > capacity, let last = origins[Int(origin)].covered.last {
      uncover(Int(last.slot))
    }
  }

  mutating func dialForWaiters(_ origin: Int32) {
    uncoverExcess(origin)
    coverWaiters(origin)
    while let next = origins[Int(origin)].uncovered.first {
      guard !hasNoAddress(origin) else { return failWaiters(origin, .resolve) }
      guard mayDial(origin, for: Int(next.slot)) else { return waitToRedial(origin) }
      guard mayHoldMore(origin) else { return unblock(origin) }
      guard makePlace() else { return block(origin) }
      let ownTimeout = requests[Int(next.slot)].options.timeouts.connect
      startDial(origin, timeout: max(options.timeouts.connect, ownTimeout))
      coverWaiters(origin)
    }
  }

  private mutating func waitToRedial(_ origin: Int32) {
    unblock(origin)
    armOrigin(origin)
  }

  /// Is a place free under the total limit?
  var hasPlace: Bool { counters.connections < options.maxConnections + (isMutant(.totalLimitOffByOne) ? 1 : 0) }

  func mayHoldMore(_ origin: Int32) -> Bool {
    let held = origins[Int(origin)].counters.connections
    if isMutant(.originLimitOffByOne) { return held <= options.maxConnectionsPerOrigin }
    return held < options.maxConnectionsPerOrigin
  }

  /// Evicts what is idle until there is a place: more than one where the limit was lowered.
  private mutating func makePlace() -> Bool {
    while !hasPlace { guard evictIdle() else { return false } }
    return true
  }

  /// Closes the least recently used idle connection of any origin.
  mutating func evictIdle() -> Bool {
    guard idle.first != SlotList.none else { return false }
    closeConnection(Int(idle.first), .evicted)
    return true
  }

  // MARK: Waiting at the total limit

  static var blockedPatience: Nanoseconds { .seconds(1) }

  mutating func block(_ origin: Int32) {
    let slot = Int(origin)
    guard origins[slot].blockedSince == .never else { return }
    origins[slot].blockedSince = now
    origins[slot].isBlockedWithout = origins[slot].counters.connections == 0
    if origins[slot].isBlockedWithout {
      blockedWithout.append(origin, &blockedLinks)
      origins[slot].reliefAt = now + PoolStateMachine.blockedPatience
      armOrigin(origin)
    } else {
      blockedWith.append(origin, &blockedLinks)
    }
  }

  mutating func unblock(_ origin: Int32) {
    guard origins[Int(origin)].blockedSince != .never else { return }
    origins[Int(origin)].blockedSince = .never
    origins[Int(origin)].reliefAt = .never
    if origins[Int(origin)].isBlockedWithout {
      blockedWithout.remove(origin, &blockedLinks)
    } else {
      blockedWith.remove(origin, &blockedLinks)
    }
  }

  /// A place under the total limit, or an idle connection, may be free: those who wait for one get it in turn,
  /// origins without any connection first.
  mutating func serveBlocked() {
    while !blockedWithout.isEmpty || !blockedWith.isEmpty {
      guard hasPlace || !idle.isEmpty, !isMutant(.placeNotGivenOn) else { return }
      let origin = blockedWithout.isEmpty ? blockedWith.first : blockedWithout.first
      unblock(origin)
      dialOne(origin)
    }
  }

  /// One dial for an origin that waited; if it wants more it waits behind the others again.
  private mutating func dialOne(_ origin: Int32) {
    coverWaiters(origin)
    guard let next = origins[Int(origin)].uncovered.first else { return }
    guard !hasNoAddress(origin) else { return failWaiters(origin, .resolve) }
    guard mayDial(origin, for: Int(next.slot)) else { return waitToRedial(origin) }
    guard mayHoldMore(origin) else { return }
    guard makePlace() else { return block(origin) }
    startDial(origin, timeout: max(options.timeouts.connect, requests[Int(next.slot)].options.timeouts.connect))
    coverWaiters(origin)
    if !origins[Int(origin)].uncovered.isEmpty { block(origin) }
  }

  /// An origin without a connection has waited long enough: the one that holds most gives one up. An h2 connection
  /// is never free by itself under load, so one is retired; an h1 connection is closed when it becomes free next.
  mutating func relieve(_ origin: Int32) {
    origins[Int(origin)].reliefAt = now + PoolStateMachine.blockedPatience
    guard let richest = byConnections.first?.slot, origins[Int(richest)].version?.isMultiplexed == true else { return }
    // At most once a second for an origin that waits: worth a look at all connections of one other.
    var slot = origins[Int(richest)].connections.first
    while slot != SlotList.none {
      let connection = Int(slot)
      slot = connectionLinks[connection].next
      guard connections[connection].state == .open, !connections[connection].isRetiring else { continue }
      origins[Int(origin)].reliefAt = .never
      return retire(connection, .retired)
    }
  }

  /// Does this origin, which holds most connections, have to give up the next that becomes free?
  func owesConnection(_ origin: Int32) -> Bool {
    guard blockedWithout.first != SlotList.none, let richest = byConnections.first else { return false }
    let since = origins[Int(blockedWithout.first)].blockedSince
    return since + PoolStateMachine.blockedPatience <= now
      && richest.key.major == -Int64(origins[Int(origin)].counters.connections)
  }

  /// Keeps the order of origins by their number of connections, and the list in which a blocked one waits.
  mutating func connectionCountChanged(_ origin: Int32) {
    let slot = Int(origin)
    let held = origins[slot].counters.connections
    let key = IndexedHeap.Key(major: -Int64(held), minor: UInt64(slot))
    if held > 0 {
      byConnections.set(origin, key, &byConnectionsPositions)
    } else {
      byConnections.removeIfPresent(origin, &byConnectionsPositions)
    }
    guard origins[slot].blockedSince != .never, origins[slot].isBlockedWithout != (held == 0) else { return }
    unblock(origin)
    block(origin)
  }
}
