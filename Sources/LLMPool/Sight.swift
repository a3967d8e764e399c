import LLMPoolCore
import LLMPoolEngine

/// How long something took, each time, in microseconds.
public typealias Histogram = LLMPoolCore.Histogram
/// Where a request in flight stands.
public typealias RequestPhase = LLMPoolCore.RequestPhase

/// Why, and how often; only what there was. The words are those of docs/monitoring.md.
public struct Reasons: Sendable, Equatable {
  /// Connections that ended.
  public var closed: [String: Int] = [:]
  /// Requests that got no answer.
  public var failed: [String: Int] = [:]
  /// Attempts after the first.
  public var retried: [String: Int] = [:]
}

/// A request that is not over, as it stood at one moment.
public struct RequestState: Sendable {
  public var id: UInt64
  /// "https://api.example.com:443"
  public var origin: String
  public var phase: RequestPhase
  /// Since its submission.
  public var age: Duration
  /// So far.
  public var attempts: Int
  /// Of its body, in the attempt that runs or ran last.
  public var bytesSent: Int
  /// Of the answer's body in that attempt, encoded as it came.
  public var bytesReceived: Int
}

extension Pool {
  /// How long things took, by the names of `llmpool.h`: "pool_wait", "budget_wait", "connect", "tls", "first_byte",
  /// "first_token", "event_gap" and "total".
  ///
  /// - Parameter origin: "https://api.example.com:443"; nil: of the pool, with the origins that it has forgotten.
  /// - Throws: `PoolError`, where the pool does not know the origin or is closed.
  public func histograms(ofOrigin origin: String? = nil) throws -> [String: Histogram] {
    do {
      let names = HistogramKind.allCases.map { "\($0.name)" }
      return Dictionary(uniqueKeysWithValues: zip(names, try handle.open().histograms(ofOrigin: origin)))
    } catch { throw PoolError(error) }
  }

  /// Why connections were closed, requests failed and were tried again.
  ///
  /// - Parameter origin: as above.
  /// - Throws: `PoolError`, where the pool does not know the origin or is closed.
  public func reasons(ofOrigin origin: String? = nil) throws -> Reasons {
    do {
      let counts = try handle.open().reasons(ofOrigin: origin)
      var reasons = Reasons()
      for (index, row) in ReasonRow.all.enumerated() where counts[index] > 0 {
        switch row.kind {
        case .closed: reasons.closed[row.word] = Int(counts[index])
        case .failed: reasons.failed[row.word] = Int(counts[index])
        case .retried: reasons.retried[row.word] = Int(counts[index])
        }
      }
      return reasons
    } catch { throw PoolError(error) }
  }

  /// The requests that are not over, the oldest first. One that was submitted just now may be missing.
  ///
  /// - Throws: `PoolError`, where the pool is closed.
  public func requests() throws -> [RequestState] {
    do {
      return try handle.open().inFlight.map {
        RequestState(
          id: $0.id, origin: $0.origin, phase: $0.phase, age: .nanoseconds($0.age), attempts: Int($0.attempts),
          bytesSent: $0.bytesSent, bytesReceived: $0.bytesReceived)
      }
    } catch { throw PoolError(error) }
  }

  /// Shows the pool to whoever looks in, as `python -m llmpool top` does, on the socket of the process in a directory
  /// of the user's: see `llmpool_serve_stats()` in `llmpool.h`.
  ///
  /// - Parameter directory: made if it is not there; nil: it is shown no more.
  /// - Throws: `PoolError`, where the directory is another user's or others may write to it, where the pools of the
  ///   process are shown in another, or where the pool is closed.
  public func serveStatistics(in directory: String?) throws {
    do { try handle.show(in: directory) } catch { throw PoolError(error) }
  }
}
