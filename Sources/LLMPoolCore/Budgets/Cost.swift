/// Requests, and the tokens that they are said or known to take.
@frozen
public struct Cost: Sendable, Equatable {
  public var requests: Int64
  public var input: Int64
  public var output: Int64
  @inlinable public init(requests: Int64 = 0, input: Int64 = 0, output: Int64 = 0) {
    self.requests = requests
    self.input = input
    self.output = output
  }

  /// A sum of millions of them does not overflow.
  public static var most: Int64 { 1 << 40 }

  @inlinable public func amount(_ unit: BudgetUnit) -> Int64 {
    switch unit {
    case .requests: requests
    case .tokens: input + output
    case .input: input
    case .output: output
    }
  }

  @inlinable static func += (left: inout Cost, right: Cost) {
    left.requests += right.requests
    left.input += right.input
    left.output += right.output
  }
  @inlinable static func -= (left: inout Cost, right: Cost) {
    left.requests -= right.requests
    left.input -= right.input
    left.output -= right.output
  }
}
