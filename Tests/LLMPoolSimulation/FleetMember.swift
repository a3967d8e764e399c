import LLMPoolCore

/// A process of a fleet: a core, and what its application asks for.
package final class FleetMember {
  package let id: Int
  package var core: PoolStateMachine
  package var load = Load()
  package var store = 0
  package var isAlive = true
  package var isFrozen = false
  /// How far its clock is behind, as its machine has slept.
  var behind: Nanoseconds = 0
  /// Its requests are being submitted.
  var isFilling = false
  var armedAt = Instant.never
  var missed: [Fleet.Work] = []
  var askedAt = Instant(nanoseconds: 0)
  var refusal: Nanoseconds?
  /// Requests that wait for the budget.
  var queued: Set<RequestID> = []
  package var sent = 0
  package var spent: Int64 = 0
  package var failed = 0
  package var asks = 0
  var costs: [RequestID: Cost] = [:]
  var freeSlots: [Int] = []
  private var slots = 0
  private var serial: UInt64 = 0

  init(_ id: Int, _ options: FleetOptions, _ now: Instant) {
    self.id = id
    var pool = PoolOptions()
    pool.httpVersions = .http2
    pool.pingInterval = .max
    pool.maxConnections = .max
    pool.maxPendingRequests = .max
    pool.maxStreamsPerConnection = .max
    pool.timeouts = .init(all: .max)
    pool.timeouts.budget = .seconds(10_000)
    core = PoolStateMachine(options: pool, seed: options.seed &+ UInt64(id))
    if let mutant = options.mutant { core.activate(mutant) }
    var actions: [Action] = []
    core.handle(.originAdded(OriginID(slot: 0), nil, isTLS: false), now: now, into: &actions)
    let event: Event = options.isLearned ? .budgetNamed(.fleet) : .budgetConfigured(.fleet, options.budget)
    core.handle(event, now: now, into: &actions)
  }

  func time(_ now: Instant) -> Instant { now + -behind }

  /// The next of its requests comes.
  func request(_ now: Instant) -> Event {
    let slot: Int
    if let free = freeSlots.popLast() {
      slot = free
    } else {
      slot = slots
      slots += 1
    }
    serial += 1
    let id = RequestID(serial: serial, slot: slot)
    var options = RequestOptions(submittedAt: time(now))
    options.priority = load.priority
    options.budget = .fleet
    options.inputCost = load.cost
    queued.insert(id)
    costs[id] = Cost(requests: 1, input: load.cost, output: 0)
    return .submitted(id, OriginID(slot: 0), options)
  }
}
