import Testing

@testable import LLMPoolCore
@testable import LLMPoolEngine

/// What is published, and the text that is made of it.
@Suite struct StatisticsTests {
  private func origin(_ kind: HistogramKind, _ microseconds: [UInt64]) -> PublishedOrigin {
    let origin = PublishedOrigin()
    for value in microseconds {
      origin.histograms.add(Sample(kind: kind, origin: 0, times: 1, microseconds: value))
    }
    return origin
  }

  @Test func whatAForgottenOriginHasMeasuredStays() {
    let published = PublishedStatistics()
    published.update { state in
      state.add("a", origin(.total, [5, 6]))
      state.add("b", origin(.total, [7]))
    }
    let before = published.histograms
    #expect(before[HistogramKind.total.rawValue].count == 3)
    published.update { state in
      state.forget("a")
      state.forget("nobody")
    }
    #expect(published.histograms == before)
    #expect(published.histograms(ofOrigin: "a") == nil)
    #expect(published.histograms(ofOrigin: "b")?[HistogramKind.total.rawValue].sum == 7)
    #expect(published.originNames == ["b"])
  }

  @Test func theTextCountsUpToEachBound() {
    let shown = OriginCopy("a\"b", origin(.connect, [4_095, 4_096, 16_383, 1 << 28, 1 << 40]))
    let text = MetricsText(.prometheus, pool: Statistics(), origins: [shown], budgets: ShownBudgets()).text
    for (bound, count) in [("0.004096", 1), ("0.016384", 3), ("4.194304", 3), ("+Inf", 5)] {
      #expect(text.contains("llmpool_connect_seconds_bucket{origin=\"a\\\"b\",le=\"\(bound)\"} \(count)\n"))
    }
    #expect(text.contains("llmpool_connect_seconds_sum{origin=\"a\\\"b\"} 1099780.087806\n"))
    #expect(text.contains("llmpool_connect_seconds_count{origin=\"a\\\"b\"} 5\n"))
    #expect(text.contains("llmpool_requests_pending{origin=\"a\\\"b\"} 0\n"))
    #expect(!text.contains("tls_seconds_bucket"))
  }

  private func busyOrigin(_ count: Int) -> PublishedOrigin {
    let origin = origin(.total, Array(repeating: 1, count: count))
    for row in Statistics.rows { row.add(&origin.statistics, count) }
    var counts = ReasonCounts()
    for reason in Reason.all { for _ in 0..<count { counts.add(reason) } }
    origin.reasons = counts
    return origin
  }

  /// By their names with their labels.
  private func samples(_ published: PublishedStatistics) -> [String: Double] {
    let lines = published.metrics(.prometheus, ShownBudgets()).split(separator: "\n").filter { !$0.hasPrefix("#") }
    return Dictionary(
      uniqueKeysWithValues: lines.map { line in
        let blank = line.lastIndex(of: " ")!
        return (String(line[..<blank]), Double(line[blank...].dropFirst())!)
      })
  }

  @Test func anOriginHasAtMost150Series() {
    let published = PublishedStatistics()
    let origin = busyOrigin(1)
    for kind in HistogramKind.allCases {
      origin.histograms.add(Sample(kind: kind, origin: 0, times: 1, microseconds: 9))
    }
    published.update { $0.add("a", origin) }
    #expect((140...150).contains(samples(published).keys.filter { $0.contains("origin=") }.count))
    for kind in HistogramKind.allCases {
      #expect(kind.bounds == kind.bounds.sorted() && Set(kind.bounds).count == kind.bounds.count)
    }
  }

  /// Origins come and go, in any order: beyond the first they are one, which counts all that they did.
  @Test func countersOfTheOthersDoNotFall() {
    let published = PublishedStatistics()
    var random = SystemRandomNumberGenerator()
    var known: [String: PublishedOrigin] = [:]
    var before: [String: Double] = [:]
    func isCounter(_ name: String) -> Bool {
      name.contains("origin=\"other\"")
        && ["_total{", "_bucket{", "_count{", "_sum{"].contains { name.contains($0) }
    }
    for step in 0..<40 {
      published.update { state in
        for number in 0..<20 {
          let name = "http://h\(step)-\(number)"
          known[name] = busyOrigin(Int.random(in: 1...3, using: &random))
          state.add(name, known[name]!)
        }
        for name in known.keys.shuffled().prefix(step < 15 ? 0 : 22) {
          known[name] = nil
          state.forget(name)
        }
      }
      let now = samples(published)
      let origins = now.keys.filter { $0.hasPrefix("llmpool_requests_pending{") }
      #expect(origins.count <= 201)
      for (name, value) in before where isCounter(name) { #expect(now[name] ?? 0 >= value, "\(name), step \(step)") }
      before = now
    }
    #expect(before.keys.contains { isCounter($0) })
    let pending = before["llmpool_requests_pending{origin=\"other\"}"]
    let shown = before.filter { $0.key.hasPrefix("llmpool_requests_pending{") }.reduce(0) { $0 + $1.value }
    #expect(shown == Double(known.values.reduce(0) { $0 + $1.statistics.counters.pending }), "\(pending ?? 0)")
  }

  @Test func bothFormatsSayTheSame() {
    let published = PublishedStatistics()
    published.update { $0.add("a", busyOrigin(2)) }
    var budgets = ShownBudgets()
    budgets.refusalsOfForgotten = 3
    let texts = [MetricsFormat.prometheus, .openMetrics].map { published.metrics($0, budgets) }
    let lines = texts.map { $0.split(separator: "\n").filter { !$0.hasPrefix("#") } }
    #expect(lines[0] == lines[1])
    #expect(lines[0].contains("llmpool_budget_refusals_total{budget=\"other\"} 3"))
    #expect(texts[1].hasSuffix("\n# EOF\n") && !texts[0].contains("# EOF"))
    #expect(texts[1].contains("# TYPE llmpool_retries counter\n") && texts[0].contains("# TYPE llmpool_retries_total "))
  }

  /// Sums over the processes of a fleet are its limit, and a debt without end is no trap.
  @Test func ofASharedBudgetAProcessHasItsPart() {
    var view = BudgetView(BudgetOptions())
    view.limits = [
      BudgetView.Limit(
        unit: .tokens, limit: 1_000, remaining: -9_000_000_000_000_000_000, untilFull: 0, window: .seconds(60),
        told: nil, spent: -5)
    ]
    let labels = "{budget=\"b\",unit=\"tokens\",window=\"60.0\",source=\"configured\"}"
    func text() -> String {
      let budgets = ShownBudgets(own: [LabelledBudget(label: "b", view: view)])
      return MetricsText(.prometheus, pool: Statistics(), origins: [], budgets: budgets).text
    }
    let alone = text()
    #expect(alone.contains("llmpool_budget_limit\(labels) 1000\n"))
    #expect(!alone.contains("llmpool_budget_spent{") && !alone.contains("llmpool_budget_members{"))
    view.share = ShareView(isLeased: true, validFor: .seconds(1), members: 7, share: 1 / 7, lapses: 2, places: .max)
    let shared = text()
    #expect(shared.contains("llmpool_budget_limit\(labels) 142.857\n"))
    #expect(shared.contains("llmpool_budget_remaining\(labels) -9000000000000000000\n"))
    #expect(shared.contains("llmpool_budget_spent\(labels) -5\n"))
    for (name, value) in [("members", 7), ("leased", 1), ("lapses_total", 2)] {
      #expect(shared.contains("llmpool_budget_\(name){budget=\"b\"} \(value)\n"))
    }
  }

  /// Programs find them by their names.
  @Test func namesAreToldApart() {
    let names = HistogramKind.allCases.map { "\($0.name)" }
    #expect(Set(names).count == names.count)
    for kind in ReasonKind.allCases {
      let words = ReasonRow.all.filter { $0.kind == kind }.map(\.word)
      #expect(Set(words).count == words.count)
    }
    #expect(ReasonRow.all.allSatisfy { String(cString: $0.name) == $0.word })
    #expect(ReasonRow.all.count == Reason.all.count)
  }
}
