/// What can be seen of a budget.
public struct BudgetView: Sendable {
  public struct Limit: Sendable {
    public var unit: BudgetUnit
    /// As configured or told.
    public var limit: Int64
    /// Of it, what could be spent now; below zero where more was.
    public var remaining: Int64
    /// Until all that can be spent at once is there.
    public var untilFull: Nanoseconds
    /// In which the limit comes back.
    public var window: Nanoseconds
    /// Which of those that answers tell it is; nil: it was configured.
    public var told: ToldLimit?
    public var isTold: Bool { told != nil }
    /// Since the budget is shared, in all; 0 where it is not.
    public var spent: Int64 = 0
  }
  public var limits: [Limit]
  public var options: BudgetOptions
  /// Admitted, and not over.
  public var inFlight: Int
  public var waiting: Int
  /// 0: it is not stopped.
  public var stoppedFor: Nanoseconds
  /// Answers of 429, 503 and 529.
  public var refusals: Int
  /// Requests that may be without an answer at a time; nil: any number.
  public var adaptive: Int?
  /// Somebody has answered: what it allows is known as far as answers tell.
  public var isAnswered: Bool
  /// nil: it is not shared.
  public var share: ShareView?
}

extension BudgetView {
  /// Of a budget that nobody has used.
  public init(_ options: BudgetOptions) {
    self.init(
      limits: options.limits.indices.map { options.limits[$0] }.filter(\.exists).map { limit in
        Limit(
          unit: limit.unit, limit: limit.amount, remaining: limit.amount, untilFull: 0, window: limit.window,
          told: nil)
      },
      options: options, inFlight: 0, waiting: 0, stoppedFor: 0, refusals: 0, adaptive: nil, isAnswered: false)
  }
}
