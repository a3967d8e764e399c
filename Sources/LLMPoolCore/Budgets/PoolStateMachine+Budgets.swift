// Who may spend what is left of a budget: first the budget, then a connection, so that who waits for a budget holds
// nothing that others could use. An attempt is admitted (its cost is reserved), then sent (debited), then answered,
// then over; each attempt anew.
extension PoolStateMachine {
  /// More that are only named are forgotten, those first that are idle and full.
  static var budgetMemory: Int { 1_000 }
  /// Until the first answer of a budget that learns nobody knows what it allows. Of those that share it each sends its
  /// share of half as many.
  static var unansweredLimit: Int64 { 16 }
  static var unansweredStep: Nanoseconds { .seconds(2) }
  /// So many behind the first are looked at, whether they may pass it.
  static var passersSeen: Int { 8 }

  /// Where a bucket of a budget lies. One table for all: a record that held its own would be copied to be looked at.
  /// The configured ones first.
  @inline(__always)
  func bucketIndices(_ budget: Int) -> Range<Int> {
    let first = budget * BudgetRecord.bucketCount
    return first..<first + BudgetRecord.bucketCount
  }

  /// Where this one lies, by its place among those of its budget.
  @inline(__always) func bucket(_ budget: Int, _ kind: Int) -> Int { budget * BudgetRecord.bucketCount + kind }

  /// A bucket has changed, and perhaps whether it limits something.
  mutating func noteLimiting(_ budget: Int, _ kind: Int) {
    let holds = buckets[bucket(budget, kind)].holds
    if budgets[budget].isShared, holds, !budgets[budget].limiting.contains(kind) { leases[budget].isUrgent = true }
    budgets[budget].limiting.set(kind, holds)
  }

  // MARK: Names

  /// It may have been forgotten since the caller heard of it.
  public func knows(_ id: BudgetID) -> Bool {
    Int(id.slot) < budgets.count && budgets[Int(id.slot)].isKnown
  }

  mutating func configureBudget(_ id: BudgetID, _ new: BudgetOptions) {
    addBudget(id)
    let slot = Int(id.slot)
    budgets[slot].isConfigured = true
    idleBudgets.removeIfLinked(id.slot, &budgetLinks)
    budgets[slot].options = new
    configureBuckets(slot, new)
    if !new.learns {
      for (kind, index) in bucketIndices(slot).enumerated().dropFirst(BudgetOptions.limitCount) {
        buckets[index] = newBucket(slot, BudgetRecord.unit(kind))
        noteLimiting(slot, kind)
      }
      budgets[slot].adaptive = .infinity
    }
    budgets[slot].stoppedUntil = min(budgets[slot].stoppedUntil, now)
    if budgets[slot].isShared { leases[slot].stoppedUntil = now }
    touch(id.slot)
  }

  /// What was spent of a limit stays spent, wherever it stands in the list now.
  private mutating func configureBuckets(_ slot: Int, _ new: BudgetOptions) {
    let first = bucketIndices(slot).lowerBound
    let isShared = budgets[slot].isShared
    var old: [(bucket: Bucket, loan: Loan)] = []
    for index in first..<first + BudgetOptions.limitCount where buckets[index].holds {
      old.append((buckets[index], isShared ? loans[index] : Loan()))
    }
    var kept: [Int: (bucket: Bucket, loan: Loan)] = [:]
    func keep(_ isSame: (Bucket, BudgetLimit) -> Bool) {
      for index in 0..<BudgetOptions.limitCount where kept[index] == nil && new.limits[index].exists {
        let same = old.firstIndex { isSame($0.bucket, new.limits[index]) }
        if let same { kept[index] = old.remove(at: same) }
      }
    }
    keep { $0.isOf($1) }
    keep { $0.unit == $1.unit }
    for index in 0..<BudgetOptions.limitCount {
      buckets[first + index] = kept[index]?.bucket ?? newBucket(slot, new.limits[index].unit)
      if isShared { loans[first + index] = kept[index]?.loan ?? Loan() }
      buckets[first + index].configure(new.limits[index], burst: new.burst, now)
      noteLimiting(slot, index)
    }
  }

  mutating func addBudget(_ id: BudgetID) {
    while budgets.count <= Int(id.slot) {
      budgets.append(BudgetRecord())
      for kind in 0..<BudgetRecord.bucketCount { buckets.append(Bucket(BudgetRecord.unit(kind), now: now)) }
      budgetTimerPositions.append(IndexedHeap.absent)
      budgetLinks.append(SlotList.Link())
    }
    guard !budgets[Int(id.slot)].isKnown else { return }
    let generation = budgets[Int(id.slot)].generation &+ 1
    budgets[Int(id.slot)] = BudgetRecord()
    for (kind, index) in bucketIndices(Int(id.slot)).enumerated() {
      buckets[index] = Bucket(BudgetRecord.unit(kind), now: now)
    }
    budgets[Int(id.slot)].isKnown = true
    budgets[Int(id.slot)].generation = generation
    knownBudgets += 1
    if knownBudgets > PoolStateMachine.budgetMemory { forgetBudget() }
    idleBudgets.append(id.slot, &budgetLinks)
    if let shareOfNew { setShare(Int(id.slot), shareOfNew) }
  }

  /// Of the few that have been idle longest the first that is full: it knows least. None where all are in use.
  private mutating func forgetBudget() {
    var chosen = idleBudgets.first
    var slot = chosen
    for _ in 0..<PoolStateMachine.passersSeen where slot != SlotList.none {
      if isFull(Int(slot)) {
        chosen = slot
        break
      }
      slot = budgetLinks[Int(slot)].next
    }
    guard chosen != SlotList.none else { return }
    idleBudgets.remove(chosen, &budgetLinks)
    budgetTimers.removeIfPresent(chosen, &budgetTimerPositions)
    budgets[Int(chosen)].isKnown = false
    knownBudgets -= 1
    actions.append(.forgetBudget(BudgetID(slot: chosen), refusals: budgets[Int(chosen)].refusals))
  }

  private func isFull(_ budget: Int) -> Bool {
    guard budgets[budget].stoppedUntil <= now else { return false }
    for kind in budgets[budget].limiting {
      let index = bucket(budget, kind)
      if buckets[index].level(now) < buckets[index].capacity { return false }
    }
    return true
  }

  /// The request belongs to its budget from now until it is over.
  mutating func joinBudget(_ slot: Int) {
    let budget = requests[slot].options.budget.slot
    while uses.count <= slot { uses.append(BudgetUse()) }
    let options = requests[slot].options
    uses[slot].begin(Cost(requests: 1, input: options.inputCost, output: options.outputCost))
    budgets[Int(budget)].requests += 1
    idleBudgets.removeIfLinked(budget, &budgetLinks)
    if budgets[Int(budget)].isShared {
      leases[Int(budget)].usedAt = now
      touch(budget)
    }
  }

  mutating func partFromBudget(_ slot: Int) {
    let budget = requests[slot].options.budget.slot
    keepDebit(slot)
    budgets[Int(budget)].requests -= 1
    if budgets[Int(budget)].requests == 0, !budgets[Int(budget)].isConfigured {
      idleBudgets.append(budget, &budgetLinks)
      // There may be more than are remembered, as all were in use.
      if knownBudgets > PoolStateMachine.budgetMemory { forgetBudget() }
    }
  }

  // MARK: Admission

  /// A new request: to its connection, to those that wait for the budget, or to its end.
  mutating func enterBudget(_ slot: Int) {
    let budget = Int(requests[slot].options.budget.slot)
    let isBeyond = isBeyondLimit(slot)
    if budgets[budget].isShared { checkLease(budget) }
    if !isBeyond, hasRoomNow(budget, uses[slot].cost) { return admit(slot, isNew: true) }
    beginWaiting(slot)
    if isBeyond { return complete(slot, .budget) }
    guard hasRoomToWait else { return complete(slot, .queueFull) }
    if isMissed(slot) { return complete(slot, .budgetTimeout) }
    queueForBudget(slot)
  }

  /// One that is tried again. Whether there is room is seen when the event is over.
  mutating func enterBudgetAgain(_ slot: Int) {
    beginWaiting(slot)
    if isMissed(slot) { return complete(slot, .budgetTimeout) }
    queueForBudget(slot)
  }

  private mutating func beginWaiting(_ slot: Int) {
    requests[slot].budgetStep = .waiting
    count(requests[slot].origin) { $0.awaitingBudget += 1 }
  }

  private mutating func queueForBudget(_ slot: Int) {
    let budget = requests[slot].options.budget.slot
    budgets[Int(budget)].queue.insert(Int32(slot), rank(slot), &queuePositions)
    touch(budget)
    arm(slot)
  }

  /// What the application said itself to cost more than it allowed. Estimates may be wrong and what is told may change:
  /// such a request goes alone.
  private func isBeyondLimit(_ slot: Int) -> Bool {
    guard !requests[slot].options.flags.contains(.estimatedCost) else { return false }
    let budget = Int(requests[slot].options.budget.slot)
    for kind in budgets[budget].limiting.intersection(.configurable) {
      let limit = budgets[budget].options.limits[kind]
      if uses[slot].cost.amount(limit.unit) > limit.amount { return true }
    }
    return false
  }

  /// Its turn will certainly come too late.
  private func isMissed(_ slot: Int) -> Bool {
    let budget = Int(requests[slot].options.budget.slot)
    // What others have left may be lent at any time, and what is set aside for others may come back.
    let isLent = budgets[budget].isShared && leases[budget].options.hasStore
    let ready = isLent ? now : ready(budget, uses[slot].cost, reserved: Cost())
    return max(budgets[budget].stoppedUntil, ready) > budgetDeadline(slot)
  }

  /// By then it must have been admitted.
  func budgetDeadline(_ slot: Int) -> Instant {
    let options = requests[slot].options
    return min(requests[slot].waitsSince + options.timeouts.budget, options.submittedAt + options.timeouts.total)
  }

  func ready(_ budget: Int, _ cost: Cost) -> Instant {
    ready(budget, cost, reserved: isMutant(.reservationIgnored) ? Cost() : budgets[budget].reserved)
  }

  /// When each bucket has so much beside what is set aside, if nobody else takes any.
  private func ready(_ budget: Int, _ cost: Cost, reserved: Cost) -> Instant {
    var ready = now
    for kind in budgets[budget].limiting {
      let index = bucket(budget, kind)
      let unit = buckets[index].unit
      ready = max(ready, buckets[index].ready(cost.amount(unit), reserved: reserved.amount(unit), now))
    }
    return ready
  }

  /// The same without what is set aside, and as if what is lent came evenly.
  private func likely(_ budget: Int, _ cost: Cost) -> Instant {
    var likely = now
    for kind in budgets[budget].limiting {
      let index = bucket(budget, kind)
      likely = max(likely, buckets[index].likely(cost.amount(buckets[index].unit), reserved: 0, now))
    }
    return likely
  }

  private func fits(_ budget: Int, _ cost: Cost) -> Bool { hasPlace(budget, cost) && ready(budget, cost) <= now }

  /// Do all the limits but those of the buckets admit one more?
  func hasPlace(_ budget: Int, _ cost: Cost) -> Bool {
    if budgets[budget].stoppedUntil > now, !isMutant(.stopIgnored) { return false }
    let isBeyond = budgets[budget].inFlight >= places(budget)
    if isBeyond, !isMutant(.concurrencyIgnored) { return false }
    if Double(budgets[budget].headless.requests) >= budgets[budget].adaptive.rounded(.down) { return false }
    guard budgets[budget].options.learns, !budgets[budget].isAnswered else { return true }
    return budgets[budget].headless.requests == 0 || isModest(budget, cost)
  }

  /// Before the first answer: few, and no more than the configured limits give in a second: nobody knows what is left.
  /// Where the answer takes long twice as many each time.
  private func isModest(_ budget: Int, _ cost: Cost) -> Bool {
    let factor = unansweredFactor(budget)
    guard budgets[budget].headless.requests < unansweredLimit(budget) else { return false }
    for kind in budgets[budget].limiting.intersection(.configurable) {
      let index = bucket(budget, kind)
      let unit = buckets[index].unit
      let sum = budgets[budget].headless.amount(unit) + cost.amount(unit)
      // What a day gives is nothing in a second.
      guard Double(buckets[index].limit) / buckets[index].rate <= Bucket.longestDrained else { continue }
      if Double(sum) > buckets[index].pace * Double(factor) * Double(Nanoseconds.seconds(1)) { return false }
    }
    return true
  }

  private func unansweredFactor(_ budget: Int) -> Int64 {
    let waited = now - min(budgets[budget].firstAdmittedAt, now)
    return 1 << min(waited / PoolStateMachine.unansweredStep, 20)
  }

  func unansweredLimit(_ budget: Int) -> Int64 {
    let limit = PoolStateMachine.unansweredLimit
    guard budgets[budget].isShared else { return limit * unansweredFactor(budget) }
    // The store may not have heard of the others yet.
    let share = min(leases[budget].share, leases[budget].options.safeShare)
    return max(1, Int64(Double(limit / 2) * share)) * unansweredFactor(budget)
  }

  /// Now, and before nobody.
  func hasRoomNow(_ budget: Int, _ cost: Cost) -> Bool {
    guard budgets[budget].queue.isEmpty, fits(budget, cost) else { return false }
    return !budgets[budget].isShared || !leases[budget].isOver(now) || isMutant(.leaseForEver)
  }

  /// Its cost is set aside; it goes on to a connection.
  private mutating func admit(_ slot: Int, isNew: Bool = false) {
    if requests[slot].budgetStep == .waiting { leaveBudgetQueue(slot) }
    setAside(slot)
    // Where it was refused before: what it has waited for its budget is not time that others have refused it.
    if requests[slot].refusedAt != .never {
      requests[slot].refusedAt = requests[slot].refusedAt + (now - requests[slot].waitsSince)
    }
    requests[slot].waitsSince = now
    requests[slot].queuedAt = now
    actions.append(.admitted(requests[slot].id))
    seekConnection(slot, isNew: isNew)
  }

  mutating func setAside(_ slot: Int) {
    let budget = Int(requests[slot].options.budget.slot)
    requests[slot].budgetStep = .reserved
    uses[slot].loss = 0
    uses[slot].firstSince = .never
    uses[slot].isDebited = false  // what an attempt before this one took stays taken
    budgets[budget].setAside(uses[slot].cost, now)
  }

  /// It waits for its budget no more.
  mutating func leaveBudgetQueue(_ slot: Int) {
    let budget = requests[slot].options.budget.slot
    requests[slot].budgetStep = .none
    count(requests[slot].origin) { $0.awaitingBudget -= 1 }
    guard queuePositions[slot] != IndexedHeap.absent else { return }
    budgets[Int(budget)].queue.remove(Int32(slot), &queuePositions)
    touch(budget)
  }

  /// What was set aside or taken for its attempt is there for others: it has ended, or will not be.
  mutating func leaveBudget(_ slot: Int) {
    let step = requests[slot].budgetStep
    guard step.isInFlight else { return }
    let budget = Int(requests[slot].options.budget.slot)
    budgets[budget].giveBack(uses[slot].cost, step)
    if isMutant(.budgetPlaceKept) { budgets[budget].inFlight += 1 }
    requests[slot].budgetStep = .none
    touch(requests[slot].options.budget.slot)
  }

  // MARK: Whose turn it is

  /// Somebody may be admitted when the event is over.
  mutating func touch(_ budget: Int32) {
    guard budgets[Int(budget)].isToBeTouched else { return }
    budgets[Int(budget)].isTouched = true
    touchedBudgets.append(budget)
  }

  /// Admits whom the budget has room for, by priority, then age.
  mutating func pump(_ budget: Int32) {
    budgets[Int(budget)].isTouched = false
    if budgets[Int(budget)].isShared { checkLease(Int(budget)) }
    while let first = budgets[Int(budget)].queue.first, fits(Int(budget), uses[Int(first.slot)].cost) {
      admit(Int(first.slot))
    }
    letSmallerPass(budget)
    if budgets[Int(budget)].isShared { wantLease(Int(budget)) }
    armBudget(budget)
  }

  /// Behind one that waits until much has come together smaller ones go on, as long as that costs it less than a tenth
  /// of its wait: as the first, for what it has waited behind others would let each be passed the more.
  private mutating func letSmallerPass(_ budget: Int32) {
    noteFirst(Int(budget))
    for slot in passers(budget) {
      guard let first = budgets[Int(budget)].queue.first else { return }
      let cost = uses[slot].cost
      guard mayPass(Int(budget), cost, Int(first.slot)), fits(Int(budget), cost) else { continue }
      uses[Int(first.slot)].loss += loss(Int(budget), cost, Int(first.slot))
      admit(slot)
    }
  }

  /// Who was the first before, and has had one before it since, waits as the first anew; what it lost stays lost.
  private mutating func noteFirst(_ budget: Int) {
    guard let first = budgets[budget].queue.first?.slot else { return }
    if budgets[budget].first == first, uses[Int(first)].firstSince != .never { return }
    budgets[budget].first = first
    uses[Int(first)].firstSince = now
  }

  /// Those next behind the first, in their order.
  private func passers(_ budget: Int32) -> [Int] {
    guard budgets[Int(budget)].queue.count > 1 else { return [] }
    let next = budgets[Int(budget)].queue.entries.prefix(PoolStateMachine.passersSeen + 1).dropFirst()
    return next.sorted { $0.key < $1.key }.map { Int($0.slot) }
  }

  private func mayPass(_ budget: Int, _ cost: Cost, _ first: Int) -> Bool {
    if isMutant(.passedForEver) { return true }
    guard hasPlace(budget, uses[first].cost) else { return false }
    let wait = likely(budget, uses[first].cost) - uses[first].firstSince
    return uses[first].loss + loss(budget, cost, first) < wait / 10
  }

  /// How much later the first gets what it waits for.
  private func loss(_ budget: Int, _ cost: Cost, _ first: Int) -> Nanoseconds {
    var loss = 0.0
    for kind in budgets[budget].limiting {
      let index = bucket(budget, kind)
      let unit = buckets[index].unit
      let reserved = budgets[budget].reserved.amount(unit)
      let ready = buckets[index].ready(uses[first].cost.amount(unit), reserved: reserved, now)
      if ready > now { loss = max(loss, Double(cost.amount(unit)) / buckets[index].pace) }
    }
    return Nanoseconds(min(loss, 9e17))
  }

  // MARK: Time

  /// When somebody may be admitted, or a stop is over.
  private func admissionDeadline(_ budget: Int32) -> Instant {
    let stoppedUntil = budgets[Int(budget)].stoppedUntil
    var due = budgets[Int(budget)].isStopTold ? max(stoppedUntil, now) : .never
    guard let first = budgets[Int(budget)].queue.first, !isMutant(.forgottenBudgetTimer) else { return due }
    if stoppedUntil > now { return min(due, stoppedUntil) }
    if budgets[Int(budget)].options.learns, !budgets[Int(budget)].isAnswered {
      let beginning = budgets[Int(budget)].firstAdmittedAt
      let step = PoolStateMachine.unansweredStep
      if beginning != .never { due = min(due, beginning + ((now - beginning) / step + 1) * step) }
    }
    // Who waits for a place waits for others' ends.
    guard hasPlace(Int(budget), uses[Int(first.slot)].cost) else { return due }
    due = min(due, ready(Int(budget), uses[Int(first.slot)].cost))
    for slot in passers(budget) where mayPass(Int(budget), uses[slot].cost, Int(first.slot)) {
      guard hasPlace(Int(budget), uses[slot].cost) else { continue }
      due = min(due, ready(Int(budget), uses[slot].cost))
    }
    return due
  }

  mutating func armBudget(_ budget: Int32) {
    var due = admissionDeadline(budget)
    if budgets[Int(budget)].isShared { due = min(due, leaseDeadline(Int(budget))) }
    guard due != .never else { return budgetTimers.removeIfPresent(budget, &budgetTimerPositions) }
    let key = IndexedHeap.Key(major: due.nanoseconds, minor: UInt64(budget))
    budgetTimers.set(budget, key, &budgetTimerPositions)
  }

  mutating func budgetDue(_ budget: Int32) {
    if budgets[Int(budget)].isStopTold, budgets[Int(budget)].stoppedUntil <= now {
      budgets[Int(budget)].isStopTold = false
      if watched.contains(.budgetResumed) { actions.append(.notice(.budgetResumed(BudgetID(slot: budget)))) }
    }
    touch(budget)
  }

  // MARK: Looking at it

  /// As it is at that time, which may be later than the last event.
  public func view(of id: BudgetID, now: Instant? = nil) -> BudgetView? {
    let now = max(now ?? self.now, self.now)
    let slot = Int(id.slot)
    guard slot >= 0, slot < budgets.count, budgets[slot].isKnown else { return nil }
    let record = budgets[slot]
    var limits: [BudgetView.Limit] = []
    for kind in record.limiting {
      let index = bucket(slot, kind)
      limits.append(buckets[index].view(BudgetRecord.told(kind), spent: record.isShared ? loans[index].spent : 0, now))
    }
    return BudgetView(
      limits: limits, options: record.options, inFlight: record.inFlight, waiting: record.queue.count,
      stoppedFor: record.stoppedUntil > now ? record.stoppedUntil - now : 0,
      refusals: record.refusals, adaptive: record.adaptive.isFinite ? Int(record.adaptive) : nil,
      isAnswered: record.isAnswered, share: record.isShared ? shareView(slot, now) : nil)
  }

  private func shareView(_ budget: Int, _ now: Instant) -> ShareView {
    let lease = leases[budget]
    let isLeased = lease.filling != .safe && lease.validUntil > now
    return ShareView(
      isLeased: isLeased, validFor: isLeased ? lease.validUntil - now : 0, members: lease.members, share: lease.share,
      lapses: lease.lapses, places: places(budget))
  }

  /// Some of those that hold the places of a budget, for the message of who waited for one in vain. Looks at all
  /// requests.
  public func holders(of id: BudgetID, atMost count: Int) -> [RequestID] {
    var holders: [RequestID] = []
    let wanted = min(count, budgets[Int(id.slot)].inFlight)
    for slot in requests.indices where requests[slot].state != .free {
      if holders.count == wanted { break }
      if requests[slot].options.budget == id, requests[slot].budgetStep.isInFlight { holders.append(requests[slot].id) }
    }
    return holders
  }
}

extension Bucket {
  /// In which the limit comes back.
  var window: Nanoseconds { Nanoseconds(min(Double(limit) / rate, 9e18)) }

  fileprivate func view(_ told: ToldLimit?, spent: Int64, _ now: Instant) -> BudgetView.Limit {
    let missing = max(0, most - level(now))
    let pace = filling == .safe ? pace : rate
    let remaining = (level(now) + Bucket.tolerance).rounded(.down).clamped(to: -9e18...9e18)
    return BudgetView.Limit(
      unit: unit, limit: limit, remaining: Int64(remaining),
      untilFull: Nanoseconds(min(missing / pace, 9e18)), window: window, told: told, spent: spent)
  }
}
