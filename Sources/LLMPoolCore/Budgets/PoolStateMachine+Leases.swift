// Budgets that several processes share: each spends of what it was lent, and where nothing holds of its safe share.
extension PoolStateMachine {
  mutating func shareBudget(_ id: BudgetID, _ share: ShareOptions?) {}

  mutating func granted(_ id: BudgetID, _ grant: LeaseGrant) {}

  mutating func clockLeapt(_ time: Nanoseconds) {}

  /// What the store is to be asked for now; from then on a grant of an earlier demand counts no more. nil: the budget
  /// is not known, not shared, or nobody grants.
  public mutating func askForLease(_ id: BudgetID, now: Instant) -> LeaseDemand? { nil }
}
