import LLMPoolCore

/// The store that lends a budget to the members of a fleet: what a connector's script decides, with its numbers, in
/// O(log n) an ask.
///
/// Requests are whole, so turns are lent: parts, of which none is enough for a request, would lie with the members.
/// What is saved up for a large request lies in the store, and the member that has been given least has the next turn;
/// all its limits at once, else some would hold the requests and others the tokens.
package final class FleetStore {
  struct Key: Hashable, Comparable {
    var unit: BudgetUnit
    var told: ToldLimit?
    /// Of a configured one. That of a told one is learned, and moves.
    var window: Nanoseconds
    init(_ limit: LeaseDemand.Limit) {
      unit = limit.unit
      told = limit.told
      window = limit.told == nil ? limit.window : 0
    }

    private var order: (UInt8, UInt8, Nanoseconds) { (unit.rawValue, told.map { $0.rawValue + 1 } ?? 0, window) }
    static func < (left: Key, right: Key) -> Bool { left.order < right.order }
  }

  private struct Limit {
    var amount: Int64 = 0
    var window: Nanoseconds = 1
    var capacity = 0.0
    /// Nobody's: `free`. A member's that has not asked for it yet: `allotted`. Lent, as far as is known: `held`.
    var free = 0.0
    var allotted = 0.0
    var held = 0.0
    var at: Instant
    var createdAt: Instant
    /// What members have said that they consumed, in the window that began then, and in the one before.
    var consumed = 0.0
    var consumedBefore = 0.0
    var windowAt: Instant
    /// By how many members each amount is configured, and in how long what may be spent at once comes back; the
    /// smallest holds.
    var amounts: [Int64: Int] = [:]
    var bursts: [Nanoseconds: Int] = [:]
    /// Of one with a long window in a new store: what is there after a lease, less what members say that they spent.
    var begin: Double?

    var rate: Double { Double(amount) / Double(window) }
    var room: Double { capacity - free - allotted - held }

    /// A whole one at least, as requests are whole.
    mutating func setLeast() {
      guard let least = amounts.keys.min(), let burst = bursts.keys.min() else { return }
      amount = least
      capacity = max(1, (rate * Double(burst) - 1e-6).rounded(.up))
    }

    mutating func count(_ loan: Loan, by change: Int) {
      amounts[loan.amount] = (amounts[loan.amount, default: 0] + change).nonZero
      bursts[loan.burst] = (bursts[loan.burst, default: 0] + change).nonZero
    }
  }

  private struct Loan {
    /// Lent, as of the last ask, with what was granted then.
    var out = 0.0
    var spent: Int64 = 0
    var amount: Int64 = 0
    var burst: Nanoseconds = 0
    var allotted = 0.0
    /// By class: what it has of what is wanted, and what is wanted beyond that.
    var met: [Double] = [0, 0, 0]
    var unmet: [Double] = [0, 0, 0]
    /// What one request costs.
    var least = 1.0
    /// Beyond what is wanted, of what it holds.
    var surplus = 0.0
  }

  private struct Member {
    var until: Instant
    var sequence: UInt64 = 0
    var loans: [Key: Loan] = [:]
    /// What it has been given, as time in which the whole limit gives as much.
    var served = 0.0
    /// The class in whose queue it stands; 3: it stands in none.
    var rank = 3
    /// Of its entry there: others are old.
    var ticket: UInt64 = 0
    /// Since when it lets others go first, as it lacks what they hold.
    var passedAt: Instant?
    var places = 0
    var inFlight = 0
    var isHungry = false
    var maxConcurrent = Int.max
    var hasPlaces = false

    var used: Int { max(places, inFlight) }
  }

  private struct Turn: Comparable {
    var served: Double
    var ticket: UInt64
    var member: Int
    static func < (left: Turn, right: Turn) -> Bool {
      left.served != right.served ? left.served < right.served : left.ticket < right.ticket
    }
  }

  package static var lease: Nanoseconds { .seconds(2) }
  private var limits: [Key: Limit] = [:]
  private var members: [Int: Member] = [:]
  private var queues = [Heap<Turn>(), Heap<Turn>(), Heap<Turn>()]
  private var waiting = [0, 0, 0]
  /// By class: what the last that had its turn had been given before.
  private var turn = [0.0, 0.0, 0.0]
  private var nextTicket: UInt64 = 0
  /// What those whose time is over had been lent, for ten leases: they may come back, and have spent their shares.
  private var gone: [Int: (since: Instant, loans: [Key: Loan])] = [:]
  /// In the order of their ends; entries of those that have asked since are old.
  private var ends: [(until: Instant, member: Int)] = []
  private var firstEnd = 0
  private var stoppedUntil = Instant(nanoseconds: 0)
  /// The most members that one has known.
  private var membersKnown = 0
  /// Those that live, with the one that asks.
  private var alive = 0
  private var usedPlaces = 0
  private var hungryPlaces = 0
  private var hungry = 0
  private var concurrency: [Int: Int] = [:]
  package private(set) var asks = 0

  package init() {}

  package var memberCount: Int { members.count }

  // MARK: An ask

  package func ask(_ id: Int, _ demand: LeaseDemand, at now: Instant) -> LeaseGrant {
    asks += 1
    dropDead(now)
    var member = members.removeValue(forKey: id) ?? Member(until: now)
    alive = members.count + 1
    leavePlaces(member)
    // One that was overtaken says nothing new.
    if demand.sequence > member.sequence || member.loans.isEmpty {
      member.sequence = demand.sequence
      take(id, &member, demand, now)
    }
    member.until = now + FleetStore.lease
    ends.append((member.until, id))
    members[id] = member
    queue(id)
    distribute(now)
    let granted = collect(id, demand, now)
    let places = givePlaces(id, demand)
    return LeaseGrant(
      sequence: demand.sequence, validFor: FleetStore.lease, members: members.count, places: places,
      stoppedFor: max(0, stoppedUntil - now), limits: granted)
  }

  private func take(_ id: Int, _ member: inout Member, _ demand: LeaseDemand, _ now: Instant) {
    membersKnown = max(membersKnown, demand.members)
    if demand.stoppedFor > 0 { stoppedUntil = max(stoppedUntil, now + min(demand.stoppedFor, .seconds(600))) }
    var old = member.loans
    let before = gone.removeValue(forKey: id)?.loans ?? [:]
    member.loans = [:]
    for limit in demand.limits {
      let key = Key(limit)
      var loan = old.removeValue(forKey: key)
      know(key, limit, loan, now)
      account(key, limit, &loan, gone: before[key])
      fold(key, limit.remaining, now)
      want(key, limit, &loan!)
      member.loans[key] = loan
    }
    // Of a limit that it does not know any more.
    for (key, loan) in old { drop(key, loan, isGivenBack: true) }
  }

  /// Of a configured limit the smallest amount and the smallest burst hold, of a told one the latest.
  private func know(_ key: Key, _ told: LeaseDemand.Limit, _ loan: Loan?, _ now: Instant) {
    if limits[key] == nil {
      limits[key] = Limit(at: now, createdAt: now, windowAt: now)
      if key.told == nil, told.window >= FleetStore.longWindow { limits[key]!.begin = Double(told.capacity) }
    }
    tick(key, now)  // at the rate of before
    if key.told == nil {
      if let loan { limits[key]!.count(loan, by: -1) }
      limits[key]!.count(Loan(amount: told.amount, burst: FleetStore.burst(of: told)), by: 1)
      limits[key]!.window = told.window
      limits[key]!.setLeast()
    } else if told.remaining != nil || limits[key]!.amount == 0 {
      limits[key]!.amount = told.amount
      limits[key]!.window = told.window
      limits[key]!.capacity = Double(told.capacity)
    }
  }

  private static func burst(of limit: LeaseDemand.Limit) -> Nanoseconds {
    Nanoseconds((Double(limit.capacity) * Double(limit.window) / Double(limit.amount)).rounded())
  }

  /// Of a limit with so long a window a new store takes all to be there but what members say that they spent.
  private static var longWindow: Nanoseconds { .seconds(3_600) }

  /// What has come back. A new store takes those that it does not know yet to spend their safe shares for one lease.
  private func tick(_ key: Key, _ now: Instant) {
    var limit = limits[key]!
    var share = 1.0
    if limit.createdAt + FleetStore.lease > now {
      if membersKnown > 0 { share = min(1, Double(alive) / Double(membersKnown)) }
    } else if let begin = limit.begin {
      limit.free += max(0, min(begin, limit.room))
      limit.begin = nil
    }
    if stoppedUntil <= now { limit.free += max(0, min(limit.rate * Double(now - limit.at) * share, limit.room)) }
    limit.at = max(limit.at, now)
    limits[key] = limit
  }

  /// What was lent is spent, is still there, or comes back. One that is not known has what it says.
  private func account(_ key: Key, _ told: LeaseDemand.Limit, _ loan: inout Loan?, gone: Loan?) {
    let held = Double(told.held)
    if let known = loan {
      let consumed = Double(told.spent &- known.spent)
      limits[key]!.consumed += max(0, consumed)
      limits[key]!.free += known.out - consumed - held
      limits[key]!.held += held - known.out
    } else {
      loan = Loan()
      limits[key]!.held += held
      if let gone { charge(key, gone.out - Double(told.spent &- gone.spent) - held) }
      if let begin = limits[key]!.begin { limits[key]!.begin = begin - max(0, Double(told.spent) + held) }
    }
    loan!.out = held
    loan!.spent = told.spent
    loan!.amount = told.amount
    loan!.burst = FleetStore.burst(of: told)
    pay(key, &loan!)
    limits[key]!.free = min(limits[key]!.free, limits[key]!.capacity - limits[key]!.allotted - limits[key]!.held)
  }

  /// Who spent more than it was lent is lent that at once: it is gone, so that all wait until it has come back.
  private func pay(_ key: Key, _ loan: inout Loan) {
    let debt = max(0, -loan.out - loan.allotted)
    limits[key]!.free -= debt
    limits[key]!.allotted += debt
    loan.allotted += debt
  }

  /// Of one that was gone: it may have been for long, and all do not stand still for that.
  private func charge(_ key: Key, _ back: Double) {
    let free = limits[key]!.free
    limits[key]!.free = max(free + back, min(free, -limits[key]!.rate * Double(FleetStore.lease)))
  }

  /// What the provider says is left: less at once, more by and by. What was consumed in the last half minute may be in
  /// it still.
  private func fold(_ key: Key, _ remaining: Int64?, _ now: Instant) {
    if limits[key]!.windowAt + FleetStore.window <= now {
      limits[key]!.consumedBefore = limits[key]!.consumed
      limits[key]!.consumed = 0
      limits[key]!.windowAt = now
    }
    guard let remaining else { return }
    let limit = limits[key]!
    let own = limit.free + limit.allotted
    let most = own + limit.held + limit.consumed + limit.consumedBefore + limit.rate * 2e9
    if Double(remaining) < own {
      limits[key]!.free -= own - Double(remaining)
    } else if Double(remaining) > most {
      let whole = limit.capacity - limit.allotted - limit.held
      limits[key]!.free = min(limit.free + (Double(remaining) - most) / 2, whole)
    }
  }

  /// Longer than a head of which is told, and an ask, may take together.
  private static var window: Nanoseconds { .seconds(32) }

  /// What it has, and what was put by for it, is there for the high first.
  private func want(_ key: Key, _ limit: LeaseDemand.Limit, _ loan: inout Loan) {
    var have = Double(limit.held) + loan.allotted
    loan.least = max(1, Double(limit.least))
    for (rank, wanted) in [limit.wantedHigh, limit.wanted, limit.wantedLow].enumerated() {
      loan.met[rank] = min(have, Double(wanted))
      loan.unmet[rank] = Double(wanted) - loan.met[rank]
      have -= loan.met[rank]
    }
    loan.surplus = have
    let back = min(loan.allotted, max(0, loan.surplus - Double(limit.expected))).rounded(.down)
    loan.allotted -= back
    loan.surplus -= back
    limits[key]!.allotted -= back
    limits[key]!.free += back
  }

  // MARK: Turns

  /// In the queue of its highest class in which something is lacking.
  private func queue(_ id: Int) {
    let rank = (0..<3).first { rank in members[id]!.loans.values.contains { $0.unmet[rank] > 0 } } ?? 3
    guard rank != members[id]!.rank else { return }
    leaveQueue(id)
    guard rank < 3 else { return }
    members[id]!.served = max(members[id]!.served, turn[rank])
    members[id]!.rank = rank
    waiting[rank] += 1
    push(id)
  }

  private func push(_ id: Int) {
    nextTicket += 1
    members[id]!.ticket = nextTicket
    queues[members[id]!.rank].push(Turn(served: members[id]!.served, ticket: nextTicket, member: id))
  }

  private func leaveQueue(_ id: Int) {
    if members[id]!.rank < 3 { waiting[members[id]!.rank] -= 1 }
    members[id]!.rank = 3
    members[id]!.ticket = 0
  }

  /// Who has the next turn: of the highest class the one that has been given least.
  private func next() -> Turn? {
    for rank in queues.indices {
      while let first = queues[rank].first {
        if members[first.member]?.ticket == first.ticket { return first }
        queues[rank].pop()
      }
    }
    return nil
  }

  private static var turnsAtOnce: Int { 16 }

  private func distribute(_ now: Instant) {
    if stoppedUntil > now {
      for (key, limit) in limits where limit.capacity <= limit.rate * Double(FleetStore.longestDrained) {
        limits[key]!.free = min(limit.free, 0)
      }
      return
    }
    var passed: [Turn] = []
    var blocked: Set<Key> = []
    turns: for _ in 0..<FleetStore.turnsAtOnce {
      guard let entry = next() else { break }
      switch gifts(entry.member, blocked, now) {
      case .are(let gifts): give(entry.member, gifts)
      case .areSavedUp: break turns
      case .areLentOut(let key):
        letPass(entry.member, key, &blocked, now)
        queues[members[entry.member]!.rank].pop()
        passed.append(entry)
      }
    }
    for entry in passed { queues[members[entry.member]!.rank].push(entry) }
  }

  /// What takes longer to come back a stop does not empty: it is not what a provider means by it.
  private static var longestDrained: Nanoseconds { .seconds(61) }

  /// Who lacks what others hold lets them go first, as they may lack something else. Of that limit they are given
  /// nothing meanwhile, or they would hold it for ever; but for a turn now and then, for those that hold too little for
  /// a request.
  private func letPass(_ id: Int, _ key: Key, _ blocked: inout Set<Key>, _ now: Instant) {
    let since = members[id]!.passedAt ?? now
    if since + FleetStore.patience < now {
      members[id]!.passedAt = now
    } else {
      members[id]!.passedAt = since
      blocked.insert(key)
    }
  }

  private static var patience: Nanoseconds { 2 * lease }

  private enum Gifts {
    case are([(key: Key, amount: Double)])
    /// Something is not there yet.
    case areSavedUp
    /// Something cannot come, as all of that limit is lent to others, or it is blocked.
    case areLentOut(Key)
  }

  /// What is lacking for one more request, and for as many as a fair part of the scarcest limit is enough for: of what
  /// it has more of than of another it is given none, as that would lie there.
  private func gifts(_ id: Int, _ blocked: Set<Key>, _ now: Instant) -> Gifts {
    let rank = members[id]!.rank
    // In one order, so that a run can be repeated.
    let lacking = members[id]!.loans.filter { $0.value.unmet[rank] > 0 }.sorted { $0.key < $1.key }
    var covered = Double.infinity
    var requests = Double.infinity
    for (key, loan) in lacking {
      tick(key, now)
      let share = blocked.contains(key) ? 0 : limits[key]!.free / Double(waiting[rank])
      covered = min(covered, (loan.met[rank] / loan.least).rounded(.down))
      requests = min(requests, ((loan.met[rank] + share) / loan.least).rounded(.down))
    }
    requests = max(covered + 1, requests)
    var gifts: [(key: Key, amount: Double)] = []
    for (key, loan) in lacking {
      let need = min(loan.unmet[rank], (covered + 1) * loan.least - loan.met[rank])
      if need > 0, blocked.contains(key) { return .areLentOut(key) }
      let limit = limits[key]!
      guard limit.free >= FleetStore.enough(for: need, covered, loan, limit) else {
        return limit.room < 1e-6 ? .areLentOut(key) : .areSavedUp
      }
      gifts.append((key, max(0, min(loan.unmet[rank], requests * loan.least - loan.met[rank]))))
    }
    return .are(gifts)
  }

  /// How much must be there. For one request of more than half of what there ever is the others' remainders, too small
  /// for theirs, are not waited for; for one of more than all of it, as where others know less, no more than all.
  private static func enough(for need: Double, _ covered: Double, _ loan: Loan, _ limit: Limit) -> Double {
    if covered > 0 || loan.least <= limit.capacity / 2 { return need - 1e-6 }
    return min(need, limit.capacity - loan.out - loan.allotted) - limit.capacity / 10
  }

  private func give(_ id: Int, _ gifts: [(key: Key, amount: Double)]) {
    var member = members[id]!
    let rank = member.rank
    var time = 0.0
    for (key, amount) in gifts {
      limits[key]!.free -= amount
      limits[key]!.allotted += amount
      member.loans[key]!.allotted += amount
      member.loans[key]!.met[rank] += amount
      member.loans[key]!.unmet[rank] -= amount
      time = max(time, amount / limits[key]!.rate)
    }
    turn[rank] = max(turn[rank], member.served)
    member.served += time
    member.passedAt = nil
    members[id] = member
    if member.loans.values.contains(where: { $0.unmet[rank] > 0 }) { push(id) } else { queue(id) }
  }

  /// What was put by for it, and, where nobody waits, what it may need soon.
  private func collect(_ id: Int, _ demand: LeaseDemand, _ now: Instant) -> [LeaseGrant.Limit] {
    let isQuiet = waiting.allSatisfy { $0 == 0 } && stoppedUntil <= now
    return demand.limits.map { limit in
      let key = Key(limit)
      var granted = 0.0
      if stoppedUntil <= now {
        granted = members[id]!.loans[key]!.allotted.rounded(.down)
        members[id]!.loans[key]!.allotted -= granted
        limits[key]!.allotted -= granted
      }
      if isQuiet {
        let lacking = max(0, Double(limit.expected) - members[id]!.loans[key]!.surplus)
        let extra = min(lacking, max(0, limits[key]!.free.rounded(.down)))
        limits[key]!.free -= extra
        granted += extra
      }
      members[id]!.loans[key]!.out += granted
      limits[key]!.held += granted
      return LeaseGrant.Limit(
        unit: limit.unit, told: limit.told, window: limit.window, amount: limits[key]!.amount,
        granted: Int64(granted))
    }
  }

  // MARK: Those that are gone

  /// What they held counts as spent; what was put by for them is there for others.
  private func dropDead(_ now: Instant) {
    while firstEnd < ends.count, ends[firstEnd].until <= now {
      let end = ends[firstEnd]
      firstEnd += 1
      guard let member = members[end.member], member.until == end.until else { continue }
      leaveQueue(end.member)
      leavePlaces(member)
      for (key, loan) in member.loans { drop(key, loan, isGivenBack: false) }
      members[end.member] = nil
      gone[end.member] = (now, member.loans)
    }
    if gone.count > 2 * members.count + 16 { gone = gone.filter { $0.value.since + 10 * FleetStore.lease > now } }
    if firstEnd > 10_000 {
      ends.removeFirst(firstEnd)
      firstEnd = 0
    }
  }

  private func drop(_ key: Key, _ loan: Loan, isGivenBack: Bool) {
    if key.told == nil {
      limits[key]!.count(loan, by: -1)
      limits[key]!.setLeast()
    }
    limits[key]!.held -= loan.out
    limits[key]!.allotted -= loan.allotted
    limits[key]!.free += loan.allotted + (isGivenBack ? max(0, loan.out) : 0)
  }

  // MARK: Places

  private func leavePlaces(_ member: Member) {
    guard member.hasPlaces, let count = concurrency[member.maxConcurrent] else { return }
    concurrency[member.maxConcurrent] = count > 1 ? count - 1 : nil
    usedPlaces -= member.used
    guard member.isHungry else { return }
    hungry -= 1
    hungryPlaces -= member.used
  }

  /// Where others want some, too, no more than a fair part; and never more than are free.
  private func givePlaces(_ id: Int, _ demand: LeaseDemand) -> Int {
    members[id]!.hasPlaces = true
    members[id]!.maxConcurrent = demand.maxConcurrent
    members[id]!.inFlight = demand.inFlight
    members[id]!.isHungry = demand.waiting > 0
    concurrency[demand.maxConcurrent, default: 0] += 1
    let most = concurrency.keys.min()!
    var places = Int.max
    if most != .max {
      let want = demand.inFlight + demand.waiting
      let free = most - usedPlaces
      if hungry == 0 {
        places = max(0, min(free, want + want / 4 + 1))
      } else {
        let sharing = hungry + (demand.waiting > 0 ? 1 : 0)
        let fair = max(1, (most - (usedPlaces - hungryPlaces)) / sharing)
        places = max(0, min(want, fair, free))
      }
    }
    members[id]!.places = places == .max ? 0 : places
    usedPlaces += members[id]!.used
    if members[id]!.isHungry {
      hungry += 1
      hungryPlaces += members[id]!.used
    }
    return places
  }
}

extension Int {
  fileprivate var nonZero: Int? { self == 0 ? nil : self }
}
