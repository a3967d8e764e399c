import LLMPoolCore

/// A pool in the text format of Prometheus, version 0.0.4: a family of samples after the other, one sample an origin.
struct MetricsText {
  private(set) var text = ""

  init(pool: Statistics, origins: [(name: String, statistics: Statistics, latencies: Latencies)]) {
    family("utilization_ratio", "gauge", "Connections connecting and in use, of max_connections; 0: no limit.")
    text += "llmpool_utilization_ratio \(pool.utilization)\n"
    for kind in CounterKind.allCases {
      for row in Statistics.rows where row.kind == kind {
        family(row.metric, kind.rawValue, row.help)
        for origin in origins { add(row.metric, origin.name, row.read(origin.statistics)) }
      }
    }
    histograms(
      "request_admitted_seconds", "From submission to a connection.", origins.map { ($0.name, $0.latencies.admitted) })
    histograms(
      "request_first_byte_seconds", "From submission to the first byte of the answer.",
      origins.map { ($0.name, $0.latencies.firstByte) })
    histograms("request_duration_seconds", "From submission to the end.", origins.map { ($0.name, $0.latencies.total) })
  }

  private mutating func family(_ name: String, _ kind: String, _ help: String) {
    text += "# HELP llmpool_\(name) \(help)\n# TYPE llmpool_\(name) \(kind)\n"
  }

  private mutating func add(_ name: String, _ origin: String, _ value: Int) {
    text += "llmpool_\(name){origin=\"\(origin)\"} \(value)\n"
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
