/// A count that is shown: a row of the tables out of which the statistics and the metrics are written.
public struct CounterRow<Counts>: Sendable {
  /// Of the field of `llmpool_stats_t`.
  public let name: String
  public let read: @Sendable (Counts) -> Int
  public let kind: CounterKind
  /// Of the family in the metrics, without the prefix of the library.
  public let metric: String
  public let help: String

  public static func counter(
    _ name: String, _ path: KeyPath<Counts, Int> & Sendable, _ metric: String, _ help: String
  ) -> CounterRow {
    CounterRow(name: name, read: { $0[keyPath: path] }, kind: .counter, metric: metric, help: help)
  }

  public static func gauge(
    _ name: String, _ path: KeyPath<Counts, Int> & Sendable, _ metric: String, _ help: String
  ) -> CounterRow {
    CounterRow(name: name, read: { $0[keyPath: path] }, kind: .gauge, metric: metric, help: help)
  }

  /// The same count of what holds these counts.
  public func within<Outer>(_ path: KeyPath<Outer, Counts> & Sendable) -> CounterRow<Outer> {
    CounterRow<Outer>(name: name, read: { read($0[keyPath: path]) }, kind: kind, metric: metric, help: help)
  }
}

public enum CounterKind: String, CaseIterable, Sendable {
  /// It only grows.
  case counter
  case gauge
}
