/// A limit that providers tell of in the headers of their answers.
@frozen
public enum ToldLimit: UInt8, Sendable, CaseIterable {
  case requests, tokens, input, output
  /// Of the project, where another is the organisation's.
  case projectTokens

  public var unit: BudgetUnit {
    switch self {
    case .requests: .requests
    case .tokens, .projectTokens: .tokens
    case .input: .input
    case .output: .output
    }
  }
}

/// What the head of an answer tells of the provider's limits. Inline, so that events stay trivial.
public struct RateReport: Sendable {
  public struct Entry: Sendable {
    /// The whole of it; 0: this one is not told of.
    public var limit: Int64 = 0
    public var remaining: Int64 = 0
    /// Until all of it is there again; nil where that is not told.
    public var untilFull: Nanoseconds?
    /// In which the limit comes back, where its name says so.
    public var window: Nanoseconds?
    public init() {}
  }

  private var entries = InlineArray<5, Entry>(repeating: Entry())
  public private(set) var isEmpty = true
  public init() {}

  public subscript(limit: ToldLimit) -> Entry {
    get { entries[Int(limit.rawValue)] }
    set {
      entries[Int(limit.rawValue)] = newValue
      if newValue.limit > 0 { isEmpty = false }
    }
  }
}
