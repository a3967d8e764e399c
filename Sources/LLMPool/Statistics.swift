import LLMPoolCore
import LLMPoolEngine

/// What a pool, or one origin of it, has counted, all at one moment:
///
///     submitted == pending + active + backingOff + succeeded + failed + cancelled
///     opened    == connecting + inUse + idle + closed
///
/// Each count is a property (`statistics.inUse`, `statistics.bytesSent`), and is in `all` with what it means.
@dynamicMemberLookup
public struct Statistics: Sendable, Equatable {
  /// One count, with its names.
  public struct Count: Sendable, Equatable {
    /// Of the field of `llmpool_stats_t`: "in_use".
    public let name: String
    /// In the metrics: "llmpool_connections_in_use".
    public let metric: String
    public let value: Int
    /// It only grows; false: it is so many now.
    public let isCounter: Bool
    /// What it counts, in a sentence.
    public let meaning: String
  }

  let counts: LLMPoolEngine.Statistics

  public subscript(dynamicMember count: KeyPath<LLMPoolCore.Counters, Int>) -> Int { counts.counters[keyPath: count] }
  public subscript(dynamicMember count: KeyPath<LLMPoolEngine.WireCounters, Int>) -> Int {
    counts.wire[keyPath: count]
  }

  /// Connections that are connecting or in use, of `maxConnections`: 0 to 1; 0 where there is no limit.
  public var utilization: Double { counts.utilization }

  /// Every count, in the order of `llmpool_stats_t`.
  public var all: [Count] {
    LLMPoolEngine.Statistics.rows.map {
      Count(
        name: $0.name, metric: "llmpool_\($0.metric)", value: $0.read(counts), isCounter: $0.kind == .counter,
        meaning: $0.help)
    }
  }
}

extension Pool {
  /// All that was counted, as of the engine's last turn.
  ///
  /// - Parameter origin: "https://api.example.com:443"; nil: of the pool, with the origins that it has forgotten.
  /// - Throws: `PoolError`, where the pool does not know the origin or is closed.
  public func statistics(ofOrigin origin: String? = nil) throws -> Statistics {
    do throws(Fault) {
      let engine = try handle.open()
      guard let origin else { return Statistics(counts: engine.statistics) }
      return Statistics(counts: try engine.statistics(ofOrigin: origin))
    } catch { throw PoolError(error) }
  }

  /// The origins that the pool knows: "https://api.example.com:443".
  ///
  /// - Throws: `PoolError`, where the pool is closed.
  public func origins() throws -> [String] {
    do { return try handle.open().originNames } catch { throw PoolError(error) }
  }

  /// All of it as text for Prometheus: see docs/monitoring.md.
  ///
  /// - Parameter openMetrics: in the format of OpenMetrics 1.0; false: that of Prometheus, 0.0.4.
  /// - Throws: `PoolError`, where the pool is closed.
  public func metrics(openMetrics: Bool = false) throws -> String {
    do { return try handle.open().metrics(openMetrics ? .openMetrics : .prometheus) } catch { throw PoolError(error) }
  }

  /// Opens connections to a URL's origin ahead of need, and waits for none of them.
  ///
  /// - Parameters:
  ///   - url: any of it; nothing is sent to it.
  ///   - connections: how many there are to be, at least 1; over HTTP/2 one is as a rule enough.
  /// - Throws: `PoolError`, where the URL is none, or the pool is closed.
  public func warm(_ url: String, connections: Int = 1) throws {
    do throws(Fault) {
      guard connections >= 1 else {
        throw Fault(.invalidArgument, "connections: expected at least 1, got \(connections)")
      }
      let engine = try handle.open()
      var url = url
      let result: Result<Void, Fault> = url.withUTF8 { bytes in
        do throws(Fault) {
          return .success(try engine.warm(UnsafeRawBufferPointer(bytes), connections: connections))
        } catch { return .failure(error) }
      }
      try result.get()
    } catch { throw PoolError(error) }
  }
}
