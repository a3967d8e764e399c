import LLMPoolCore

/// What the engine counts itself, of the pool or of one origin.
public struct WireCounters: Sendable, Equatable {
  public var tlsHandshakes = 0
  public var tlsResumptions = 0
  public var bytesSent = 0
  public var bytesReceived = 0
  public var unwatchedStreams = 0

  static let rows: [CounterRow<WireCounters>] = [
    .counter("tls_handshakes", \.tlsHandshakes, "tls_handshakes_total", "TLS handshakes, resumed ones too."),
    .counter(
      "tls_resumptions", \.tlsResumptions, "tls_resumptions_total", "TLS handshakes that resumed a session."),
    .counter("bytes_sent", \.bytesSent, "sent_bytes_total", "Bytes sent on sockets, TLS included."),
    .counter("bytes_received", \.bytesReceived, "received_bytes_total", "Bytes received on sockets, TLS included."),
    .counter(
      "unwatched_streams", \.unwatchedStreams, "unwatched_streams_total",
      "Streamed answers for which an event timeout did not run: encoded, or neither events nor JSON."),
  ]
}

/// One consistent snapshot: `llmpool_stats_t`.
package struct Statistics: Sendable, Equatable {
  package var counters = Counters()
  package var wire = WireCounters()
  /// The core says .max where there is no limit.
  var maxConnections = Int.max
  package init() {}

  /// (connecting + in use) / max_connections; 0 where there is no limit.
  package var utilization: Double {
    maxConnections < .max ? Double(counters.connecting + counters.inUse) / Double(maxConnections) : 0
  }

  /// Each count with its names.
  package static let rows: [CounterRow<Statistics>] =
    Counters.rows.map { $0.within(\.counters) } + WireCounters.rows.map { $0.within(\.wire) }

  /// Adds what the other has counted since it began; what is so many now is left out.
  mutating func addCounters(of other: Statistics) {
    for row in Statistics.rows where row.kind == .counter { row.add(&self, row.read(other)) }
  }

  mutating func add(_ other: Statistics) {
    for row in Statistics.rows { row.add(&self, row.read(other)) }
  }
}
