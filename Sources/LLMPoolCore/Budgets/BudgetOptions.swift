/// A name under which requests share what a provider allows. Slots are given by the caller, densely.
@frozen
public struct BudgetID: Hashable, Sendable {
  public var slot: Int32
  @inlinable public init(slot: Int32) { self.slot = slot }
  /// Of a request that has no budget.
  @inlinable public static var none: BudgetID { BudgetID(slot: -1) }
  @inlinable public var exists: Bool { slot >= 0 }
}

/// What a limit counts.
@frozen
public enum BudgetUnit: UInt8, Sendable, CaseIterable {
  case requests
  /// Those of the input and of the output together.
  case tokens
  case input
  case output
}

/// So much of a unit within a window.
public struct BudgetLimit: Sendable, Equatable {
  public var unit: BudgetUnit
  public var amount: Int64
  public var window: Nanoseconds
  public init(_ unit: BudgetUnit, _ amount: Int64, per window: Nanoseconds) {
    self.unit = unit
    self.amount = amount
    self.window = window
  }
  /// The place of none.
  public static var none: BudgetLimit { BudgetLimit(.requests, 0, per: 0) }
  public var exists: Bool { amount > 0 && window > 0 }
}

/// What is said of a budget; the rest it learns from the answers.
public struct BudgetOptions: Sendable, Equatable {
  public static var limitCount: Int { 6 }
  /// Those that exist hold all at once. Inline, so that events stay trivial.
  public var limits = InlineArray<6, BudgetLimit>(repeating: .none)
  /// What each limit gives in so long a time may be spent at once after a pause; its whole window at most.
  public var burst = Nanoseconds.max
  /// Requests from their admission to their end.
  public var maxConcurrent = Int.max
  /// The limits that answers tell hold, too.
  public var learns = true

  public init() {}

  public static func == (left: BudgetOptions, right: BudgetOptions) -> Bool {
    left.limits.indices.allSatisfy { left.limits[$0] == right.limits[$0] } && left.burst == right.burst
      && left.maxConcurrent == right.maxConcurrent && left.learns == right.learns
  }
}
