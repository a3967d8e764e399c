import LLMPoolCore

package struct FleetOptions {
  package var seed: UInt64 = 1
  package var members = 8
  package var budget = BudgetOptions()
  /// Before a grant has told how many they are.
  package var safeShare: Double?
  package var hasStore = true
  /// Nothing is configured: what there is answers tell, as of when their requests came.
  package var isLearned = false
  /// What the provider has at the beginning, as time of its rate.
  package var provided: Nanoseconds = 0
  /// Of a message between a member and the store, in microseconds.
  package var delay = 100...1_000
  /// How often, in a thousand, a message is lost, comes twice, or comes late by so many milliseconds.
  package var lost = 0
  package var doubled = 0
  package var late = 0
  package var lateness = 10...3_000
  package var mutant: Mutant?
  package init() {}
}

/// What a member's application asks for.
package struct Load {
  /// So many requests wait at all times.
  package var backlog = 0
  /// So many come in a second, evenly.
  package var perSecond = 0.0
  package var cost: Int64 = 0
  package var priority: Int32 = 0
  package var duration = Nanoseconds.milliseconds(200)
  package init(backlog: Int = 0, perSecond: Double = 0, cost: Int64 = 0, priority: Int32 = 0) {
    self.backlog = backlog
    self.perSecond = perSecond
    self.cost = cost
    self.priority = priority
  }
}

/// The cores of many processes that share a budget, a store that lends to them, and a provider that counts; no sockets,
/// virtual time, and everything follows from the seed.
package final class Fleet {
  enum Work {
    case timer(Int)
    case comes(Int)
    case demand(Int)
    indirect case asked(Int, FleetStore, LeaseDemand)
    indirect case granted(Int, LeaseGrant)
    indirect case finished(Int, AttemptID, RateReport)
    case call(() -> Void)

    var member: Int? {
      switch self {
      case .timer(let id), .comes(let id), .demand(let id), .granted(let id, _), .finished(let id, _, _): id
      case .asked, .call: nil
      }
    }
  }

  private struct Entry: Comparable {
    var at: Instant
    var order: UInt64
    var work: Work
    static func < (left: Entry, right: Entry) -> Bool {
      left.at != right.at ? left.at < right.at : left.order < right.order
    }
    static func == (left: Entry, right: Entry) -> Bool { left.order == right.order }
  }

  package let options: FleetOptions
  package private(set) var now = Instant(nanoseconds: 1_000_000_000_000)
  /// Members ask the one with their number; nil: nobody answers.
  package var stores: [FleetStore?]
  package private(set) var members: [FleetMember] = []
  package var provider: FleetProvider
  private var random: RandomSource
  private var agenda = Heap<Entry>()
  private var order: UInt64 = 0
  /// What is wrong with a member's core.
  package private(set) var broken: String?
  private var events = 0
  private var inFlight = 0
  /// Of all members together.
  package var mostInFlight = 0

  package init(_ options: FleetOptions) {
    self.options = options
    random = RandomSource(seed: options.seed)
    stores = [FleetStore()]
    provider = FleetProvider(options.budget, options.provided, now)
    for _ in 0..<options.members { join() }
  }

  /// One more process.
  @discardableResult
  package func join() -> Int {
    let member = FleetMember(members.count, options, now)
    members.append(member)
    let share = options.safeShare ?? 1 / Double(options.members)
    tell(member, .budgetShared(.fleet, ShareOptions(safeShare: share, hasStore: options.hasStore)))
    return member.id
  }

  package func view(_ id: Int) -> BudgetView { members[id].core.view(of: .fleet, now: members[id].time(now))! }

  // MARK: What happens to it

  /// From now on; what waits still is given up.
  package func load(_ id: Int, _ load: Load) {
    let member = members[id]
    member.load = Load()
    for request in member.queued.sorted(by: { $0.value < $1.value }) { tell(member, .cancelled(request)) }
    member.load = load
    if load.perSecond > 0 { add(delay(0...Int(1_000 / load.perSecond)), .comes(id)) }
    fill(member)
  }

  /// It does nothing until it is thawed; the clock goes on.
  package func freeze(_ id: Int) { members[id].isFrozen = true }

  package func thaw(_ id: Int) {
    members[id].isFrozen = false
    let missed = members[id].missed
    members[id].missed = []
    for work in missed { add(0, work) }
  }

  /// Its machine sleeps, and its clock does not go on.
  package func suspend(_ id: Int, for time: Nanoseconds) {
    freeze(id)
    add(time) { [self] in
      members[id].behind += time
      tell(members[id], .clockLeapt(time))
      thaw(id)
    }
  }

  /// The next answer to one of its requests asks to be left alone for so long.
  package func refuse(_ id: Int, _ pause: Nanoseconds) { members[id].refusal = pause }

  package func kill(_ id: Int) { members[id].isAlive = false }

  package func add(_ time: Nanoseconds, _ call: @escaping () -> Void) { add(time, .call(call)) }

  private func add(_ time: Nanoseconds, _ work: Work) {
    order += 1
    agenda.push(Entry(at: now + max(0, time), order: order, work: work))
  }

  // MARK: Time

  package func run(_ time: Nanoseconds) {
    let end = now + time
    while let first = agenda.first, first.at <= end, broken == nil {
      agenda.pop()
      now = max(now, first.at)
      perform(first.work)
    }
    now = end
  }

  private func perform(_ work: Work) {
    if let id = work.member {
      guard members[id].isAlive else { return }
      if members[id].isFrozen { return members[id].missed.append(work) }
    }
    switch work {
    case .timer(let id):
      // Else another has taken its place.
      guard members[id].armedAt <= members[id].time(now) else { return }
      members[id].armedAt = .never
      tell(members[id], nil)
    case .comes(let id):
      guard members[id].load.perSecond > 0 else { return }
      submit(members[id])
      add(Nanoseconds(1e9 / members[id].load.perSecond), .comes(id))
    case .demand(let id): ask(members[id])
    case .asked(let id, let store, let demand):
      guard stores.contains(where: { $0 === store }) else { return }
      post(.granted(id, store.ask(id, demand, at: now)))
    case .granted(let id, let grant):
      tell(members[id], .leaseGranted(.fleet, grant))
      checkLease(members[id])
    case .finished(let id, let attempt, let report): answer(members[id], attempt, report)
    case .call(let call): call()
    }
  }

  private func answer(_ member: FleetMember, _ attempt: AttemptID, _ report: RateReport) {
    if options.isLearned {
      tell(member, .limitsTold(attempt, report))
      tell(member, .answered(attempt, httpStatus: 200, .none))
    }
    if let pause = member.refusal {
      member.refusal = nil
      tell(member, .answered(attempt, httpStatus: 429, RetryAdvice(retryAfter: pause)))
    }
    inFlight -= 1
    tell(member, .finished(attempt, .success, reusable: true))
  }

  /// It runs from the moment at which it was asked for.
  private func checkLease(_ member: FleetMember) {
    let share = view(member.id).share!
    guard share.isLeased, share.validFor > member.askedAt + FleetStore.lease - now else { return }
    broken = broken ?? "a lease of \(share.validFor) ns, asked for \(now - member.askedAt) ns ago"
  }

  private func chance(_ perMille: Int) -> Bool { perMille > 0 && Int.random(in: 0..<1_000, using: &random) < perMille }
  private func delay(_ milliseconds: ClosedRange<Int>) -> Nanoseconds {
    Nanoseconds(Int.random(in: milliseconds, using: &random)) * 1_000_000
  }

  private func post(_ work: Work) {
    for _ in 0..<(chance(options.doubled) ? 2 : 1) where !chance(options.lost) {
      let late = chance(options.late) ? delay(options.lateness) : 0
      add(Nanoseconds(Int.random(in: options.delay, using: &random)) * 1_000 + late, work)
    }
  }

  // MARK: Members

  private func ask(_ member: FleetMember) {
    member.asks += 1
    guard let demand = member.core.askForLease(.fleet, now: member.time(now)) else { return }
    member.askedAt = now
    arm(member)
    guard let store = stores[min(member.store, stores.count - 1)] else { return }
    post(.asked(member.id, store, demand))
  }

  private func tell(_ member: FleetMember, _ event: Event?) {
    var actions: [Action] = []
    if let event {
      member.core.handle(event, now: member.time(now), into: &actions)
    } else {
      member.core.advance(to: member.time(now), into: &actions)
    }
    events += 1
    if events % 64 == 0, members.count < 100 { broken = broken ?? member.core.checkInvariants() }
    for action in actions { react(member, action) }
    arm(member)
    fill(member)
  }

  private func arm(_ member: FleetMember) {
    guard let due = member.core.nextDeadline, due < member.armedAt else { return }
    member.armedAt = due
    add(due - member.time(now), .timer(member.id))
  }

  private func react(_ member: FleetMember, _ action: Action) {
    switch action {
    case .dial(let id, _, _, _):
      tell(member, .dialed(id, .http2, nil))
      tell(member, .settings(id, maxStreams: .max))
    case .admitted(let id): member.queued.remove(id)
    case .send(let attempt, let id, _, _):
      let cost = member.costs.removeValue(forKey: id)!
      member.sent += 1
      member.spent += cost.input
      provider.take(cost, now)
      inFlight += 1
      mostInFlight = max(mostInFlight, inFlight)
      add(member.load.duration, .finished(member.id, attempt, provider.report))
    case .complete(let id, let completion):
      member.freeSlots.append(id.slot)
      member.queued.remove(id)
      member.costs[id] = nil
      if let failure = completion.failure, failure != .cancelled { member.failed += 1 }
    case .leaseWanted:
      // They have not all begun in one moment.
      let phase = member.asks == 0 ? delay(0...100) : 0
      add(Nanoseconds(Int.random(in: options.delay, using: &random)) * 1_000 + phase, .demand(member.id))
    default: break
    }
  }

  private func fill(_ member: FleetMember) {
    guard member.isAlive, !member.isFrozen, !member.isFilling else { return }
    member.isFilling = true
    while member.queued.count < member.load.backlog { submit(member) }
    member.isFilling = false
  }

  private func submit(_ member: FleetMember) {
    tell(member, member.request(now))
  }
}

extension BudgetID {
  package static var fleet: BudgetID { BudgetID(slot: 0) }
}
