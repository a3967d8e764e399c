import LLMPool
import Metrics

extension Pool {
  /// Gives the counts of the pool to swift-metrics, now and every so often, by the names of docs/monitoring.md: those
  /// that only grow to a `Counter`, the others to a `Meter`. Returns when the pool is closed or the task is cancelled.
  ///
  /// - Parameters:
  ///   - interval: more than zero.
  ///   - dimensions: of each, as where a program has several pools.
  public func record(
    every interval: Duration = .seconds(10), dimensions: [(String, String)] = [],
    to factory: any MetricsFactory = MetricsSystem.factory
  ) async {
    var recorded: [String: Int] = [:]
    repeat {
      guard let statistics = try? statistics() else { return }
      for count in statistics.all {
        if count.isCounter {
          Counter(label: count.metric, dimensions: dimensions, factory: factory)
            .increment(by: count.value - recorded[count.metric, default: 0])
          recorded[count.metric] = count.value
        } else {
          Meter(label: count.metric, dimensions: dimensions, factory: factory).set(count.value)
        }
      }
      Meter(label: "llmpool_utilization_ratio", dimensions: dimensions, factory: factory).set(statistics.utilization)
    } while (try? await Task.sleep(for: interval)) != nil
  }
}
