import LLMPoolCore
import Testing

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
      state.origins["a"] = origin(.total, [5, 6])
      state.origins["b"] = origin(.total, [7])
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
    let shown = OriginCopy("a\"b", origin(.connect, [1_023, 1_024, 16_383, 1 << 28, 1 << 40]))
    let text = MetricsText(pool: Statistics(), origins: [shown], budgets: []).text
    for (bound, count) in [
      ("0.001024", 1), ("0.004096", 2), ("0.016384", 3), ("67.108864", 3), ("268.435456", 3), ("+Inf", 5),
    ] {
      #expect(text.contains("llmpool_connect_seconds_bucket{origin=\"a\\\"b\",le=\"\(bound)\"} \(count)\n"))
    }
    #expect(text.contains("llmpool_connect_seconds_sum{origin=\"a\\\"b\"} 1099780.081662\n"))
    #expect(text.contains("llmpool_connect_seconds_count{origin=\"a\\\"b\"} 5\n"))
    #expect(text.contains("llmpool_requests_pending{origin=\"a\\\"b\"} 0\n"))
    #expect(!text.contains("tls_seconds_bucket"))
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
