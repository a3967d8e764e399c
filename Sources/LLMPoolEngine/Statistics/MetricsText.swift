import LLMPoolCore

/// What the metrics are written in. The two differ in what a counter's family is called, in units and in the end.
package enum MetricsFormat: UInt32, Sendable {
  /// The text format of Prometheus, version 0.0.4.
  case prometheus = 1
  /// OpenMetrics 1.0.
  case openMetrics = 2
}

/// A pool as text: a family of samples after the other, one sample an origin. Written as bytes, and what many lines
/// begin with is made once: there are thousands of them.
struct MetricsText {
  private var bytes: [UInt8] = []
  private let format: MetricsFormat
  var text: String { String(decoding: bytes, as: UTF8.self) }

  init(_ format: MetricsFormat, pool: Statistics, origins: [OriginCopy], budgets: ShownBudgets) {
    self.format = format
    bytes.reserveCapacity(origins.count * 16_000 + 16_384)
    family("utilization_ratio", .gauge, "Connections connecting and in use, of max_connections; 0: no limit.")
    put("llmpool_utilization_ratio \(pool.utilization)\n")
    let labels = origins.map { MetricsText.label("origin", $0.name) }
    for kind in CounterKind.allCases {
      for row in Statistics.rows where row.kind == kind {
        let start = family(row.metric, kind, row.help)
        for (origin, label) in zip(origins, labels) { sample(start, label, row.read(origin.statistics)) }
      }
    }
    for kind in ReasonKind.allCases { add(kind, zip(origins, labels)) }
    for kind in HistogramKind.allCases {
      family(kind.metric, "histogram", kind.help)
      let starts = ["_bucket", "_sum", "_count"].map { MetricsText.start(kind.metric + $0) }
      let ends = kind.bounds.map { (Histogram.Buckets.index(of: 1 << $0), MetricsText.end(of: $0)) }
      for (origin, label) in zip(origins, labels) { add(starts, ends, label, origin.histograms[kind]) }
    }
    add(budgets)
    if format == .openMetrics { put("# EOF\n") }
  }

  // MARK: Reasons

  private static let reasons: [(row: ReasonRow, label: [UInt8])] =
    ReasonRow.all.map { ($0, Array(",reason=\"\($0.word)\"".utf8)) }
  /// What stands for all that have no series of their own: origins, budgets, reasons.
  static let other = "other"
  private static let otherReason = Array(",reason=\"\(other)\"".utf8)

  /// Those that there were, the rare ones together: all that could be are too many.
  private mutating func add(_ kind: ReasonKind, _ origins: Zip2Sequence<[OriginCopy], [[UInt8]]>) {
    let start = family(kind.metric, .counter, kind.help)
    for (origin, label) in origins {
      var others: UInt64 = 0
      for (index, reason) in MetricsText.reasons.enumerated() where reason.row.kind == kind {
        let count = origin.reasons[index]
        if !reason.row.hasSeries {
          others += count
        } else if count > 0 {
          sample(start, label + reason.label, Int(count))
        }
      }
      if others > 0 { sample(start, label + MetricsText.otherReason, Int(others)) }
    }
  }

  // MARK: Budgets

  private mutating func add(_ budgets: ShownBudgets) {
    let labels = budgets.own.map { MetricsText.label("budget", $0.label) }
    let other = MetricsText.label("budget", MetricsText.other)
    func family(_ name: String, _ kind: CounterKind, _ help: String, past: Int = 0, _ read: (BudgetView) -> Int) {
      let start = self.family(name, kind, help)
      for (budget, label) in zip(budgets.own, labels) { sample(start, label, read(budget.view)) }
      if budgets.hasOthers { sample(start, other, budgets.others.reduce(past) { $0 + read($1) }) }
    }
    family(
      "budget_refusals_total", .counter, "Answers of 429, 503 and 529 to requests of a budget.",
      past: budgets.refusalsOfForgotten
    ) { $0.refusals }
    family("budget_in_flight", .gauge, "Requests that their budget has admitted and that are not over.") {
      $0.inFlight
    }
    family("budget_waiting", .gauge, "Requests that wait for room in their budget.") { $0.waiting }
    let start = self.family(
      "budget_stopped_seconds", .gauge, "Until a budget goes on that an answer has stopped; else 0.")
    func stopped(_ budget: BudgetView) -> UInt64 { UInt64(budget.stoppedFor / 1_000_000) }
    for (budget, label) in zip(budgets.own, labels) { sample(start, label, thousandths: stopped(budget.view)) }
    if budgets.hasOthers { sample(start, other, thousandths: budgets.others.map(stopped).max() ?? 0) }
    limits(
      "budget_limit", "What a budget may spend in the window of the limit; of a shared one this process's part.",
      budgets.own, labels, inThousandths: true
    ) { $0.part(of: $1) }
    limits("budget_remaining", "What a budget could spend of a limit now.", budgets.own, labels) { $1.remaining }
    addShares(budgets.own, labels)
  }

  /// Of those that several processes share.
  private mutating func addShares(_ budgets: [LabelledBudget], _ labels: [[UInt8]]) {
    func family(_ name: String, _ kind: CounterKind, _ help: String, _ read: (ShareView) -> Int) {
      let start = self.family(name, kind, help)
      for (budget, label) in zip(budgets, labels) {
        if let share = budget.view.share { sample(start, label, read(share)) }
      }
    }
    family("budget_members", .gauge, "Processes that share a budget, as the last grant said; 0: none has.") {
      $0.members
    }
    family("budget_leased", .gauge, "1: a shared budget spends from a lease; 0: its safe share.") {
      $0.isLeased ? 1 : 0
    }
    family(
      "budget_lapses_total", .counter,
      "How often a safe share has taken the place of a lease, as no grant came in time."
    ) { $0.lapses }
    limits(
      "budget_spent", "What this process has spent of a shared budget since it is shared, less what came back.",
      budgets, labels
    ) { $0.share == nil ? nil : $1.spent }
  }

  /// Of two that are alike but for their amount the stricter one: it is what holds.
  private mutating func limits(
    _ name: String, _ help: String, _ budgets: [LabelledBudget], _ labels: [[UInt8]],
    inThousandths: Bool = false, _ read: (BudgetView, BudgetView.Limit) -> Int64?
  ) {
    let start = family(name, .gauge, help)
    for (budget, label) in zip(budgets, labels) {
      var named: Set<[UInt8]> = []
      for limit in budget.view.limits.sorted(by: { $0.limit < $1.limit }) {
        // What is told comes back in a time that is estimated anew with each answer: no label of a series.
        let window = limit.isTold ? "" : "\(Double(limit.window / 1_000_000) / 1_000)"
        let more = Array(",unit=\"\(limit.unit.word)\",window=\"\(window)\",source=\"\(limit.source)\"".utf8)
        guard named.insert(more).inserted, let value = read(budget.view, limit) else { continue }
        if inThousandths, value % 1_000 != 0 {
          sample(start, label + more, thousandths: UInt64(value))
        } else {
          sample(start, label + more, Int(inThousandths ? value / 1_000 : value))
        }
      }
    }
  }

  // MARK: Histograms

  /// `,le="1.048576"} `, of a power of two of microseconds.
  private static func end(of power: UInt64) -> [UInt8] {
    let micros = String(UInt64(1) << power)
    let digits = String(repeating: "0", count: max(0, 7 - micros.utf8.count)) + micros
    return Array(",le=\"\(digits.dropLast(6)).\(digits.suffix(6))\"} ".utf8)
  }
  private static let infinity = Array(",le=\"+Inf\"} ".utf8)

  /// Nothing of one in which nothing was counted.
  private mutating func add(
    _ starts: [[UInt8]], _ ends: [(bucket: Int, text: [UInt8])], _ label: [UInt8], _ histogram: HistogramCounter
  ) {
    guard histogram.count > 0 else { return }
    let start = starts[0] + label
    var below: UInt64 = 0
    var bucket = 0
    for end in ends {
      while bucket < end.bucket {
        below += histogram.count(inBucket: bucket)
        bucket += 1
      }
      line(start, end.text, below)
    }
    line(start, MetricsText.infinity, histogram.count)
    put(starts[1])
    put(label)
    put("} ")
    put(histogram.sum / 1_000_000)
    put(".")
    put(histogram.sum % 1_000_000, digits: 6)
    put("\n")
    sample(starts[2], label, Int(histogram.count))
  }

  // MARK: Lines

  /// `origin="https://host:443"`
  private static func label(_ name: String, _ value: String) -> [UInt8] {
    var result = Array("\(name)=\"".utf8)
    for byte in value.utf8 {
      if "\\\"\n".utf8.contains(byte) { result.append(UInt8(ascii: "\\")) }
      result.append(byte == UInt8(ascii: "\n") ? UInt8(ascii: "n") : byte)
    }
    return result + [UInt8(ascii: "\"")]
  }

  private static func start(_ name: String) -> [UInt8] { Array("llmpool_\(name){".utf8) }

  /// What each of its samples begins with.
  @discardableResult
  private mutating func family(_ name: String, _ kind: CounterKind, _ help: String) -> [UInt8] {
    let isNamedShort = kind == .counter && format == .openMetrics
    family(isNamedShort ? String(name.dropLast("_total".count)) : name, kind.rawValue, help)
    return MetricsText.start(name)
  }

  private mutating func family(_ name: String, _ kind: String, _ help: String) {
    put("# HELP llmpool_\(name) \(help)\n# TYPE llmpool_\(name) \(kind)\n")
    guard format == .openMetrics else { return }
    let unit = name.split(separator: "_").last!
    if ["seconds", "bytes", "ratio"].contains(unit) { put("# UNIT llmpool_\(name) \(unit)\n") }
  }

  private mutating func sample(_ start: [UInt8], _ label: [UInt8], _ value: Int) {
    put(start)
    put(label)
    put(value < 0 ? "} -" : "} ")
    put(UInt64(value.magnitude))
    put("\n")
  }

  private mutating func sample(_ start: [UInt8], _ label: [UInt8], thousandths: UInt64) {
    put(start)
    put(label)
    put("} ")
    put(thousandths / 1_000)
    put(".")
    put(thousandths % 1_000, digits: 3)
    put("\n")
  }

  private mutating func line(_ start: [UInt8], _ end: [UInt8], _ value: UInt64) {
    put(start)
    put(end)
    put(value)
    put("\n")
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
}
