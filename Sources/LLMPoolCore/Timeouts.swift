/// The times that a request may take, one value for each: what a pool has, what a request asks for, what they come to.
@frozen
public struct Timeouts<Value> {
  /// Of a dial: name, TCP, proxy and TLS together.
  public var connect: Value
  /// Longest silence while bytes of the answer are awaited.
  public var read: Value
  /// Longest time in which no byte of the request could be sent.
  public var write: Value
  /// Longest wait for a connection.
  public var pool: Value
  /// Longest wait for its budget, before that.
  public var budget: Value
  /// From the last byte of the request to the first of the answer; where there is none, `read` runs there too.
  public var firstByte: Value
  /// From submission to the last byte.
  public var total: Value
  /// Of an answer that is a stream of events: the longest time between two that say something.
  public var event: Value

  @inlinable public init(
    connect: Value, read: Value, write: Value, pool: Value, budget: Value, firstByte: Value, total: Value,
    event: Value
  ) {
    self.connect = connect
    self.read = read
    self.write = write
    self.pool = pool
    self.budget = budget
    self.firstByte = firstByte
    self.total = total
    self.event = event
  }

  /// Each by its name in `llmpool.h`, where it ends in `_timeout_ms`.
  public static var fields: [(name: String, path: WritableKeyPath<Timeouts, Value> & Sendable)] {
    [
      ("connect", \.connect), ("read", \.read), ("write", \.write), ("pool", \.pool), ("budget", \.budget),
      ("first_byte", \.firstByte), ("total", \.total), ("event", \.event),
    ]
  }

  /// Each with its counterpart.
  @inlinable public func combined<Other, Result>(
    with other: Timeouts<Other>, _ combine: (Value, Other) -> Result
  ) -> Timeouts<Result> {
    Timeouts<Result>(
      connect: combine(connect, other.connect), read: combine(read, other.read), write: combine(write, other.write),
      pool: combine(pool, other.pool), budget: combine(budget, other.budget),
      firstByte: combine(firstByte, other.firstByte), total: combine(total, other.total),
      event: combine(event, other.event))
  }

  @inlinable public func map<Result>(_ transform: (Value) -> Result) -> Timeouts<Result> {
    combined(with: self) { value, _ in transform(value) }
  }

  /// The same for all.
  @inlinable public init(all value: Value) {
    self.init(
      connect: value, read: value, write: value, pool: value, budget: value, firstByte: value, total: value,
      event: value)
  }
}

extension Timeouts: Sendable where Value: Sendable {}
extension Timeouts: Equatable where Value: Equatable {}

extension Timeouts where Value: ExpressibleByNilLiteral {
  /// None is given.
  @inlinable public init() { self.init(all: nil) }
}

extension Timeouts where Value == Nanoseconds {
  public static var ofNewPool: Timeouts {
    Timeouts(
      connect: .seconds(5), read: .seconds(60), write: .seconds(10), pool: .seconds(10), budget: .seconds(60),
      firstByte: .max, total: .max, event: .max)
  }

  static var numbers: [NumberOption<Timeouts>] { fields.map { .timeout("\($0.name)_timeout_ms", $0.path) } }
}
