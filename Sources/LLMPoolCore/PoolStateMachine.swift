/// The mind of the pool: which request gets which connection when, what is dialled, what is closed, what is tried
/// again and what has taken too long. A value that is told events and answers with actions; it knows no clock, no
/// bytes, no sockets and no locks, so that every decision can be replayed from a seed.
///
/// Every operation is O(log n) in requests, connections and origins, except where a dial that many waiters count
/// on fails, a pool is reconfigured or closed: these touch each of them once.
public struct PoolStateMachine: ~Copyable, Sendable {
  /// Makes it a value that lives in memory: else the compiler (Swift 6.3) loads and stores all of it, a thousand bytes,
  /// for each call of a function that only looks at it.
  private let inMemory: (any Sendable)? = nil
  public internal(set) var options: PoolOptions
  public internal(set) var counters = Counters()
  public internal(set) var reasons = ReasonCounts()

  var random: RandomSource
  var now = Instant(nanoseconds: .min)
  /// The caller's buffer while an event is handled.
  var actions: [Action] = []

  var requests = ContiguousArray<RequestRecord>()
  var connections = ContiguousArray<ConnectionRecord>()
  var origins = ContiguousArray<OriginRecord>()
  var hosts = ContiguousArray<HostRecord>()
  var freeConnections: [Int32] = []

  /// Deadlines. An entry may be earlier than the true deadline, never later: it is looked at again when due.
  var requestTimers = IndexedHeap()
  var connectionTimers = IndexedHeap()
  var originTimers = IndexedHeap()
  var requestTimerPositions = IndexedHeap.Positions()
  var connectionTimerPositions = IndexedHeap.Positions()
  var originTimerPositions = IndexedHeap.Positions()

  var queuePositions = IndexedHeap.Positions()
  var roomPositions = IndexedHeap.Positions()
  /// Origins by the number of their connections, the most first.
  var byConnections = IndexedHeap()
  var byConnectionsPositions = IndexedHeap.Positions()
  /// A request is either in `waiting` or on a connection.
  var requestLinks = SlotList.Links()
  var connectionLinks = SlotList.Links()
  var idleLinks = SlotList.Links()
  var originIdleLinks = SlotList.Links()
  var hostDialLinks = SlotList.Links()
  var hostOriginLinks = SlotList.Links()
  var blockedLinks = SlotList.Links()

  /// Every pending request of the pool, the longest waiting first; for the notices.
  var waiting = SlotList()
  /// Every idle connection, the least recently used first.
  var idle = SlotList()
  /// Origins that wait at the total limit: those without a connection are served first.
  var blockedWithout = SlotList()
  var blockedWith = SlotList()

  /// Origins that lost a connection, maybe to another origin, and have waiters who may dial now.
  var unserved: [Int32] = []

  var budgets = ContiguousArray<BudgetRecord>()
  /// Those of each budget, one after the other.
  var buckets = ContiguousArray<Bucket>()
  /// By the slots of requests, as far as they have had budgets.
  var uses = ContiguousArray<BudgetUse>()
  var openDebits = ContiguousArray<OpenDebit>()
  var budgetTimers = IndexedHeap()
  var budgetTimerPositions = IndexedHeap.Positions()
  /// Budgets that are only named and have no request, those first that have had none for longest.
  var idleBudgets = SlotList()
  var budgetLinks = SlotList.Links()
  var knownBudgets = 0
  var touchedBudgets: [Int32] = []
  /// By the slots of budgets, as far as they have been shared.
  var leases = ContiguousArray<Lease>()
  var loans = ContiguousArray<Loan>()
  /// How budgets that are named from now on are shared.
  var shareOfNew: ShareOptions?
  var nextLease: UInt64 = 0

  /// By the slots of requests, as far as they have asked for hedges.
  var hedges = ContiguousArray<Hedge>()
  var hedgeLinks = SlotList.Links()
  var hedgeShare = HedgeShare()

  var nextOrder: UInt64 = 1
  var nextSequence: UInt32 = 1
  var identity: UInt32 = 1
  var retryBudget = RetryBudget()
  var watched: NoticeMask = []
  var isUtilizationHigh = false
  var closeDeadline: Instant?
  var isStopped = false
  /// Origins whose counts have changed since somebody asked.
  /// The first touchedCount of them.
  var touchedOrigins: [Int32] = []
  var touchedCount = 0
  #if MUTANTS
    var mutant: Mutant?
  #endif

  public init(options: PoolOptions, seed: UInt64) {
    self.options = options
    random = RandomSource(seed: seed)
  }

  /// Takes one event and appends what must be done to `actions`. `now` never goes back.
  public mutating func handle(_ event: Event, now: Instant, into actions: inout [Action]) {
    begin(now, &actions)
    dispatch(event)
    end(&actions)
  }

  /// As `handle` does with `.progressed`, of which each request has several: without an event, which is as large as the
  /// largest kind, and without a look at what it cannot have changed.
  public mutating func progressed(_ attempt: AttemptID, _ phase: Phase, now: Instant) {
    if now > self.now { self.now = now }
    if let slot = live(attempt) { progressed(slot, phase) } else { tellHedge(.progressed(attempt, phase)) }
    assert(actions.isEmpty && unserved.isEmpty && touchedBudgets.isEmpty)
  }

  /// Does everything that is due.
  public mutating func advance(to now: Instant, into actions: inout [Action]) {
    begin(now, &actions)
    fireTimers()
    end(&actions)
  }

  /// When `advance` has something to do; nil only if nothing waits. May be early, never late.
  public var nextDeadline: Instant? {
    if isStopped { return nil }
    var earliest = Int64.max
    if let first = requestTimers.first { earliest = min(earliest, first.key.major) }
    if let first = connectionTimers.first { earliest = min(earliest, first.key.major) }
    if let first = originTimers.first { earliest = min(earliest, first.key.major) }
    if let first = budgetTimers.first { earliest = min(earliest, first.key.major) }
    if let closeDeadline { earliest = min(earliest, closeDeadline.nanoseconds) }
    return earliest == .max ? nil : Instant(nanoseconds: earliest)
  }

  /// The counts of one origin; nil where the pool does not know it.
  public func counters(of origin: OriginID) -> Counters? {
    let slot = Int(origin.slot)
    return slot < origins.count && origins[slot].isKnown ? origins[slot].counters : nil
  }

  @inline(__always) private mutating func begin(_ now: Instant, _ actions: inout [Action]) {
    if now > self.now { self.now = now }
    swap(&self.actions, &actions)
  }

  @inline(__always) private mutating func end(_ actions: inout [Action]) {
    while true {
      if let origin = unserved.popLast() {
        settle(origin)
      } else if let budget = touchedBudgets.popLast() {
        pump(budget)
      } else {
        break
      }
    }
    noteUtilization()
    stopIfEmpty()
    swap(&self.actions, &actions)
  }

  private mutating func dispatch(_ event: Event) {
    switch event {
    case .submitted(let id, let origin, let options): submit(id, origin.slot, options)
    case .cancelled(let id): cancel(id)
    case .bodyConsumed(let id): if let slot = live(id) { bodyConsumed(slot) }
    case .warm(let origin, let count): warm(origin.slot, count)
    case .reconfigured(let options, let identityChanged): reconfigure(options, identityChanged)
    case .watching(let mask): watched = mask
    case .closing(let deadline): close(deadline)
    case .originAdded(let origin, let host, let isTLS): addOrigin(origin.slot, host, isTLS)
    case .resolved(let host, let addresses): resolved(Int(host.slot), addresses)
    case .resolveFailed(let host): resolveFailed(Int(host.slot))
    case .dialed(let id, let version, let address): if let slot = liveDial(id) { dialed(slot, version, address) }
    case .dialFailed(let id, let failure): if let slot = liveDial(id) { dialFailed(slot, failure) }
    case .settings(let id, let maxStreams): if let slot = live(id) { settings(slot, maxStreams) }
    case .goAway(let id): if let slot = live(id) { goAway(slot) }
    case .received(let id): if let slot = live(id) { received(slot) }
    case .keepAlive(let id, let limit): if let slot = live(id) { keepAlive(slot, limit) }
    case .resetsHeld(let id): if let slot = live(id) { resetsHeld(slot) }
    case .connectionClosed(let id, let reason): if let slot = live(id) { connectionClosed(slot, reason) }
    case .progressed(let attempt, let phase):
      if let slot = live(attempt) { progressed(slot, phase) } else { tellHedge(event) }
    case .answered(let attempt, let status, let advice):
      if let slot = live(attempt) { answered(slot, status, advice) } else { tellHedge(event) }
    case .finished(let attempt, let outcome, let reusable):
      if let slot = live(attempt) { finished(slot, outcome, reusable) } else { tellHedge(event) }
    case .limitsTold(let attempt, let report):
      if let slot = live(attempt) { told(slot, report) } else { tellHedge(event) }
    case .budgetNamed(let id): addBudget(id)
    case .budgetConfigured(let id, let options): configureBudget(id, options)
    case .settled(let id, let input, let output): settled(id, input: input, output: output)
    case .budgetShared(let id, let share): shareBudget(id, share)
    case .leaseGranted(let id, let grant): granted(id, grant)
    case .clockLeapt(let time): clockLeapt(time)
    }
  }

  // MARK: Names that may be out of date

  func live(_ id: RequestID) -> Int? {
    let slot = id.slot
    return slot < requests.count && requests[slot].id == id && requests[slot].state != .free ? slot : nil
  }

  func live(_ id: AttemptID) -> Int? {
    let slot = Int(id.slot)
    guard slot < requests.count, requests[slot].state == .active else { return nil }
    return requests[slot].attempt.sequence == id.sequence || isMutant(.staleAttempt) ? slot : nil
  }

  func live(_ id: ConnectionID) -> Int? {
    let slot = Int(id.slot)
    guard slot < connections.count, connections[slot].generation == id.generation else { return nil }
    return connections[slot].state != .free ? slot : nil
  }

  /// A connection that the engine was told to dial and has not answered for.
  func liveDial(_ id: ConnectionID) -> Int? {
    live(id).flatMap { connections[$0].state == .dialing && !connections[$0].isResolving ? $0 : nil }
  }

  func connectionID(_ slot: Int) -> ConnectionID {
    ConnectionID(slot: Int32(slot), generation: connections[slot].generation)
  }

  // MARK: Counting

  /// Changes the pool's count and the origin's alike.
  @inline(__always) mutating func count(_ origin: Int32, _ change: (inout Counters) -> Void) {
    change(&counters)
    change(&origins[Int(origin)].counters)
    if !origins[Int(origin)].isTouched {
      origins[Int(origin)].isTouched = true
      // Not emptied by removeAll(), which costs more than all this.
      if touchedCount < touchedOrigins.count {
        touchedOrigins[touchedCount] = origin
      } else {
        touchedOrigins.append(origin)
      }
      touchedCount += 1
    }
  }

  public var hasTouchedOrigins: Bool { touchedCount > 0 }

  /// Calls `body` with each origin whose counts have changed since the last call, and its reasons where they have, too.
  /// The counts are not copied for it: it is called each turn.
  public mutating func takeTouchedOrigins(_ body: (OriginID, UnsafePointer<Counters>, ReasonCounts?) -> Void) {
    for index in 0..<touchedCount {
      let origin = touchedOrigins[index]
      origins[Int(origin)].isTouched = false
      let reasons = origins[Int(origin)].hasNewReasons ? origins[Int(origin)].reasons : nil
      origins[Int(origin)].hasNewReasons = false
      withUnsafePointer(to: &origins[Int(origin)].counters) { body(OriginID(slot: origin), $0, reasons) }
    }
    touchedCount = 0
  }
}
