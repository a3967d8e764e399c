/// What one request asks for.
public struct RequestOptions: Sendable, Equatable {
  public struct Flags: OptionSet, Sendable {
    public var rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    /// The answer is delivered as it arrives: once its head is out nothing can be retried.
    public static let streamed = Flags(rawValue: 1 << 0)
    public static let retryStatus = Flags(rawValue: 1 << 1)
    public static let retrySent = Flags(rawValue: 1 << 2)
    public static let noRetry = Flags(rawValue: 1 << 3)
    /// A dial that fails ends it, and it does not wait for the pause after one that has failed.
    public static let noRedial = Flags(rawValue: 1 << 4)
    /// What it costs is a guess: no limit refuses it for that.
    public static let estimatedCost = Flags(rawValue: 1 << 5)
    /// Its body comes from the application in pieces.
    public static let upload = Flags(rawValue: 1 << 6)
  }

  /// A time that follows the pool's option.
  public static let asPool: Nanoseconds = 0

  public var submittedAt: Instant
  public var priority: Int32 = 0
  public var flags: Flags = []
  /// `asPool`: as the pool has it; `.max`: none.
  public var timeouts = Timeouts<Nanoseconds>(all: asPool)
  /// 0: as the pool has it when it is asked.
  public var maxRetries: UInt32 = 0
  /// `asPool`: as the pool has it when it is asked; `.max`: any.
  public var retryAfterMax: Nanoseconds = asPool
  /// When a second attempt goes out while the first is silent, for which `retrySent` is needed; `.max`: never.
  public var hedgeAfter: Nanoseconds = .max
  public var budget = BudgetID.none
  /// Tokens, from 0 to `Cost.most`.
  public var inputCost: Int64 = 0
  public var outputCost: Int64 = 0

  public init(submittedAt: Instant = .never) { self.submittedAt = submittedAt }

  /// A time of a request, which may follow the pool's.
  public static func resolved(_ own: Nanoseconds, with pool: Nanoseconds) -> Nanoseconds {
    own == asPool ? pool : own
  }

  /// The timeouts that are left to the pool take its values as they are now.
  public func resolved(with pool: PoolOptions) -> RequestOptions {
    var result = self
    result.timeouts = timeouts.combined(with: pool.timeouts) { RequestOptions.resolved($0, with: $1) }
    return result
  }
}
