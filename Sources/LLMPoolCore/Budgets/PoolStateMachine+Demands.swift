// What a shared budget asks its store for.
extension PoolStateMachine {
  /// Where something is lacking it is asked for so often, and a few times at once.
  static var askInterval: Nanoseconds { .milliseconds(300) }
  static var asksAtOnce: Int64 { 3 }
  /// Where no grant has come.
  static var askAgain: Nanoseconds { .seconds(1) }

  // MARK: What is lacking

  /// Somebody waits for what others have.
  func isHeldUp(_ budget: Int) -> Bool {
    guard let first = budgets[budget].queue.first, budgets[budget].stoppedUntil <= now else { return false }
    let places = places(budget)
    if budgets[budget].inFlight >= places { return places < budgets[budget].options.maxConcurrent }
    return hasPlace(budget, uses[Int(first.slot)].cost) && ready(budget, uses[Int(first.slot)].cost) > now
  }

  /// Somebody waits, or will soon.
  func isLacking(_ budget: Int) -> Bool {
    if isHeldUp(budget) { return true }
    guard budgets[budget].stoppedUntil <= now, isUsed(budget) else { return false }
    for kind in budgets[budget].limiting {
      let index = bucket(budget, kind)
      let free = buckets[index].level(now) - Double(budgets[budget].reserved.amount(buckets[index].unit))
      if free < loans[index].expected / 2 { return true }
    }
    return false
  }

  /// Within a lease's time.
  private func isUsed(_ budget: Int) -> Bool {
    !budgets[budget].queue.isEmpty || leases[budget].usedAt + leases[budget].validFor > now
  }

  // MARK: Asking

  /// What the store is to be asked for now; from then on a grant of an earlier demand counts no more. nil: the budget
  /// is not known, not shared, or nobody grants.
  public mutating func askForLease(_ id: BudgetID, now: Instant) -> LeaseDemand? {
    guard knows(id), budgets[Int(id.slot)].isShared, leases[Int(id.slot)].options.hasStore else { return nil }
    let budget = Int(id.slot)
    self.now = max(self.now, now)
    checkLease(budget)
    countUse(budget)
    nextLease += 1
    leases[budget].sequence = nextLease
    leases[budget].askedAt = self.now
    leases[budget].lastAskAt = self.now
    leases[budget].isWantTold = false
    leases[budget].isUrgent = false
    let waiting = waitingCosts(budget)
    let stoppedUntil = isMutant(.stopEchoed) ? budgets[budget].stoppedUntil : leases[budget].stoppedUntil
    var limits: [LeaseDemand.Limit] = []
    for kind in budgets[budget].limiting where !isRepeated(budget, kind) {
      limits.append(demand(budget, kind, waiting))
    }
    armBudget(id.slot)
    return LeaseDemand(
      sequence: nextLease, limits: limits, inFlight: budgets[budget].inFlight, waiting: budgets[budget].queue.count,
      maxConcurrent: budgets[budget].options.maxConcurrent, stoppedFor: max(stoppedUntil, self.now) - self.now,
      members: leases[budget].members)
  }

  /// The store would take it for the same limit: what is lent to the first is lent to both.
  private func isRepeated(_ budget: Int, _ kind: Int) -> Bool {
    guard BudgetRecord.told(kind) == nil else { return false }
    let limits = budgets[budget].options.limits
    return (0..<kind).contains {
      limits[$0].exists && limits[$0].unit == limits[kind].unit && limits[$0].window == limits[kind].window
    }
  }

  private mutating func countUse(_ budget: Int) {
    let time = now - leases[budget].countedAt
    guard time >= PoolStateMachine.askInterval else { return }
    leases[budget].countedAt = now
    for index in bucketIndices(budget) { loans[index].count(time) }
  }

  /// Those that wait, by their rank, as far as they could be sent soon: who has few places does not ask for what would
  /// lie there.
  private func waitingCosts(_ budget: Int) -> [(rank: Int, cost: Cost)] {
    let entries = budgets[budget].queue.entries
    let most = mostAtOnce(budget)
    let few = entries.count > most ? entries.sorted { $0.key < $1.key }.prefix(most) : entries[...]
    return few.map { entry in
      let major = entry.key.major
      return (major < 0 ? 0 : major == 0 ? 1 : 2, uses[Int(entry.slot)].cost)
    }
  }

  private func mostAtOnce(_ budget: Int) -> Int {
    var most = min(Double(places(budget)), budgets[budget].adaptive)
    if budgets[budget].options.learns, !budgets[budget].isAnswered { most = min(most, Double(unansweredLimit(budget))) }
    return max(1, Int(min(4 * most, 1e9)))
  }

  /// Gives back what is not needed, and says what is.
  private mutating func demand(_ budget: Int, _ kind: Int, _ waiting: [(rank: Int, cost: Cost)]) -> LeaseDemand.Limit {
    let index = bucket(budget, kind)
    let unit = buckets[index].unit
    var wanted = InlineArray<3, Double>(repeating: 0)
    for (rank, cost) in waiting { wanted[rank] += min(Double(cost.amount(unit)), buckets[index].capacity) }
    let first = budgets[budget].queue.first.map { Double(uses[Int($0.slot)].cost.amount(unit)) } ?? 0
    let expected = isUsed(budget) ? loans[index].expected : 0
    let reserved = budgets[budget].reserved.amount(unit)
    let isLent = leases[budget].filling != .safe
    if isLent, !isMutant(.nothingGivenBack) {
      let needed = Double(reserved) + wanted[0] + wanted[1] + wanted[2] + 1.5 * expected
      buckets[index].fall(to: needed.rounded(.up), now)
    }
    let free = whole(buckets[index].level(now) - Double(reserved), .down)
    let told = BudgetRecord.told(kind)
    let limit = told == nil ? budgets[budget].options.limits[kind].amount : buckets[index].limit
    return LeaseDemand.Limit(
      unit: unit, told: told, amount: limit,
      window: told == nil ? budgets[budget].options.limits[kind].window : buckets[index].window,
      capacity: whole(buckets[index].capacity * Double(limit) / Double(buckets[index].limit), .up),
      held: isLent ? free : min(free, 0), spent: loans[index].spent &+ reserved,
      wantedHigh: whole(wanted[0], .up), wanted: whole(wanted[1], .up), wantedLow: whole(wanted[2], .up),
      least: whole(min(first, buckets[index].capacity), .up), expected: whole(expected, .up),
      remaining: loans[index].takeRemaining(buckets[index], now))
  }

  private func whole(_ amount: Double, _ rule: FloatingPointRoundingRule) -> Int64 {
    let nudge = rule == .up ? -Bucket.tolerance : Bucket.tolerance
    return Int64((amount + nudge).rounded(rule).clamped(to: -9e18...9e18))
  }
}
