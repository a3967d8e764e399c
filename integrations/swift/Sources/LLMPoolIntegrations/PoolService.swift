import Dispatch
import LLMPool
import Logging
import ServiceLifecycle

/// A pool as a service of a `ServiceGroup`. Name it before the services that use it: they are shut down in the other
/// order, so that it is closed when they are done.
public struct PoolService: Service {
  private let pool: Pool
  private let drain: Duration
  private let logger: Logger?
  private let interval: Duration?

  /// - Parameters:
  ///   - pool: closed with the group; the shared one, which is never closed, is left as it is.
  ///   - drain: so long it waits for the requests it still has; the rest ends with `E_CLOSED`.
  ///   - logger: what the pool tells is logged to it, as by `Pool.log(to:)`.
  ///   - interval: every so often its counts go to swift-metrics, as by `Pool.record(every:)`; nil: never.
  public init(
    _ pool: Pool, drain: Duration = .seconds(10), logger: Logger? = nil, recordingMetricsEvery interval: Duration? = nil
  ) {
    self.pool = pool
    self.drain = drain
    self.logger = logger
    self.interval = interval
  }

  public func run() async throws {
    try await withThrowingTaskGroup { group in
      if let logger { group.addTask { try await pool.log(to: logger) } }
      if let interval { group.addTask { await pool.record(every: interval) } }
      let isGraceful = (try? await gracefulShutdown()) != nil
      if pool !== Pool.shared { try await close(drain: isGraceful ? drain : .zero) }
      group.cancelAll()
    }
  }

  /// On a thread that may wait: a queue's own, as those of the global queue run tasks.
  private func close(drain: Duration) async throws {
    try await withCheckedThrowingContinuation { continuation in
      DispatchQueue(label: "llmpool").async { [pool] in
        continuation.resume(with: Result { try pool.close(drain: drain) })
      }
    }
  }
}
