import LLMPoolCore

/// Everything that a core was told in a run on real sockets, so that it can be told again. Written by the engine's
/// thread; to be read when the pool is closed.
package final class EventRecording: @unchecked Sendable {
  package private(set) var seed: UInt64 = 0
  package private(set) var options = PoolOptions()
  /// An event, or nil where only time passed.
  package private(set) var steps: [(at: Instant, event: Event?)] = []

  package init() {}

  func begin(seed: UInt64, options: PoolOptions) {
    self.seed = seed
    self.options = options
  }

  func append(_ event: Event?, _ now: Instant) { steps.append((now, event)) }
}
