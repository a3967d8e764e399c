// What a budget's requests have taken, and what answers say is left.
extension PoolStateMachine {
  /// The attempt goes out.
  mutating func debit(_ slot: Int) {
    let budget = Int(requests[slot].options.budget.slot)
    let cost = uses[slot].cost
    requests[slot].budgetStep = .sent
    budgets[budget].send(cost)
    // Who waits for more than there can be beside it waits for the clock now.
    touch(Int32(budget))
    uses[slot].isDebited = true
    uses[slot].debitedAt = now
    uses[slot].told = BucketSet()
    // Before the first answer nobody knows which limits it will tell of.
    let tracksAll = budgets[budget].options.learns && !budgets[budget].isAnswered
    uses[slot].tracked = tracksAll ? .all : budgets[budget].limiting
    for kind in uses[slot].tracked {
      let index = bucket(budget, kind)
      let amount = cost.amount(buckets[index].unit)
      buckets[index].debit(amount, now)
      if budgets[budget].isShared { loans[index].take(amount) }
      uses[slot].held[kind] = buckets[index].held(now)
    }
    uses[slot].held[BudgetRecord.bucket(.output)] += Double(budgets[budget].output)
    if budgets[budget].isShared { leases[budget].usedAt = now }
  }

  /// The server provably acted on nothing.
  mutating func refund(_ slot: Int) {
    guard requests[slot].options.budget.exists, uses[slot].isDebited, !isMutant(.unseenKeepsDebit) else { return }
    uses[slot].isDebited = false
    let budget = Int(requests[slot].options.budget.slot)
    for kind in uses[slot].tracked {
      giveBack(budget, kind, uses[slot].cost.amount(buckets[bucket(budget, kind)].unit))
    }
    touch(Int32(budget))
  }

  private mutating func giveBack(_ budget: Int, _ kind: Int, _ amount: Int64) {
    let index = bucket(budget, kind)
    buckets[index].credit(amount, now)
    if budgets[budget].isShared { loans[index].giveBack(amount) }
  }

  // MARK: Answers

  /// What the head of an answer tells of the provider's limits, before the core hears of the answer itself.
  mutating func told(_ slot: Int, _ report: RateReport) {
    guard requests[slot].budgetStep == .sent else { return }
    let budget = Int(requests[slot].options.budget.slot)
    guard budgets[budget].options.learns, !report.isEmpty else { return }
    for limit in ToldLimit.allCases where report[limit].limit > 0 {
      let kind = BudgetRecord.bucket(limit)
      let index = bucket(budget, kind)
      var held = uses[slot].held[kind]
      if !uses[slot].tracked.contains(kind) || isMutant(.correctionForgetsMeanwhile) { held = buckets[index].held(now) }
      buckets[index].told(report[limit], held: held, burst: budgets[budget].options.burst, now)
      if budgets[budget].isShared { loans[index].told(report[limit].remaining, uses[slot].debitedAt, now) }
      noteLimiting(budget, kind)
      // Without a time in which it comes back it limits nothing.
      guard buckets[index].holds else { continue }
      uses[slot].told.set(kind)
      budgets[budget].adaptive = .infinity
    }
    touch(Int32(budget))
  }

  /// The head is here: it counts no more against the adaptive limit, and says whether the budget is spent.
  mutating func headOfBudget(_ slot: Int, _ status: Int, _ advice: RetryAdvice) {
    guard requests[slot].budgetStep == .sent else { return }
    let budget = Int(requests[slot].options.budget.slot)
    if status == 429 || status == 503 || status == 529 {
      refused(slot, budget, status, advice)
    } else {
      grow(budget)
    }
    requests[slot].budgetStep = .answered
    budgets[budget].headless -= uses[slot].cost
    budgets[budget].isAnswered = true
    touch(Int32(budget))
  }

  /// RFC 9110, section 10.2.3, and RFC 6585, section 4. A refusal that is not to be tried again (a request too large, a
  /// quota that is spent) says nothing about the rate.
  private mutating func refused(_ slot: Int, _ budget: Int, _ status: Int, _ advice: RetryAdvice) {
    budgets[budget].refusals += 1
    guard advice.shouldRetry != false else { return }
    let pause = advice.retryAfter ?? 0
    if uses[slot].told.isEmpty, pause <= 0 || !hasLimits(budget) { cut(slot, budget) }
    guard pause > 0 else { return }
    let end = now + min(pause, PoolStateMachine.longestStop)
    // The others of a fleet are told of it, of its beginning at once.
    if budgets[budget].isShared {
      if leases[budget].stoppedUntil <= now { leases[budget].isUrgent = true }
      leases[budget].stoppedUntil = max(leases[budget].stoppedUntil, end)
    }
    stop(budget, until: end, status, for: requests[slot].id)
  }

  /// A server that asks for a day is asked again sooner, with one request.
  static var longestStop: Nanoseconds { .seconds(600) }

  /// At whose pace it goes on after a stop.
  private func hasLimits(_ budget: Int) -> Bool { !budgets[budget].limiting.isEmpty }

  /// Once for all that were sent before the last time.
  private mutating func cut(_ slot: Int, _ budget: Int) {
    let age = Int32(bitPattern: requests[slot].attempt.sequence &- budgets[budget].cutAt)
    guard !budgets[budget].adaptive.isFinite || age >= 0 || isMutant(.cutForEach) else { return }
    let most = min(budgets[budget].adaptive.rounded(.down), Double(budgets[budget].headless.requests))
    budgets[budget].adaptive = max(1, (most / 2).rounded(.up))
    budgets[budget].cutAt = nextSequence
  }

  /// One more for as many answers as there were places, all of them taken.
  private mutating func grow(_ budget: Int) {
    let adaptive = budgets[budget].adaptive
    guard adaptive.isFinite, Double(budgets[budget].headless.requests) >= adaptive.rounded(.down) else { return }
    budgets[budget].adaptive += 1 / adaptive
  }

  /// Nothing of the budget is sent until then, and afterwards at the pace of its limits; who cannot wait so long is
  /// told now.
  mutating func stop(_ budget: Int, until end: Instant, _ status: Int, for request: RequestID) {
    guard end > budgets[budget].stoppedUntil else { return }
    budgets[budget].stoppedUntil = end
    for index in bucketIndices(budget) { buckets[index].drain(until: end, now) }
    if !budgets[budget].isStopTold {
      budgets[budget].isStopTold = true
      if watched.contains(.budgetStopped) {
        let id = BudgetID(slot: Int32(budget))
        let waiting = budgets[budget].queue.count
        actions.append(
          .notice(
            .budgetStopped(id, request, delay: end - now, httpStatus: status, waiting: waiting)))
      }
    }
    let missed = budgets[budget].queue.entries.map { Int($0.slot) }.filter { budgetDeadline($0) < end }
    for slot in missed.sorted(by: { rank($0) < rank($1) }) { complete(slot, .budgetTimeout) }
  }

  // MARK: What it really took

  /// The application says what a request took, which may be over.
  mutating func settled(_ id: RequestID, input: Int64, output: Int64) {
    let input = min(max(0, input), Cost.most)
    let output = min(max(0, output), Cost.most)
    if let slot = live(id), requests[slot].options.budget.exists {
      settleNow(slot, Cost(requests: 1, input: input, output: output))
    } else if !openDebits.isEmpty {
      let place = PoolStateMachine.place(of: id)
      guard openDebits[place].request == id, openDebits[place].budget.exists else { return }
      settle(openDebits[place], Cost(requests: 1, input: input, output: output))
      openDebits[place] = OpenDebit()
    }
  }

  private mutating func settleNow(_ slot: Int, _ actual: Cost) {
    guard uses[slot].isDebited else { return }
    settle(openDebit(slot), actual)
    uses[slot].isDebited = false
    let budget = Int(requests[slot].options.budget.slot)
    let step = requests[slot].budgetStep
    guard step == .sent || step == .answered else { return }
    if step == .sent {
      budgets[budget].headless += actual
      budgets[budget].headless -= uses[slot].cost
    }
    budgets[budget].output += actual.output - uses[slot].cost.output
    uses[slot].cost = actual
  }

  /// The difference between what was debited and what was taken. Where the answer told what is left, it was counted
  /// there; but for the output, which comes after that.
  private mutating func settle(_ debit: OpenDebit, _ actual: Cost) {
    let budget = Int(debit.budget.slot)
    guard budgets[budget].isKnown, budgets[budget].generation == debit.generation else { return }
    for kind in debit.tracked {
      guard !debit.told.contains(kind) || kind == BudgetRecord.bucket(.output) else { continue }
      let unit = buckets[bucket(budget, kind)].unit
      giveBack(budget, kind, debit.cost.amount(unit) - actual.amount(unit))
    }
    touch(debit.budget.slot)
  }

  /// So many requests that are over can be settled.
  private static var openDebitCount: Int { 4_096 }

  private static func place(of id: RequestID) -> Int {
    Int(truncatingIfNeeded: id.value >> UInt64(RequestID.slotBits)) & (openDebitCount - 1)
  }

  private func openDebit(_ slot: Int) -> OpenDebit {
    let budget = requests[slot].options.budget
    return OpenDebit(
      request: requests[slot].id, budget: budget, generation: budgets[Int(budget.slot)].generation,
      cost: uses[slot].cost, told: uses[slot].told, tracked: uses[slot].tracked)
  }

  /// The request is over: its last debit may still be settled.
  mutating func keepDebit(_ slot: Int) {
    guard uses[slot].isDebited else { return }
    if openDebits.isEmpty {
      openDebits = ContiguousArray(repeating: OpenDebit(), count: PoolStateMachine.openDebitCount)
    }
    openDebits[PoolStateMachine.place(of: requests[slot].id)] = openDebit(slot)
  }
}
