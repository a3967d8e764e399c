/// A count that is shown: a row of the tables out of which the statistics and the metrics are written.
public struct CounterRow<Counts>: Sendable {
  /// Of the field of `llmpool_stats_t`.
  public let name: String
  public let read: @Sendable (Counts) -> Int
  public let add: @Sendable (inout Counts, Int) -> Void
  public let kind: CounterKind
  /// Of the family in the metrics, without the prefix of the library.
  public let metric: String
  public let help: String

  public static func counter(
    _ name: String, _ path: WritableKeyPath<Counts, Int> & Sendable, _ metric: String, _ help: String
  ) -> CounterRow {
    CounterRow(name, path, .counter, metric, help)
  }

  public static func gauge(
    _ name: String, _ path: WritableKeyPath<Counts, Int> & Sendable, _ metric: String, _ help: String
  ) -> CounterRow {
    CounterRow(name, path, .gauge, metric, help)
  }

  private init(
    _ name: String, _ path: WritableKeyPath<Counts, Int> & Sendable, _ kind: CounterKind, _ metric: String,
    _ help: String
  ) {
    self.name = name
    read = { $0[keyPath: path] }
    add = { $0[keyPath: path] += $1 }
    self.kind = kind
    self.metric = metric
    self.help = help
  }

  /// The same count of what holds these counts.
  public func within<Outer>(_ path: WritableKeyPath<Outer, Counts> & Sendable) -> CounterRow<Outer> {
    CounterRow<Outer>(self, path)
  }

  private init<Inner>(_ row: CounterRow<Inner>, _ path: WritableKeyPath<Counts, Inner> & Sendable) {
    name = row.name
    read = { row.read($0[keyPath: path]) }
    add = { row.add(&$0[keyPath: path], $1) }
    kind = row.kind
    metric = row.metric
    help = row.help
  }
}

public enum CounterKind: String, CaseIterable, Sendable {
  /// It only grows.
  case counter
  case gauge
}
