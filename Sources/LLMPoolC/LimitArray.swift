import LLMPoolCore
import LLMPoolEngine

/// As many as a budget can have: those that can be configured, and those that answers tell.
let mostLimits = BudgetOptions.limitCount + ToldLimit.allCases.count

/// Reads limits from the caller's array, whose elements have the size of his header. `said`: how many can be given, for
/// the error. What `make` gives nil for is passed over.
func readLimits<Limit, Value>(
  _ limits: UnsafePointer<Limit>?, _ size: Int, _ count: UInt32, over defaults: Limit, smallest: Int, said: Int,
  _ make: (Limit, LimitPlace) throws(Fault) -> Value?
) throws(Fault) -> [Value] {
  guard count > 0 else { return [] }
  guard let limits else { throw Fault(.invalidArgument, "limits: NULL, but count is \(count)") }
  guard count <= mostLimits else {
    throw Fault(.invalidArgument, "count: expected at most \(said) limits, got \(count)")
  }
  try checkSize(size, of: Limit.self, "limit_size", smallest: smallest)
  var result: [Value] = []
  for index in 0..<Int(count) {
    let limit = element(index, of: limits, size, over: defaults)
    if let value = try make(limit, LimitPlace(index: index)) { result.append(value) }
  }
  return result
}

/// Which of the caller's limits it is, for the errors that its fields deserve.
struct LimitPlace {
  let index: Int
  static var most: UInt64 { UInt64(Cost.most) }

  private func refused(_ field: String, _ expected: String, _ value: UInt64) -> Fault {
    Fault(.invalidArgument, "limits[\(index)].\(field): expected \(expected), got \(value)")
  }

  func unit(_ value: UInt32) throws(Fault) -> BudgetUnit {
    guard let unit = UInt8(exactly: value).flatMap({ BudgetUnit(rawValue: $0) }) else {
      throw refused("unit", "one of LLMPOOL_UNIT_*", UInt64(value))
    }
    return unit
  }

  func check(_ field: String, _ value: UInt64, _ range: ClosedRange<UInt64>) throws(Fault) {
    guard range.contains(value) else { throw refused(field, "\(range.lowerBound) to \(range.upperBound)", value) }
  }
}
