import LLMPoolCore

/// What the provider of a fleet has left of each limit, by its own books. It refuses nobody, and remembers by how much
/// it was overspent.
package struct FleetProvider {
  package struct Limit {
    package var limit: BudgetLimit
    var capacity: Double
    package private(set) var level: Double
    package private(set) var at: Instant
    /// The lowest that the level has been.
    package var lowest = 0.0

    init(_ limit: BudgetLimit, _ burst: Nanoseconds, _ provided: Nanoseconds, _ now: Instant) {
      self.limit = limit
      let rate = Double(limit.amount) / Double(limit.window)
      capacity = rate * Double(min(limit.window, burst))
      level = min(capacity, rate * Double(provided))
      at = now
    }

    package var rate: Double { Double(limit.amount) / Double(limit.window) }

    mutating func take(_ cost: Cost, _ now: Instant) {
      level = min(capacity, level + rate * Double(now - at)) - Double(cost.amount(limit.unit))
      at = now
      lowest = min(lowest, level)
    }
  }
  package var limits: [Limit]

  init(_ budget: BudgetOptions, _ provided: Nanoseconds, _ now: Instant) {
    limits = budget.limits.indices.map { budget.limits[$0] }.filter(\.exists).map {
      Limit($0, budget.burst, provided, now)
    }
  }

  /// What an answer tells.
  var report: RateReport {
    var report = RateReport()
    for limit in limits {
      let told: ToldLimit = limit.limit.unit == .requests ? .requests : .tokens
      let missing = Double(limit.limit.amount) - limit.level
      report[told].limit = limit.limit.amount
      report[told].remaining = Int64(limit.level.rounded(.down))
      // In whole seconds, as some do.
      report[told].untilFull = .seconds(Int64((missing / limit.rate / 1e9).rounded(.up)))
    }
    return report
  }

  mutating func take(_ cost: Cost, _ now: Instant) {
    for index in limits.indices { limits[index].take(cost, now) }
  }

  /// The most that it was overspent since, of a whole limit.
  package var overspent: Double { limits.map { -$0.lowest / Double($0.limit.amount) }.max() ?? 0 }
}
