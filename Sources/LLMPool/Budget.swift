import LLMPoolCore
import LLMPoolEngine

/// What a provider allows, shared by the requests that name it. A budget needs no configuring: one that was only named
/// learns its limits from the answers.
public struct Budget: Sendable {
  public struct Limit: Sendable {
    public var unit: BudgetUnit
    /// 1 to 2^40.
    public var amount: Int64
    /// In which so much comes back, evenly.
    public var window: Duration
    public init(_ amount: Int64, _ unit: BudgetUnit, per window: Duration) {
      self.amount = amount
      self.unit = unit
      self.window = window
    }
    public static func perMinute(_ amount: Int64, _ unit: BudgetUnit) -> Limit {
      Limit(amount, unit, per: .seconds(60))
    }
    public static func perDay(_ amount: Int64, _ unit: BudgetUnit) -> Limit {
      Limit(amount, unit, per: .seconds(86_400))
    }
  }

  /// 1 to 200 bytes of UTF-8 without control characters.
  public var name: String
  /// At most six; all hold at once.
  public var limits: [Limit]
  /// What a limit gives in so long may be spent at once after a pause; nil: its whole amount.
  public var burst: Duration?
  /// Requests from their admission to their end; nil: no limit.
  public var maxConcurrent: Int?
  /// The limits that answers tell hold, too.
  public var learns = true

  public init(_ name: String, limits: [Limit] = []) {
    self.name = name
    self.limits = limits
  }

  func configuration() throws(Fault) -> BudgetConfiguration {
    var result: [BudgetLimit] = []
    for limit in limits {
      guard (1...Cost.most).contains(limit.amount) else {
        throw Fault(.invalidArgument, "amount: expected 1 to \(Cost.most), got \(limit.amount)")
      }
      guard limit.window >= .milliseconds(1) else {
        throw Fault(.invalidArgument, "window: expected at least 1 ms, got \(limit.window)")
      }
      let window = Nanoseconds.milliseconds(Request.milliseconds(limit.window))
      result.append(BudgetLimit(limit.unit, limit.amount, per: window))
    }
    guard maxConcurrent ?? 1 >= 1 else { throw Fault(.invalidArgument, "maxConcurrent: expected at least 1") }
    return try BudgetConfiguration(
      name.utf8, limits: result, burst: burst.map { .milliseconds(max(1, Request.milliseconds($0))) } ?? .max,
      maxConcurrent: maxConcurrent ?? .max, learns: learns)
  }
}

/// A budget by its name, and what a request is taken to cost of it until `Pool.settle` says what it took.
public struct Spending: Sendable {
  public var budget: String
  public var inputTokens: Int64
  public var outputTokens: Int64
  /// They are guesses: one that is larger than a limit goes alone, when all of that is there, instead of being refused.
  public var isEstimated: Bool
  public init(_ budget: String, inputTokens: Int64 = 0, outputTokens: Int64 = 0, isEstimated: Bool = false) {
    self.budget = budget
    self.inputTokens = inputTokens
    self.outputTokens = outputTokens
    self.isEstimated = isEstimated
  }
}

public typealias BudgetUnit = LLMPoolCore.BudgetUnit
/// A budget as it stands.
public typealias BudgetState = LLMPoolCore.BudgetView

extension Pool {
  /// Sets what is said of a budget; what was spent stays spent.
  public func configure(_ budget: Budget) throws {
    do { try handle.configureBudget(try budget.configuration()) } catch { throw PoolError(error) }
  }

  /// Nil: the pool knows no such budget.
  public func budget(named name: String) throws -> BudgetState? {
    do { return try handle.budget(name) } catch { throw PoolError(error) }
  }

  /// Says what a request really took, once. Of those that are over the last 4,096 can be settled; others are passed
  /// over.
  public func settle(_ requestID: UInt64, inputTokens: Int, outputTokens: Int) throws {
    do {
      try handle.open().settle(
        requestID, input: UInt64(clamping: inputTokens), output: UInt64(clamping: outputTokens))
    } catch { throw PoolError(error) }
  }
}
