import LLMPoolCore

// What of a shared budget is this process's, so that sums over the processes of a fleet are right.
extension BudgetView {
  /// Of a limit, in thousandths: one of as many parts as there are members; all of it where it is not shared.
  func part(of limit: Limit) -> Int64 {
    guard let share else { return limit.limit * 1_000 }
    return Int64((Double(limit.limit) * share.share * 1_000).rounded())
  }
}
