import LLMPoolCore

/// How a budget is shared. By reference, as messages are all as large as the largest.
package final class BudgetSharing: Sendable {
  /// nil: all, known and to come.
  package let name: String?
  /// nil: it is not shared any more.
  package let options: ShareOptions?

  package init(_ name: (some Collection<UInt8>)?, _ options: ShareOptions?) throws(Fault) {
    self.name = if let name { try BudgetName.text(name) } else { nil }
    self.options = options
  }
}

extension ShareOptions {
  /// Refuses what is no part of a limit, which the core would take for the nearest that is.
  package init(checking safeShare: Double, hasStore: Bool) throws(Fault) {
    guard safeShare > 0, safeShare <= 1 else {
      throw Fault(.invalidArgument, "safe_share: expected more than 0 and at most 1, got \(safeShare)")
    }
    self.init(safeShare: safeShare, hasStore: hasStore)
  }
}

/// What a store has lent of a budget.
package final class BudgetGrant: Sendable {
  package let name: String
  package let grant: LeaseGrant
  package init(_ name: String, _ grant: LeaseGrant) {
    self.name = name
    self.grant = grant
  }
}
