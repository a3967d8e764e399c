/// What is lent to a member of a shared budget.
public struct LeaseGrant: Sendable {
  public struct Limit: Sendable, Equatable {
    public var unit: BudgetUnit
    public var told: ToldLimit?
    public var window: Nanoseconds
    /// The whole limit, where another member knows a smaller one than was asked with: that one holds here, too. 0: as
    /// asked.
    public var amount: Int64
    /// So much more than is held may be spent.
    public var granted: Int64

    public init(unit: BudgetUnit, told: ToldLimit?, window: Nanoseconds, amount: Int64, granted: Int64) {
      self.unit = unit
      self.told = told
      self.window = window
      self.amount = amount
      self.granted = granted
    }
  }
  /// Of the demand that it answers.
  public var sequence: UInt64
  /// From the moment at which the demand was taken; 1 ms at least.
  public var validFor: Nanoseconds
  public static var longest: Nanoseconds { .seconds(600) }
  /// All that live, this one with them.
  public var members: Int
  /// Requests that may be in flight here; `Int.max`: any number.
  public var places: Int
  /// Some member has been asked to leave the provider alone for so long; 0: none.
  public var stoppedFor: Nanoseconds
  /// Inline, so that events stay trivial.
  private var entries = InlineArray<11, Limit>(
    repeating: Limit(unit: .requests, told: nil, window: 0, amount: 0, granted: 0))
  private var count = 0

  /// Those beyond as many as a budget can have are passed over.
  public init(
    sequence: UInt64, validFor: Nanoseconds, members: Int, places: Int, stoppedFor: Nanoseconds, limits: [Limit]
  ) {
    self.sequence = sequence
    self.validFor = validFor
    self.members = members
    self.places = places
    self.stoppedFor = stoppedFor
    for limit in limits.prefix(entries.count) {
      entries[count] = limit
      count += 1
    }
  }

  public var limits: [Limit] { (0..<count).map { entries[$0] } }
}
