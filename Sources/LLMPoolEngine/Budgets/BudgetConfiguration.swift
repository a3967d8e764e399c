import LLMPoolCore

/// What is told of a budget. By reference, as messages are all as large as the largest.
package final class BudgetConfiguration: Sendable {
  package let name: String
  package let options: BudgetOptions

  /// - Parameter limits: where one is refused, the error names it by its index.
  package init(
    _ name: some Collection<UInt8>, limits: [BudgetLimit], burst: Nanoseconds, maxConcurrent: Int, learns: Bool
  ) throws(Fault) {
    self.name = try BudgetName.text(name)
    guard limits.count <= BudgetOptions.limitCount else {
      throw Fault(.invalidArgument, "count: expected at most \(BudgetOptions.limitCount) limits, got \(limits.count)")
    }
    var options = BudgetOptions()
    for (index, limit) in limits.enumerated() { options.limits[index] = limit }
    options.burst = burst
    options.maxConcurrent = maxConcurrent
    options.learns = learns
    self.options = options
  }
}

/// The name of a budget: in error messages, notices, metrics and a list with a line for each.
enum BudgetName {
  private static let most = 200

  /// Of a call that wants one.
  static func text(_ bytes: some Collection<UInt8>) throws(Fault) -> String {
    try validate(bytes)
    guard bytes.count > 0 else { throw Fault(.invalidArgument, "name: it is empty") }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// An empty one is none. Each request with a budget comes here: no String is made of what is ASCII.
  static func validate(_ bytes: some Collection<UInt8>) throws(Fault) {
    let isPrintable = bytes.allSatisfy { $0 >= 0x20 && $0 != 0x7F }
    let isText = bytes.allSatisfy { $0 < 0x80 } || String(validating: bytes, as: UTF8.self) != nil
    guard bytes.count <= most, isPrintable, isText else {
      throw Fault(.invalidArgument, "budget: expected a name of 1 to \(most) bytes of UTF-8 without control characters")
    }
  }
}
