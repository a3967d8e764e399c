// What is true between any two events. Always compiled, called by tests and the simulation only.
extension PoolStateMachine {
  /// The first rule that does not hold, in words; nil where all do. Looks at everything.
  package func checkInvariants() -> String? {
    if let broken = checkCounts() ?? checkReasons() { return broken }
    var sum = Counters()
    for slot in origins.indices where origins[slot].isKnown {
      if let broken = checkOrigin(OriginID(slot: Int32(slot))) { return broken }
      sum.add(origins[slot].counters)
    }
    // Forgotten origins keep no count, so only what exists now can be compared.
    if sum.current != counters.current { return "the origins' counts \(sum) are not the pool's \(counters)" }
    for slot in requests.indices {
      if let broken = checkRequest(slot) { return broken }
    }
    for slot in connections.indices {
      if let broken = checkConnection(slot) { return broken }
    }
    for slot in budgets.indices where budgets[slot].isKnown {
      if let broken = checkBudget(slot) { return broken }
    }
    if let broken = checkTimers() { return broken }
    return checkLists()
  }

  /// O(1): the identities of the header, and what is left after the end.
  package func checkCounts() -> String? {
    if !counters.requestsAddUp { return "requests do not add up: \(counters)" }
    if !counters.connectionsAddUp { return "connections do not add up: \(counters)" }
    if counters.smallest < 0 { return "a count is negative: \(counters)" }
    if counters.idle != idle.count { return "\(counters.idle) idle, \(idle.count) listed" }
    if counters.pending != waiting.count + counters.awaitingBudget {
      return "\(counters.pending) pending, \(counters.awaitingBudget) for a budget, \(waiting.count) listed"
    }
    if isStopped, counters.connections + counters.pending + counters.active + counters.backingOff > 0 {
      return "stopped, but not empty: \(counters)"
    }
    if isStopped, nextDeadline != nil { return "stopped, but waits for a deadline" }
    let waits = counters.pending + counters.backingOff > 0
    if !isStopped, waits, nextDeadline == nil, !mayWaitForever { return "waits for nothing" }
    if counters.idle > keepaliveLimit { return "\(counters.idle) idle, \(keepaliveLimit) allowed" }
    let blocked = !blockedWithout.isEmpty || !blockedWith.isEmpty
    if !isStopped, blocked, counters.connections < options.maxConnections || !idle.isEmpty {
      return "a place is free while an origin waits for one"
    }
    return nil
  }

  /// For a bystander: does the connection take nothing new?
  package func isRetiring(_ id: ConnectionID) -> Bool { live(id).map { connections[$0].isRetiring } ?? true }

  package func isIdle(_ id: ConnectionID) -> Bool { live(id).map { connections[$0].isIdle } ?? false }

  private var mayWaitForever: Bool {
    options.timeouts.pool == .max || options.timeouts.connect == .max || options.timeouts.budget == .max
  }

  /// One origin: its counts, its queues, and that nothing free is kept from a waiter.
  package func checkOrigin(_ id: OriginID) -> String? {
    let slot = Int(id.slot)
    guard slot < origins.count, origins[slot].isKnown else { return nil }
    let counts = origins[slot].counters
    func broken(_ what: String) -> String { "origin \(slot): \(what)" }
    if !counts.requestsAddUp || !counts.connectionsAddUp { return broken("counts do not add up: \(counts)") }
    if origins[slot].waiting != counts.pending - counts.awaitingBudget { return broken("queues and pending differ") }
    if origins[slot].requests != counts.pending + counts.active + counts.backingOff {
      return broken("\(origins[slot].requests) requests, \(counts)")
    }
    if origins[slot].dialing != counts.connecting { return broken("\(origins[slot].dialing) dialing, \(counts)") }
    if origins[slot].connections.count != counts.connections { return broken("connections and counts differ") }
    if origins[slot].usable != usableConnections(slot) { return broken("\(origins[slot].usable) usable") }
    if origins[slot].waiting > 0, availableConnection(id.slot) != nil { return broken("a free slot, and a waiter") }
    let capacity = dialCapacity(id.slot)
    if origins[slot].covered.count != min(capacity, origins[slot].waiting) {
      return broken("\(origins[slot].covered.count) count on dials that carry \(capacity)")
    }
    let isBlocked = origins[slot].blockedSince != .never
    if isBlocked != blockedLinks[slot].isLinked { return broken("blocked, but in no list") }
    if isBlocked, origins[slot].uncovered.isEmpty { return broken("blocked without a waiter") }
    if isBlocked, origins[slot].isBlockedWithout != (counts.connections == 0) { return broken("in the wrong list") }
    if let broken = checkBreaker(slot) { return broken }
    if let broken = checkQueue(slot, origins[slot].covered, true) { return broken }
    if let broken = checkQueue(slot, origins[slot].uncovered, false) { return broken }
    return isStopped ? nil : checkWaiters(slot)
  }

  /// Whose breaker is open has nobody waiting but the one that is let through, and will be tried.
  private func checkBreaker(_ slot: Int) -> String? {
    let breaker = origins[slot].breaker
    let counts = origins[slot].counters
    func broken(_ what: String) -> String { "origin \(slot): its breaker: \(what)" }
    if counts.breakersOpen != (breaker.isOpen ? 1 : 0) { return broken("open and counted") }
    guard breaker.isOpen else { return breaker.trial == nil ? nil : broken("a trial while it is closed") }
    if breaker.isUntold { return broken("open, and nobody was told") }
    let trial = breaker.trial.flatMap { live($0) }
    if breaker.trial != nil, trial == nil { return broken("its trial is over") }
    let isTrialWaiting = trial.map { requests[$0].state != .active } ?? false
    if counts.pending + counts.backingOff > (isTrialWaiting ? 1 : 0) { return broken("somebody waits") }
    let due = breakerDialsAt(slot)
    guard due != .never else { return nil }
    guard originTimerPositions[slot] != IndexedHeap.absent else { return broken("no timer") }
    let armed = originTimers.key(of: Int32(slot), originTimerPositions).major
    return armed > due.nanoseconds ? broken("its timer is late") : nil
  }

  private func usableConnections(_ origin: Int) -> Int {
    var count = 0
    var slot = origins[origin].connections.first
    while slot != SlotList.none {
      let connection = connections[Int(slot)]
      if connection.state == .open, !connection.isRetiring { count += 1 }
      slot = connectionLinks[Int(slot)].next
    }
    return count
  }

  /// Whoever counts on no dial has a reason to wait, and something that will end it.
  private func checkWaiters(_ slot: Int) -> String? {
    guard let first = origins[slot].uncovered.first, origins[slot].blockedSince == .never else { return nil }
    // For one of its connections: whoever is first then has a dial, or the timer for the next.
    if origins[slot].counters.connections >= options.maxConnectionsPerOrigin { return nil }
    if origins[slot].redialAt > now {
      if originTimerPositions[slot] != IndexedHeap.absent { return nil }
      if !mayDial(Int32(slot), for: Int(first.slot)) { return "origin \(slot): nothing will redial" }
    }
    if hasNoAddress(Int32(slot)), origins[slot].dialing > 0 { return nil }
    return "origin \(slot): a waiter, a place, and no dial"
  }

  private func checkQueue(_ origin: Int, _ queue: IndexedHeap, _ isCovered: Bool) -> String? {
    for (index, entry) in queue.entries.enumerated() {
      let slot = Int(entry.slot)
      if queuePositions[slot] != Int32(index) { return "request \(slot): wrong place in its queue" }
      if requests[slot].state != .pending { return "request \(slot): queued while \(requests[slot].state)" }
      if requests[slot].isCovered != isCovered { return "request \(slot): in the wrong queue" }
      if requests[slot].origin != Int32(origin) { return "request \(slot): queued at another origin" }
      if entry.key != rank(slot) { return "request \(slot): an old rank" }
      if index > 0, entry.key < queue.entries[(index - 1) / 2].key { return "origin \(origin): no heap" }
    }
    return nil
  }

  private func checkRequest(_ slot: Int) -> String? {
    let request = requests[slot]
    func broken(_ what: String) -> String { "request \(slot): \(what)" }
    if (queuePositions[slot] != IndexedHeap.absent) != (request.state == .pending) { return broken("queue and state") }
    let isLinked = (request.state == .pending && request.budgetStep != .waiting) || request.state == .active
    if requestLinks[slot].isLinked != isLinked { return broken("list and state") }
    if (request.attempt.connection >= 0) != (request.state == .active) { return broken("connection and state") }
    if slot < hedgeLinks.count, hedgeLinks[slot].isLinked != (request.state == .active && request.hedging == .sent) {
      return broken("the list of a hedge and its state")
    }
    if request.state == .free { return isTimed(slot) ? broken("a timer, and no request") : nil }
    let isLost = request.state == .active && connections[Int(request.attempt.connection)].state != .open
    if isLost { return broken("on no connection") }
    if let wrong = checkHedge(slot) { return broken(wrong) }
    let due = nextClock(slot).due
    if due != .never {
      guard isTimed(slot) else { return broken("no timer") }
      let armed = requestTimers.key(of: Int32(slot), requestTimerPositions).major
      if armed > due.nanoseconds { return broken("its timer is late") }
    }
    return nil
  }

  /// A second attempt runs beside a first one whose head is not here; a dial for one belongs to it.
  private func checkHedge(_ slot: Int) -> String? {
    let request = requests[slot]
    guard request.hedging != .none else { return nil }
    let hedge = hedges[slot]
    if (hedge.attempt.connection >= 0) != (request.hedging == .sent) { return "a hedge's connection and its state" }
    if (hedge.dial >= 0) != (request.hedging == .dialing) { return "the dial of a hedge and its state" }
    switch request.hedging {
    case .none, .wanted, .promoted, .over: break
    case .dialing:
      let dial = connections[Int(hedge.dial)]
      if request.state != .active { return "a dial for the hedge of what is not active" }
      if dial.state != .dialing || dial.hedgeFor != Int32(slot) { return "the dial of its hedge is another's" }
    case .sent:
      if request.state != .active || request.isDiscarding { return "a hedge beside no attempt" }
      if connections[Int(hedge.attempt.connection)].state != .open { return "a hedge on no connection" }
      if hedge.attempt.sequence == request.attempt.sequence { return "two attempts of one name" }
    }
    if request.hedging != .sent, hedge.budgetStep != .none { return "a hedge that is over, and its budget" }
    return nil
  }

  /// A budget: what it counts is what its requests do, and who waits has a reason, and something that will end it.
  private func checkBudget(_ slot: Int) -> String? {
    let budget = budgets[slot]
    func broken(_ what: String) -> String { "budget \(slot): \(what)" }
    var count = (requests: 0, waiting: 0, inFlight: 0)
    var reserved = Cost()
    var headless = Cost()
    var output: Int64 = 0
    for (index, request) in requests.enumerated() where request.state != .free {
      guard request.options.budget.slot == Int32(slot) else { continue }
      count.requests += 1
      if request.budgetStep == .waiting { count.waiting += 1 }
      guard request.budgetStep.isInFlight else { continue }
      count.inFlight += 1
      if request.budgetStep == .reserved { reserved += uses[index].cost } else { output += uses[index].cost.output }
      if request.budgetStep != .answered { headless += uses[index].cost }
      if (request.budgetStep == .reserved) != (request.state == .pending) { return broken("a step of another state") }
      guard request.hedging == .sent else { continue }
      count.inFlight += 1
      output += hedges[index].use.cost.output
      if hedges[index].budgetStep != .answered { headless += hedges[index].use.cost }
    }
    if budget.requests != count.requests { return broken("\(budget.requests) requests, seen \(count.requests)") }
    if budget.inFlight != count.inFlight { return broken("\(budget.inFlight) in flight, seen \(count.inFlight)") }
    if budget.queue.count != count.waiting { return broken("\(budget.queue.count) queued, seen \(count.waiting)") }
    if budget.reserved != reserved || budget.headless != headless || budget.output != output {
      return broken("what is reserved, without a head, or may yet come out")
    }
    let isIdle = budget.requests == 0 && !budget.isConfigured
    if budgetLinks[slot].isLinked != isIdle { return broken("its list and its requests") }
    if budget.isTouched { return broken("touched, and not looked at") }
    for kind in 0..<BudgetRecord.bucketCount where buckets[bucket(slot, kind)].holds != budget.limiting.contains(kind) {
      return broken("whether bucket \(kind) limits")
    }
    if let wrong = checkLease(of: slot) { return broken(wrong) }
    for (index, entry) in budget.queue.entries.enumerated() {
      if queuePositions[Int(entry.slot)] != Int32(index) { return broken("a wrong place in its queue") }
      if entry.key != rank(Int(entry.slot)) { return broken("an old rank") }
    }
    return nil
  }

  /// Its buckets fill as its lease stands, and something will look at it when that ends.
  private func checkLease(of budget: Int) -> String? {
    for index in bucketIndices(budget) {
      let filling = budgets[budget].isShared ? leases[budget].filling : .alone
      if buckets[index].filling != filling { return "a bucket that fills otherwise than its lease says" }
      let level = buckets[index].level(now)
      if buckets[index].holds, level > buckets[index].most + Bucket.tolerance { return "more than there can be" }
    }
    guard budgets[budget].isShared, !isStopped else { return nil }
    if leases[budget].filling == .alone { return "a lease of what is not shared" }
    let due = leaseDeadline(budget)
    guard due != .never else { return nil }
    guard budgetTimerPositions[budget] != IndexedHeap.absent else { return "no timer for its lease" }
    let armed = budgetTimers.key(of: Int32(budget), budgetTimerPositions).major
    return armed > due.nanoseconds ? "its timer is later than its lease" : nil
  }

  private func checkConnection(_ slot: Int) -> String? {
    let connection = connections[slot]
    func broken(_ what: String) -> String { "connection \(slot): \(what)" }
    if connectionLinks[slot].isLinked != (connection.state != .free) { return broken("list and state") }
    if idleLinks[slot].isLinked != connection.isIdle { return broken("idle list and state") }
    let isOriginIdle = connection.isIdle && !connection.isMultiplexed
    if originIdleLinks[slot].isLinked != isOriginIdle { return broken("its origin's idle list and state") }
    if (roomPositions[slot] != IndexedHeap.absent) != hasRoom(slot) { return broken("room and state") }
    if hostDialLinks[slot].isLinked != (connection.isResolving && connection.state == .dialing) {
      return broken("dials of the host and state")
    }
    if connection.state == .free {
      return connectionTimerPositions[slot] != IndexedHeap.absent ? broken("a timer, and no connection") : nil
    }
    if connection.streams != connection.requests.count + connection.hedges.count {
      return broken("\(connection.streams) streams")
    }
    if connection.hedgeFor >= 0, hedges[Int(connection.hedgeFor)].dial != Int32(slot) {
      return broken("dialled for a hedge that has another")
    }
    if connection.isIdle, connection.isRetiring { return broken("idle and retiring") }
    if !connection.isMultiplexed, connection.streams > 1 { return broken("two requests on h1") }
    if connection.identity != identity, connection.state == .dialing || !connection.isRetiring {
      return broken("of another configuration")
    }
    let due = connectionDeadline(slot)
    if due != .never {
      guard connectionTimerPositions[slot] != IndexedHeap.absent else { return broken("no timer") }
      let armed = connectionTimers.key(of: Int32(slot), connectionTimerPositions).major
      if armed > due.nanoseconds { return broken("its timer is late") }
    }
    return nil
  }

  private func checkTimers() -> String? {
    func isHeap(_ heap: IndexedHeap, _ positions: IndexedHeap.Positions) -> Bool {
      for (index, entry) in heap.entries.enumerated() {
        if positions[Int(entry.slot)] != Int32(index) { return false }
        if index > 0, entry.key < heap.entries[(index - 1) / 2].key { return false }
      }
      return true
    }
    if !isHeap(requestTimers, requestTimerPositions) { return "the heap of requests is broken" }
    if !isHeap(connectionTimers, connectionTimerPositions) { return "the heap of connections is broken" }
    if !isHeap(originTimers, originTimerPositions) { return "the heap of origins is broken" }
    if !isHeap(budgetTimers, budgetTimerPositions) { return "the heap of budgets is broken" }
    if !isHeap(byConnections, byConnectionsPositions) { return "the heap by connections is broken" }
    return nil
  }

  /// Lists have the length that they say, and both directions agree.
  private func checkLists() -> String? {
    func isList(_ list: SlotList, _ links: SlotList.Links) -> Bool {
      var count = 0
      var previous = SlotList.none
      var slot = list.first
      while slot != SlotList.none, count <= list.count {
        guard links[Int(slot)].isLinked, links[Int(slot)].previous == previous else { return false }
        previous = slot
        slot = links[Int(slot)].next
        count += 1
      }
      return count == list.count && list.last == previous
    }
    if !isList(waiting, requestLinks) { return "the list of waiters is broken" }
    if !isList(idleBudgets, budgetLinks) { return "the list of idle budgets is broken" }
    if !isList(idle, idleLinks) { return "the list of idle connections is broken" }
    if !isList(blockedWithout, blockedLinks) || !isList(blockedWith, blockedLinks) { return "the blocked lists" }
    for slot in origins.indices where origins[slot].isKnown {
      if !isList(origins[slot].connections, connectionLinks) { return "origin \(slot): list of connections" }
      if !isList(origins[slot].idle, originIdleLinks) { return "origin \(slot): list of idle connections" }
    }
    for slot in hosts.indices {
      if !isList(hosts[slot].dials, hostDialLinks) { return "host \(slot): list of dials" }
      if !isList(hosts[slot].origins, hostOriginLinks) { return "host \(slot): list of origins" }
      if !hosts[slot].dials.isEmpty, !hosts[slot].isResolving { return "host \(slot): dials wait for nothing" }
    }
    for slot in connections.indices where connections[slot].state != .free {
      if !isList(connections[slot].requests, requestLinks) { return "connection \(slot): list of requests" }
      if !isList(connections[slot].hedges, hedgeLinks) { return "connection \(slot): list of hedges" }
    }
    return nil
  }
}

extension Counters {
  /// What exists now, without the history.
  fileprivate var current: [Int] {
    [pending, awaitingBudget, active, backingOff, connecting, inUse, idle, breakersOpen]
  }
  fileprivate var smallest: Int {
    min(
      current.min()!, min(submitted, succeeded, failed, cancelled), min(retries, opened, closed, reused),
      min(hedgesWon, hedges - hedgesWon))
  }
  fileprivate mutating func add(_ other: Counters) {
    pending += other.pending
    awaitingBudget += other.awaitingBudget
    active += other.active
    backingOff += other.backingOff
    connecting += other.connecting
    inUse += other.inUse
    idle += other.idle
    breakersOpen += other.breakersOpen
  }
}
