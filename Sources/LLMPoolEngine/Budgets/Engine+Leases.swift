import CLLMPoolSystem
import LLMPoolCore

// Budgets that several processes share.
extension Engine {
  func take(_ sharing: BudgetSharing) {
    if !isSharing { suspended = suspendedTime() }
    isSharing = true
    guard let name = sharing.name else {
      sharings = [:]
      return tell(.budgetShared(.none, sharing.options))
    }
    sharings[name] = sharing
    tell(.budgetShared(budget(named: name), sharing.options))
  }

  /// One that is new is shared as the last word on all budgets says, but for those of which there was a later one: the
  /// core has forgotten that with the budget.
  func shareAgain(_ id: BudgetID, _ name: String) {
    if let sharing = sharings[name] { tell(.budgetShared(id, sharing.options)) }
  }

  func take(_ grant: BudgetGrant) {
    guard let id = budgetNames.id(of: grant.name) else { return }
    tell(.leaseGranted(id, grant.grant))
  }

  func wantLease(_ id: BudgetID) {
    wantedLeases.insert(id)
    noteLease(id)
  }

  /// A lease runs while the machine is suspended, too, which the clock that the core is told does not count.
  func noteSuspension() {
    guard isSharing else { return }
    let leap = suspendedTime() - suspended
    guard leap > Engine.shortestLeap else { return }
    suspended += leap
    tell(.clockLeapt(leap))
  }
  private static var shortestLeap: Int64 { 10_000_000 }

  // MARK: Calls of the application

  package func share(_ sharing: BudgetSharing) { post(.share(sharing)) }
  package func grant(_ grant: BudgetGrant) { post(.grant(grant)) }

  /// What a connector is to ask for; nil: it is not known, not shared, or nobody grants.
  package func leaseDemand(of name: String) -> LeaseDemand? {
    turn.lock()
    now = monotonicNow()
    // Before the engine's thread has seen it: a lease that ended meanwhile is not held, and the demand is of now.
    noteSuspension()
    var demand: LeaseDemand?
    if let id = budgetNames.id(of: name) {
      demand = core.askForLease(id, now: Instant(nanoseconds: now))
      wantedLeases.remove(id)
    }
    giveTurnBack()  // the thread looks anew when something is due
    return demand
  }
}
