import LLMPoolCore

/// A pool in the text format of Prometheus, version 0.0.4: a family of samples after the other, one sample an origin.
struct MetricsText {
  private(set) var text = ""

  /// Budgets beyond so many are one, "other": names may be of credentials, and come without end.
  private static let budgetsShown = 50

  init(
    pool: Statistics, origins: [(name: String, statistics: Statistics, latencies: Latencies)],
    budgets: [(name: String, view: BudgetView)]
  ) {
    family("utilization_ratio", "gauge", "Connections connecting and in use, of max_connections; 0: no limit.")
    text += "llmpool_utilization_ratio \(pool.utilization)\n"
    for kind in CounterKind.allCases {
      for row in Statistics.rows where row.kind == kind {
        family(row.metric, kind.rawValue, row.help)
        for origin in origins { add(row.metric, "origin", origin.name, row.read(origin.statistics)) }
      }
    }
    histograms(
      "request_admitted_seconds", "From submission to a connection.", origins.map { ($0.name, $0.latencies.admitted) })
    histograms(
      "request_first_byte_seconds", "From submission to the first byte of the answer.",
      origins.map { ($0.name, $0.latencies.firstByte) })
    histograms("request_duration_seconds", "From submission to the end.", origins.map { ($0.name, $0.latencies.total) })
    add(budgets)
  }

  private mutating func add(_ budgets: [(name: String, view: BudgetView)]) {
    let named = budgets.filter { $0.name != "other" }
    let shown = named.prefix(MetricsText.budgetsShown)
    let rest = named.dropFirst(MetricsText.budgetsShown) + budgets.filter { $0.name == "other" }
    func family(_ name: String, _ kind: String, _ help: String, _ read: (BudgetView) -> Int) {
      self.family(name, kind, help)
      for budget in shown { add(name, "budget", budget.name, read(budget.view)) }
      if !rest.isEmpty { add(name, "budget", "other", rest.reduce(0) { $0 + read($1.view) }) }
    }
    family("budget_refusals_total", "counter", "Answers of 429, 503 and 529 to requests of a budget.") { $0.refusals }
    family("budget_in_flight", "gauge", "Requests that their budget has admitted and that are not over.") {
      $0.inFlight
    }
    family("budget_waiting", "gauge", "Requests that wait for room in their budget.") { $0.waiting }
    family("budget_stopped_milliseconds", "gauge", "Until a budget goes on that an answer has stopped; else 0.") {
      Int($0.stoppedFor / 1_000_000)
    }
    limits("budget_limit", "What a budget may spend in the window of the limit.", shown) { $0.limit }
    limits("budget_remaining", "What a budget could spend of a limit now.", shown) { $0.remaining }
  }

  private mutating func limits(
    _ name: String, _ help: String, _ budgets: ArraySlice<(name: String, view: BudgetView)>,
    _ read: (BudgetView.Limit) -> Int64
  ) {
    family(name, "gauge", help)
    for budget in budgets {
      for limit in budget.view.limits {
        // What is told comes back in a time that is estimated anew with each answer: no label of a series.
        let window = limit.isTold ? "" : "\(Double(limit.window / 1_000_000) / 1_000)"
        let source = limit.told.map { $0 == .projectTokens ? "told of the project" : "told" } ?? "configured"
        text += "llmpool_\(name){budget=\"\(MetricsText.escaped(budget.name))\",unit=\"\(limit.unit.word)\","
        text += "window=\"\(window)\",source=\"\(source)\"} \(read(limit))\n"
      }
    }
  }

  private static func escaped(_ label: String) -> String {
    var result = ""
    for character in label.unicodeScalars {
      if character == "\\" || character == "\"" { result += "\\" }
      result.unicodeScalars.append(character)
    }
    return result
  }

  private mutating func family(_ name: String, _ kind: String, _ help: String) {
    text += "# HELP llmpool_\(name) \(help)\n# TYPE llmpool_\(name) \(kind)\n"
  }

  private mutating func add(_ name: String, _ label: String, _ of: String, _ value: Int) {
    text += "llmpool_\(name){\(label)=\"\(MetricsText.escaped(of))\"} \(value)\n"
  }

  private mutating func histograms(_ name: String, _ help: String, _ all: [(String, Histogram)]) {
    family(name, "histogram", help)
    for (origin, histogram) in all {
      var below: UInt64 = 0
      for (index, bound) in Histogram.bounds.enumerated() {
        below += histogram.counts[index]
        text += "llmpool_\(name)_bucket{origin=\"\(origin)\",le=\"\(Double(bound) / 1e6)\"} \(below)\n"
      }
      text += "llmpool_\(name)_bucket{origin=\"\(origin)\",le=\"+Inf\"} \(histogram.count)\n"
      text += "llmpool_\(name)_sum{origin=\"\(origin)\"} \(Double(histogram.sum) / 1e6)\n"
      text += "llmpool_\(name)_count{origin=\"\(origin)\"} \(histogram.count)\n"
    }
  }
}
