import LLMPoolCore

/// A pool in the text format of Prometheus, version 0.0.4: a family of samples after the other, one sample an origin.
/// Written as bytes, and what many lines begin with is made once: there are thousands of them.
struct MetricsText {
  private var bytes: [UInt8] = []
  var text: String { String(decoding: bytes, as: UTF8.self) }

  /// Budgets beyond so many are one, "other": names may be of credentials, and come without end.
  private static let budgetsShown = 64

  init(pool: Statistics, origins: [OriginCopy], budgets: [(name: String, view: BudgetView)]) {
    bytes.reserveCapacity(origins.count * 24_000 + 16_384)
    family("utilization_ratio", "gauge", "Connections connecting and in use, of max_connections; 0: no limit.")
    put("llmpool_utilization_ratio \(pool.utilization)\n")
    let labels = origins.map { MetricsText.label("origin", $0.name) }
    for kind in CounterKind.allCases {
      for row in Statistics.rows where row.kind == kind {
        family(row.metric, kind.rawValue, row.help)
        for (origin, label) in zip(origins, labels) { add(row.metric, label, row.read(origin.statistics)) }
      }
    }
    for kind in ReasonKind.allCases { add(kind, zip(origins, labels)) }
    for kind in HistogramKind.allCases {
      family(kind.metric, "histogram", kind.help)
      for (origin, label) in zip(origins, labels) { add(kind.metric, label, origin.histograms[kind]) }
    }
    add(budgets)
  }

  /// Those that there were: of all that there could be there are too many.
  private mutating func add(_ kind: ReasonKind, _ origins: Zip2Sequence<[OriginCopy], [[UInt8]]>) {
    family(kind.metric, "counter", kind.help)
    for (origin, label) in origins {
      for (index, row) in ReasonRow.all.enumerated() where row.kind == kind && origin.reasons[index] > 0 {
        add(kind.metric, label + Array(",reason=\"\(row.word)\"".utf8), Int(origin.reasons[index]))
      }
    }
  }

  private mutating func add(_ budgets: [(name: String, view: BudgetView)]) {
    let named = budgets.filter { $0.name != "other" }
    let shown = named.prefix(MetricsText.budgetsShown)
    let rest = named.dropFirst(MetricsText.budgetsShown) + budgets.filter { $0.name == "other" }
    func family(_ name: String, _ kind: String, _ help: String, _ read: (BudgetView) -> Int) {
      self.family(name, kind, help)
      for budget in shown { add(name, MetricsText.label("budget", budget.name), read(budget.view)) }
      if !rest.isEmpty { add(name, MetricsText.label("budget", "other"), rest.reduce(0) { $0 + read($1.view) }) }
    }
    family("budget_refusals_total", "counter", "Answers of 429, 503 and 529 to requests of a budget.") { $0.refusals }
    family("budget_in_flight", "gauge", "Requests that their budget has admitted and that are not over.") {
      $0.inFlight
    }
    family("budget_waiting", "gauge", "Requests that wait for room in their budget.") { $0.waiting }
    self.family("budget_stopped_seconds", "gauge", "Until a budget goes on that an answer has stopped; else 0.")
    for budget in shown { addStop(MetricsText.label("budget", budget.name), budget.view.stoppedFor) }
    if let longest = rest.map(\.view.stoppedFor).max() { addStop(MetricsText.label("budget", "other"), longest) }
    limits("budget_limit", "What a budget may spend in the window of the limit.", shown) { $0.limit }
    limits("budget_remaining", "What a budget could spend of a limit now.", shown) { $0.remaining }
  }

  private mutating func addStop(_ label: [UInt8], _ stoppedFor: Nanoseconds) {
    let milliseconds = UInt64(stoppedFor / 1_000_000)
    put("llmpool_budget_stopped_seconds{")
    put(label)
    put("} ")
    put(milliseconds / 1_000)
    put(".")
    put(milliseconds % 1_000, digits: 3)
    put("\n")
  }

  /// Of two that are alike but for their amount the stricter one: it is what holds.
  private mutating func limits(
    _ name: String, _ help: String, _ budgets: ArraySlice<(name: String, view: BudgetView)>,
    _ read: (BudgetView.Limit) -> Int64
  ) {
    family(name, "gauge", help)
    for budget in budgets {
      var named: Set<[UInt8]> = []
      for limit in budget.view.limits.sorted(by: { $0.limit < $1.limit }) {
        // What is told comes back in a time that is estimated anew with each answer: no label of a series.
        let window = limit.isTold ? "" : "\(Double(limit.window / 1_000_000) / 1_000)"
        let more = ",unit=\"\(limit.unit.word)\",window=\"\(window)\",source=\"\(limit.source)\""
        guard named.insert(Array(more.utf8)).inserted else { continue }
        add(name, MetricsText.label("budget", budget.name) + Array(more.utf8), Int(read(limit)))
      }
    }
  }

  // MARK: Lines

  /// `origin="https://host:443"`
  private static func label(_ name: String, _ value: String) -> [UInt8] {
    var result = Array("\(name)=\"".utf8)
    for byte in value.utf8 {
      if byte == UInt8(ascii: "\\") || byte == UInt8(ascii: "\"") { result.append(UInt8(ascii: "\\")) }
      result.append(byte)
    }
    return result + [UInt8(ascii: "\"")]
  }

  private mutating func put(_ text: String) { bytes.append(contentsOf: text.utf8) }
  private mutating func put(_ text: [UInt8]) { bytes.append(contentsOf: text) }

  private mutating func put(_ number: UInt64, digits: Int = 1) {
    var rest = number
    let start = bytes.count
    while rest > 0 || bytes.count - start < digits {
      bytes.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10))
      rest /= 10
    }
    bytes[start...].reverse()
  }

  private mutating func family(_ name: String, _ kind: String, _ help: String) {
    put("# HELP llmpool_\(name) \(help)\n# TYPE llmpool_\(name) \(kind)\n")
  }

  private mutating func add(_ name: String, _ label: [UInt8], _ value: Int) {
    put("llmpool_\(name){")
    put(label)
    put("} \(value)\n")
  }

  // MARK: Histograms

  /// The bounds that are shown, as powers of two of microseconds: the buckets of a histogram end at each of them, so
  /// that the counts are exact.
  private static let bounds: [(bucket: Int, end: [UInt8])] =
    [10, 12, 14, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 28].map { power in
      let seconds = String(UInt64(1) << power)
      let digits = String(repeating: "0", count: max(0, 7 - seconds.utf8.count)) + seconds
      let end = ",le=\"\(digits.dropLast(6)).\(digits.suffix(6))\"} "
      return (Histogram.Buckets.index(of: 1 << power), Array(end.utf8))
    }

  /// Nothing of one in which nothing was counted.
  private mutating func add(_ name: String, _ label: [UInt8], _ histogram: HistogramCounter) {
    guard histogram.count > 0 else { return }
    let start = Array("llmpool_\(name)_bucket{".utf8) + label
    var below: UInt64 = 0
    var bucket = 0
    for bound in MetricsText.bounds {
      while bucket < bound.bucket {
        below += histogram.count(inBucket: bucket)
        bucket += 1
      }
      put(start)
      put(bound.end)
      put(below)
      put("\n")
    }
    put(start)
    put(",le=\"+Inf\"} ")
    put(histogram.count)
    put("\nllmpool_\(name)_sum{")
    put(label)
    put("} ")
    put(histogram.sum / 1_000_000)
    put(".")
    put(histogram.sum % 1_000_000, digits: 6)
    put("\nllmpool_\(name)_count{")
    put(label)
    put("} ")
    put(histogram.count)
    put("\n")
  }
}
