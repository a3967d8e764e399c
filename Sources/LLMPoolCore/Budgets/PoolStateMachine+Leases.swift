// Budgets that several processes share. Each spends what it was lent, without asking for each request; where nothing
// that was lent holds it spends its safe share, a part of each limit so small that all may do so at once.
extension PoolStateMachine {
  /// So long somebody waits for a grant before the safe share comes on top of what was lent.
  static var grantPatience: Nanoseconds { .milliseconds(50) }

  // MARK: Sharing

  /// `none`: all budgets, and those to come.
  mutating func shareBudget(_ id: BudgetID, _ share: ShareOptions?) {
    guard !id.exists else {
      addBudget(id)
      return setShare(Int(id.slot), share)
    }
    shareOfNew = share
    for slot in budgets.indices where budgets[slot].isKnown { setShare(slot, share) }
  }

  mutating func setShare(_ budget: Int, _ share: ShareOptions?) {
    guard let share else { return unshare(budget) }
    while leases.count <= budget { leases.append(Lease(share, now: now)) }
    while loans.count < leases.count * BudgetRecord.bucketCount { loans.append(Loan()) }
    if budgets[budget].isShared, leases[budget].options.hasStore == share.hasStore {
      leases[budget].options = share
      refill(budget)
    } else {
      beginShare(budget, share)
    }
    touch(Int32(budget))
  }

  /// What was there is everybody's: it begins with nothing but what is set aside, or with its share, where nobody will
  /// ever lend more.
  private mutating func beginShare(_ budget: Int, _ share: ShareOptions) {
    budgets[budget].isShared = true
    leases[budget] = Lease(share, now: now)
    for index in bucketIndices(budget) { loans[index] = Loan() }
    if share.hasStore {
      empty(budget)
    } else {
      for index in bucketIndices(budget) where buckets[index].holds {
        let level = buckets[index].level(now)
        buckets[index].fall(to: max(level * share.safeShare, min(level, 0)), now)
      }
    }
    refill(budget)
  }

  private mutating func unshare(_ budget: Int) {
    guard budgets[budget].isShared else { return }
    budgets[budget].isShared = false
    // The store has it back, or counts it as spent.
    if leases[budget].options.hasStore { empty(budget) }
    for index in bucketIndices(budget) { buckets[index].fill(.alone, share: 1, now) }
    touch(Int32(budget))
  }

  /// What is left is nobody's here any more. What is set aside for those that seek a connection has been counted as
  /// spent.
  private mutating func empty(_ budget: Int) {
    for index in bucketIndices(budget) {
      let reserved = isMutant(.lapseKeepsLevel) ? .max : budgets[budget].reserved.amount(buckets[index].unit)
      buckets[index].fall(to: Double(reserved), now)
    }
  }

  /// The buckets fill as the lease stands.
  private mutating func refill(_ budget: Int) {
    let share = isMutant(.safeShareWhole) ? 1 : leases[budget].share
    for index in bucketIndices(budget) { buckets[index].fill(leases[budget].filling, share: share, now) }
  }

  /// A bucket of that budget that has not been used.
  func newBucket(_ budget: Int, _ unit: BudgetUnit) -> Bucket {
    guard budgets[budget].isShared else { return Bucket(unit, now: now) }
    return Bucket(unit, leases[budget].filling, share: leases[budget].share, now: now)
  }

  // MARK: Grants

  /// Counts once, and where nobody has asked since.
  mutating func granted(_ id: BudgetID, _ grant: LeaseGrant) {
    let budget = Int(id.slot)
    guard knows(id), budgets[budget].isShared, leases[budget].options.hasStore else { return }
    let isAwaited = leases[budget].askedAt != .never && grant.sequence == leases[budget].sequence
    guard isAwaited || isMutant(.grantTwice) else { return }
    let validUntil = (isMutant(.validFromGrant) ? now : leases[budget].askedAt) + grant.validFor
    guard validUntil > now else { return }
    checkLease(budget)
    leases[budget].askedAt = .never
    leases[budget].validUntil = validUntil
    leases[budget].validFor = grant.validFor
    if grant.members > 0 { leases[budget].members = grant.members }
    leases[budget].places = grant.places
    lend(budget, grant)
    leases[budget].filling = .lent
    refill(budget)
    if grant.stoppedFor > 0 {
      stop(budget, until: now + min(grant.stoppedFor, PoolStateMachine.longestStop), 0, for: RequestID(value: 0))
    }
    touch(id.slot)
  }

  private mutating func lend(_ budget: Int, _ grant: LeaseGrant) {
    for limit in grant.limits {
      for kind in budgets[budget].limiting where isOf(budget, kind, limit) {
        let index = bucket(budget, kind)
        // What was there of the safe share is not lent.
        if leases[budget].filling == .safe { buckets[index].fall(to: 0, now) }
        buckets[index].fill(.lent, share: leases[budget].share, now)
        resize(budget, kind, to: limit.amount)
        buckets[index].credit(max(0, limit.granted), now)
      }
    }
  }

  /// A told limit is known by its name: its window is learned, and may have moved.
  private func isOf(_ budget: Int, _ kind: Int, _ limit: LeaseGrant.Limit) -> Bool {
    let told = BudgetRecord.told(kind)
    guard told == limit.told, buckets[bucket(budget, kind)].unit == limit.unit else { return false }
    return told != nil || budgets[budget].options.limits[kind].window / 1_000_000 == limit.window / 1_000_000
  }

  /// Of a configured limit the smallest amount that a member has holds for all; of a told one the latest.
  private mutating func resize(_ budget: Int, _ kind: Int, to amount: Int64) {
    guard amount > 0 else { return }
    let isTold = BudgetRecord.told(kind) != nil
    let most = isTold ? amount : min(amount, budgets[budget].options.limits[kind].amount)
    buckets[bucket(budget, kind)].resize(to: most, now)
  }

  // MARK: Its end

  /// What time alone does to a lease. Looked at before anybody is admitted, as the process may have been stopped.
  mutating func checkLease(_ budget: Int) {
    if leases[budget].isAsleep, budgets[budget].requests > 0 {
      leases[budget].isAsleep = false
      leases[budget].isUrgent = true
      empty(budget)
    }
    guard leases[budget].isOver(now), !isMutant(.leaseForEver) else { return }
    leases[budget].isAsleep = isUnused(budget)
    if leases[budget].filling == .lent, !leases[budget].isAsleep { leases[budget].lapses += 1 }
    leases[budget].filling = .safe
    empty(budget)
    refill(budget)
  }

  /// A grant is late: what was lent holds until its time, and beside it the safe share is spent.
  private mutating func becomeLate(_ budget: Int) {
    leases[budget].filling = .late
    leases[budget].lapses += 1
    refill(budget)
    touch(Int32(budget))
  }

  /// The clock has not counted so long. Leases run on.
  mutating func clockLeapt(_ time: Nanoseconds) {
    guard time > 0, !isMutant(.leapIgnored) else { return }
    for budget in budgets.indices where budgets[budget].isKnown && budgets[budget].isShared {
      if leases[budget].filling != .safe { leases[budget].validUntil = leases[budget].validUntil + -time }
      if leases[budget].askedAt != .never { leases[budget].askedAt = leases[budget].askedAt + -time }
      touch(Int32(budget))
    }
  }

  // MARK: Places

  /// Requests that may be in flight.
  func places(_ budget: Int) -> Int {
    let most = budgets[budget].options.maxConcurrent
    guard budgets[budget].isShared, !isMutant(.placesIgnored) else { return most }
    let safe = most == .max ? .max : max(1, Int(Double(most) * leases[budget].share + Bucket.tolerance))
    switch leases[budget].filling {
    case .alone, .safe: return safe
    case .lent: return min(leases[budget].places, most)
    case .late: return min(max(leases[budget].places, safe), most)
    }
  }

  // MARK: When one is wanted

  /// Says so where it is time; after everybody has been admitted for whom there is room.
  mutating func wantLease(_ budget: Int) {
    guard leases[budget].options.hasStore, !isStopped else { return }
    if lateAt(budget) <= now { becomeLate(budget) }
    guard !leases[budget].isWantTold, leaseWantedAt(budget) <= now else { return }
    if !leases[budget].isUrgent, isLacking(budget) {
      leases[budget].asksAt = max(leases[budget].asksAt, now) + PoolStateMachine.askInterval
    }
    leases[budget].isWantTold = true
    actions.append(.leaseWanted(BudgetID(slot: Int32(budget))))
  }

  /// When time changes something of its lease.
  func leaseDeadline(_ budget: Int) -> Instant {
    guard leases[budget].options.hasStore, !isMutant(.forgottenLeaseTimer) else { return .never }
    let ends = leases[budget].filling != .safe && !isMutant(.leaseForEver)
    var due = ends ? leases[budget].validUntil : .never
    due = min(due, lateAt(budget))
    return leases[budget].isWantTold ? due : min(due, leaseWantedAt(budget))
  }

  /// When somebody who waits for a grant has waited long enough.
  private func lateAt(_ budget: Int) -> Instant {
    guard leases[budget].filling == .lent, leases[budget].askedAt != .never, isHeldUp(budget) else { return .never }
    return leases[budget].askedAt + PoolStateMachine.grantPatience
  }

  /// One that says nothing but that it lives, and gives back, comes twice in a lease.
  private func leaseWantedAt(_ budget: Int) -> Instant {
    let lease = leases[budget]
    if lease.isUrgent { return now }
    if isUnused(budget) { return .never }
    if lease.askedAt != .never { return lease.lastAskAt + PoolStateMachine.askAgain }
    var due = lease.lastAskAt + lease.validFor / 2
    if isHeldUp(budget) {
      let spare = PoolStateMachine.askInterval * (PoolStateMachine.asksAtOnce - 1)
      due = min(due, max(lease.lastAskAt + PoolStateMachine.grantPatience, lease.asksAt + -spare))
    } else if isLacking(budget) {
      due = min(due, max(lease.lastAskAt + PoolStateMachine.askInterval, lease.asksAt))
    }
    return max(due, now)
  }

  /// Only named, and not used for long. It says nothing any more until it is.
  private func isUnused(_ budget: Int) -> Bool {
    budgets[budget].requests == 0 && !budgets[budget].isConfigured
      && leases[budget].usedAt + PoolStateMachine.leaseMemory <= now
  }

  private static var leaseMemory: Nanoseconds { .seconds(30) }
}
