import LLMPoolCore

/// The histograms of an origin, one of each kind.
struct Histograms: Sendable {
  private var counters = InlineArray<8, HistogramCounter>(repeating: HistogramCounter())

  subscript(kind: HistogramKind) -> HistogramCounter { counters[kind.rawValue] }

  mutating func add(_ sample: Sample) {
    counters[sample.kind.rawValue].add(sample.microseconds, times: sample.times)
  }

  /// Adds those of the same kinds.
  mutating func merge(_ other: Histograms) {
    for kind in HistogramKind.allCases where other[kind].count > 0 { counters[kind.rawValue].merge(other[kind]) }
  }

  /// One of each kind, in their order.
  var all: [Histogram] { HistogramKind.allCases.map { self[$0].histogram } }
}

/// A duration that was measured in this turn. Those of a turn are counted together, under the lock of what is
/// published: there is no second copy of the histograms, and nothing to copy each turn.
struct Sample {
  let kind: HistogramKind
  let origin: Int32
  let times: UInt32
  let microseconds: UInt64
}
