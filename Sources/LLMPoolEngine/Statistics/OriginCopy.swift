import LLMPoolCore

/// What is shown of one, or of several together.
struct OriginCopy {
  let name: String
  var statistics = Statistics()
  var reasons = ReasonCounts()
  var histograms = Histograms()
  var hasSeries = true

  init(_ name: String) { self.name = name }

  init(_ name: String, _ origin: PublishedOrigin) {
    self.name = name
    statistics = origin.statistics
    reasons = origin.reasons
    histograms = origin.histograms
    hasSeries = origin.hasSeries
  }

  mutating func add(_ other: OriginCopy) {
    statistics.add(other.statistics)
    reasons.merge(other.reasons)
    histograms.merge(other.histograms)
  }
}
