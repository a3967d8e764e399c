import LLMPoolCore

/// The store that lends a budget to the members of a fleet: what a connector's script decides, with its numbers, in
/// O(log n) an ask.
///
/// Requests are whole, so turns are lent: parts, of which none is enough for a request, would lie with the members.
/// What is saved up for a large request lies in the store, and the member that has been given least has the next turn;
/// all its limits at once, else some would hold the requests and others the tokens.
package final class FleetStore {
  struct Key: Hashable {
    var unit: BudgetUnit
    var told: ToldLimit?
    /// Of a configured one. That of a told one is learned, and moves.
    var window: Nanoseconds
    init(_ limit: LeaseDemand.Limit) {
      unit = limit.unit
      told = limit.told
      window = limit.told == nil ? limit.window : 0
    }
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
    /// By how many members each amount is configured; the smallest holds.
    var amounts: [Int64: Int] = [:]

    var rate: Double { Double(amount) / Double(window) }
    var room: Double { capacity - free - allotted - held }
  }

  private struct Loan {
    /// Lent, as of the last ask, with what was granted then.
    var out = 0.0
    var spent: Int64 = 0
    var amount: Int64 = 0
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
      tick(key, now)
      account(key, limit, &loan, gone: before[key])
      fold(key, limit.remaining, now)
      want(key, limit, &loan!)
      member.loans[key] = loan
    }
    // Of a limit that it does not know any more.
    for (key, loan) in old { drop(key, loan, isGivenBack: true) }
  }

  /// Of a configured limit the smallest amount holds, of a told one the latest.
  private func know(_ key: Key, _ limit: LeaseDemand.Limit, _ loan: Loan?, _ now: Instant) {
    if limits[key] == nil { limits[key] = Limit(at: now, createdAt: now, windowAt: now) }
    let isNews = key.told == nil || limit.remaining != nil || limits[key]!.amount == 0
    if key.told == nil {
      if let loan { forget(key, loan.amount) }
      limits[key]!.amounts[limit.amount, default: 0] += 1
      limits[key]!.amount = limits[key]!.amounts.keys.min()!
    } else if isNews {
      limits[key]!.amount = limit.amount
    }
    guard isNews else { return }
    limits[key]!.window = limit.window
    limits[key]!.capacity = Double(limit.capacity) * Double(limits[key]!.amount) / Double(limit.amount)
  }

  private func forget(_ key: Key, _ amount: Int64) {
    guard key.told == nil, let count = limits[key]!.amounts[amount] else { return }
    limits[key]!.amounts[amount] = count > 1 ? count - 1 : nil
  }

  /// What has come back. A new store takes those that it does not know yet to spend their safe shares for one lease.
  private func tick(_ key: Key, _ now: Instant) {
    var limit = limits[key]!
    let isStopped = stoppedUntil > now
    var share = 1.0
    if limit.createdAt + FleetStore.lease > now, membersKnown > 0 {
      share = min(1, Double(members.count + 1) / Double(membersKnown))
    }
    if !isStopped { limit.free += max(0, min(limit.rate * Double(now - limit.at) * share, limit.room)) }
    limit.at = max(limit.at, now)
    limits[key] = limit
  }

  /// What was lent is spent, is still there, or comes back. One that is not known has what it says.
  private func account(_ key: Key, _ limit: LeaseDemand.Limit, _ loan: inout Loan?, gone: Loan?) {
    let held = Double(limit.held)
    if var known = loan {
      let consumed = Double(limit.spent &- known.spent)
      limits[key]!.consumed += max(0, consumed)
      limits[key]!.free += known.out - consumed - held
      limits[key]!.held += held - known.out
      known.out = held
      known.spent = limit.spent
      loan = known
    } else {
      loan = Loan(out: held, spent: limit.spent)
      limits[key]!.held += held
      if let gone { charge(key, gone.out - Double(limit.spent &- gone.spent) - held) }
    }
    loan!.amount = limit.amount
    limits[key]!.free = min(limits[key]!.free, limits[key]!.capacity - limits[key]!.allotted - limits[key]!.held)
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
      limits[key]!.free += (Double(remaining) - most) / 2
    }
  }

  /// Longer than a head of which is told, and an ask, may take together.
  private static var window: Nanoseconds { .seconds(32) }

  /// What it has, and what was put by for it, is there for the high first.
  private func want(_ key: Key, _ limit: LeaseDemand.Limit, _ loan: inout Loan) {
    var have = Double(limit.held) + loan.allotted
    loan.least = max(1, Double(limit.least))
    for (rank, wanted) in [limit.wantedHigh, limit.wanted, limit.wantedLow].enumerated() {
      // A debt is paid by the first that want something.
      loan.met[rank] = wanted > 0 ? min(have, Double(wanted)) : 0
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
      for key in limits.keys { limits[key]!.free = min(limits[key]!.free, 0) }
      return
    }
    var passed: [Turn] = []
    turns: for _ in 0..<FleetStore.turnsAtOnce {
      guard let entry = next() else { break }
      switch gifts(entry.member, now) {
      case .are(let gifts): give(entry.member, gifts)
      case .areSavedUp: break turns
      case .areLentOut:
        queues[members[entry.member]!.rank].pop()
        passed.append(entry)
      }
    }
    for entry in passed { queues[members[entry.member]!.rank].push(entry) }
  }

  private enum Gifts {
    case are([(key: Key, amount: Double)])
    /// Something is not there yet.
    case areSavedUp
    /// Something cannot come, as all of it is lent to others.
    case areLentOut
  }

  /// What is lacking for one more request, and for as many as a fair part of the scarcest limit is enough for: of what
  /// it has more of than of another it is given none, as that would lie there.
  private func gifts(_ id: Int, _ now: Instant) -> Gifts {
    let rank = members[id]!.rank
    let lacking = members[id]!.loans.filter { $0.value.unmet[rank] > 0 }
    var covered = Double.infinity
    var requests = Double.infinity
    for (key, loan) in lacking {
      tick(key, now)
      let share = limits[key]!.free / Double(waiting[rank])
      covered = min(covered, (loan.met[rank] / loan.least).rounded(.down))
      requests = min(requests, ((loan.met[rank] + share) / loan.least).rounded(.down))
    }
    requests = max(covered + 1, requests)
    var gifts: [(key: Key, amount: Double)] = []
    for (key, loan) in lacking {
      let need = min(loan.unmet[rank], (covered + 1) * loan.least - loan.met[rank])
      let limit = limits[key]!
      guard limit.free >= need - 1e-6 else { return limit.room < 1e-6 ? .areLentOut : .areSavedUp }
      gifts.append((key, max(0, min(loan.unmet[rank], requests * loan.least - loan.met[rank]))))
    }
    return .are(gifts)
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
    forget(key, loan.amount)
    if key.told == nil, let least = limits[key]!.amounts.keys.min(), least != limits[key]!.amount {
      limits[key]!.capacity *= Double(least) / Double(limits[key]!.amount)
      limits[key]!.amount = least
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
