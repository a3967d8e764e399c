import LLMPoolCore

/// The histograms of an origin, one of each kind.
struct Histograms: Sendable {
  private var counters = InlineArray<8, HistogramCounter>(repeating: HistogramCounter())

  subscript(kind: HistogramKind) -> HistogramCounter { counters[kind.rawValue] }

  mutating func add(_ sample: Sample) {
    counters[sample.kind.rawValue].add(sample.microseconds, times: sample.times)
  }

  /// Adds them to others of the same kinds.
  func add(to others: inout [Histogram]) {
    for kind in HistogramKind.allCases where self[kind].count > 0 { others[kind.rawValue].merge(self[kind].histogram) }
  }

  static let none = HistogramKind.allCases.map { _ in Histogram() }
}

/// A duration that was measured in this turn. Those of a turn are counted together, under the lock of what is
/// published: there is no second copy of the histograms, and nothing to copy each turn.
struct Sample {
  let kind: HistogramKind
  let origin: Int32
  let times: UInt32
  let microseconds: UInt64
}
