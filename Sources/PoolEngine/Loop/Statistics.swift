import PoolCore

/// What the engine counts itself, of the pool or of one origin.
package struct WireCounters: Sendable, Equatable {
  package var tlsHandshakes = 0
  package var tlsResumptions = 0
  package var bytesSent = 0
  package var bytesReceived = 0
}

/// One consistent snapshot: `llmpool_stats_t`.
package struct Statistics: Sendable, Equatable {
  package var counters = Counters()
  package var wire = WireCounters()
  /// (connecting + in use) / max_connections; 0 where there is no limit.
  package var utilization = 0.0
  package init() {}
}

struct PublishedOrigin: Sendable {
  var statistics: Statistics
  var latencies: Latencies
}

/// The statistics as of the engine's last turn, for any thread.
final class PublishedStatistics: Sendable {
  private struct State {
    var pool = Statistics()
    var origins: [String: PublishedOrigin] = [:]
  }
  private let state = Guarded(State())

  func publish(_ pool: Statistics, _ touched: [(String, PublishedOrigin?)]) {
    state.withLock { state in
      state.pool = pool
      for (name, origin) in touched { state.origins[name] = origin }
    }
  }

  var pool: Statistics { state.withLock { $0.pool } }
  func origin(_ name: String) -> Statistics? { state.withLock { $0.origins[name]?.statistics } }
  var originNames: [String] { state.withLock { $0.origins.keys.sorted() } }

  var metrics: String {
    let (pool, origins) = state.withLock { ($0.pool, $0.origins) }
    let sorted = origins.sorted { $0.key < $1.key }.map { ($0.key, $0.value.statistics, $0.value.latencies) }
    return MetricsText(pool: pool, origins: sorted).text
  }
}
