import LLMPoolCore

/// A pool in the text format of Prometheus, version 0.0.4: a family of samples after the other, one sample an origin.
struct MetricsText {
  private(set) var text = ""

  private typealias Reading = @Sendable (Statistics) -> Double

  private static let counters: [(name: String, help: String, read: Reading)] = [
    ("requests_submitted_total", "Requests accepted.", { Double($0.counters.submitted) }),
    (
      "requests_succeeded_total", "Requests that got an answer, whatever its status.", { Double($0.counters.succeeded) }
    ),
    ("requests_failed_total", "Requests that got none.", { Double($0.counters.failed) }),
    ("requests_cancelled_total", "Requests cancelled by the application.", { Double($0.counters.cancelled) }),
    ("retries_total", "Attempts after the first.", { Double($0.counters.retries) }),
    ("connections_opened_total", "Connections that were begun.", { Double($0.counters.opened) }),
    ("connections_closed_total", "Connections that ended.", { Double($0.counters.closed) }),
    ("connections_reused_total", "Requests that an open connection carried.", { Double($0.counters.reused) }),
    ("connect_failures_total", "Dials that failed.", { Double($0.counters.connectFailures) }),
    ("dns_lookups_total", "Names that were looked up.", { Double($0.counters.dnsLookups) }),
    ("dns_cache_hits_total", "Dials whose name was known.", { Double($0.counters.dnsCacheHits) }),
    ("tls_handshakes_total", "TLS handshakes, resumed ones too.", { Double($0.wire.tlsHandshakes) }),
    ("tls_resumptions_total", "TLS handshakes that resumed a session.", { Double($0.wire.tlsResumptions) }),
    ("sent_bytes_total", "Bytes sent on sockets, TLS included.", { Double($0.wire.bytesSent) }),
    ("received_bytes_total", "Bytes received on sockets, TLS included.", { Double($0.wire.bytesReceived) }),
  ]
  private static let gauges: [(name: String, help: String, read: Reading)] = [
    ("requests_pending", "Requests waiting for a connection.", { Double($0.counters.pending) }),
    ("requests_active", "Requests on a connection.", { Double($0.counters.active) }),
    ("requests_backing_off", "Requests waiting to be tried again.", { Double($0.counters.backingOff) }),
    ("connections_connecting", "Connections being opened.", { Double($0.counters.connecting) }),
    ("connections_in_use", "Connections with a request.", { Double($0.counters.inUse) }),
    ("connections_idle", "Connections without one.", { Double($0.counters.idle) }),
  ]

  init(pool: Statistics, origins: [(name: String, statistics: Statistics, latencies: Latencies)]) {
    family("utilization_ratio", "gauge", "Connections connecting and in use, of max_connections; 0: no limit.")
    text += "llmpool_utilization_ratio \(pool.utilization)\n"
    for (kind, samples) in [("counter", MetricsText.counters), ("gauge", MetricsText.gauges)] {
      for sample in samples {
        family(sample.name, kind, sample.help)
        for origin in origins { add(sample.name, origin.name, sample.read(origin.statistics)) }
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

  private mutating func add(_ name: String, _ origin: String, _ value: Double) {
    text += "llmpool_\(name){origin=\"\(origin)\"} \(MetricsText.number(value))\n"
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

  private static func number(_ value: Double) -> String {
    value == value.rounded() && abs(value) < 1e15 ? "\(Int64(value))" : "\(value)"
  }
}
