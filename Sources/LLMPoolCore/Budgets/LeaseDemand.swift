/// What a member of a shared budget holds, has spent and wants: what the store that lends to all members is asked with.
public struct LeaseDemand: Sendable, Equatable {
  public struct Limit: Sendable, Equatable {
    public var unit: BudgetUnit
    /// Which of those that answers tell it is; nil: it was configured.
    public var told: ToldLimit?
    /// The whole limit, as configured here or told.
    public var amount: Int64
    public var window: Nanoseconds
    /// Of it, what can be spent at once.
    public var capacity: Int64
    /// What is left of what was lent, less what is set aside for requests that are admitted and not sent. Below zero
    /// where more was spent, never above where no lease holds.
    public var held: Int64
    /// Since the budget is shared, in all, with what is set aside, less what was given back. May fall.
    public var spent: Int64
    /// What the requests that wait cost, for which what is held is there first. These of a priority above 0, or aged.
    public var wantedHigh: Int64
    /// Of priority 0.
    public var wanted: Int64
    /// Of one below.
    public var wantedLow: Int64
    /// What the first of them costs: less is of no use.
    public var least: Int64
    /// Beyond what they cost, what will probably be used soon.
    public var expected: Int64
    /// What would be left of it by what an answer has told since the last demand, if nobody had spent any since its
    /// request was sent, half a minute ago at most; nil: none has told.
    public var remaining: Int64?
  }
  /// The grant that answers it has the same.
  public var sequence: UInt64
  public var limits: [Limit]
  /// Requests that are admitted and not over, and those that wait.
  public var inFlight: Int
  public var waiting: Int
  /// Of all members together; `Int.max`: any number.
  public var maxConcurrent: Int
  /// An answer has asked to be left alone for so long; 0: it is not stopped.
  public var stoppedFor: Nanoseconds
  /// As the last grant said; 0: none has.
  public var members: Int
}
