/// Of one origin: whether its calls go out at all, after too many in a row that brought no HTTP answer.
struct Breaker {
  /// Without an answer between them.
  var failures = 0
  /// What the last of them was; `refused` where it was an answer whose status is listed.
  var cause = Failure.connect
  var status = 0
  var failedAt = Instant.never
  /// `never`: it is closed.
  var openedAt = Instant.never
  /// Those who wait have not been told yet that it is open.
  var isUntold = false
  /// A connection could not be made, so that one that can be is enough to close it.
  var isOfDial = false
  /// How many probes in a row have failed, and when there may be another.
  var probes = 0
  var probeAt = Instant.never
  /// There was no place for a dial of its own: then a call is the probe, and waits for one in turn.
  var isHindered = false
  /// When it last ended a call.
  var calledAt = Instant.never
  /// The one request that goes out while it is open, and since when.
  var trial: RequestID?
  var triedAt = Instant.never
  /// Attempts before this one were sent before a connection was lost that counts: what is lost with it counts once.
  var lossesBefore: UInt32?

  var isOpen: Bool { openedAt != .never }
}

/// What can be seen of an open one.
public struct BreakerView: Sendable {
  public var openedAt: Instant
  public var failures: Int
  public var cause: Failure
  /// 0: it was no answer.
  public var status: Int
  public var failedAt: Instant
}

/// Statuses of answers from 500 to 599.
public struct StatusSet: Sendable, Equatable {
  public static let range = 500...599
  private var bits: UInt128 = 0
  public init() {}
  public func contains(_ status: Int) -> Bool {
    StatusSet.range.contains(status) && bits >> UInt128(status - StatusSet.range.lowerBound) & 1 == 1
  }
  /// Of the range.
  public mutating func insert(_ status: Int) { bits |= 1 << UInt128(status - StatusSet.range.lowerBound) }
}
