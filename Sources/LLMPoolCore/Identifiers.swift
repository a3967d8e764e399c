/// A length of time. The core counts in nanoseconds throughout; `Nanoseconds.max` means "no limit".
public typealias Nanoseconds = Int64

extension Nanoseconds {
  @inlinable public static func milliseconds(_ count: some BinaryInteger) -> Nanoseconds {
    Nanoseconds(count) * 1_000_000
  }
  @inlinable public static func seconds(_ count: some BinaryInteger) -> Nanoseconds {
    Nanoseconds(count) * 1_000_000_000
  }
}

/// A point in time on the caller's monotonic clock. The core never reads a clock: every call brings `now`.
@frozen
public struct Instant: Comparable, Hashable, Sendable {
  public var nanoseconds: Int64
  @inlinable public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

  /// Later than every deadline: a clock that does not run.
  @inlinable public static var never: Instant { Instant(nanoseconds: .max) }

  @inlinable public static func < (left: Instant, right: Instant) -> Bool { left.nanoseconds < right.nanoseconds }
  /// Saturates, so that a limit of `.max` gives `never`.
  @inlinable public static func + (left: Instant, right: Nanoseconds) -> Instant {
    let (sum, overflow) = left.nanoseconds.addingReportingOverflow(right)
    return overflow ? .never : Instant(nanoseconds: sum)
  }
  @inlinable public static func - (left: Instant, right: Instant) -> Nanoseconds {
    left.nanoseconds - right.nanoseconds
  }
}

/// A request, as the application knows it. The low bits are its slot in the tables of the pool, which is reused;
/// the rest is a serial number, which is not.
@frozen
public struct RequestID: Hashable, Sendable {
  public var value: UInt64
  @inlinable public init(value: UInt64) { self.value = value }
  @inlinable public init(serial: UInt64, slot: Int) { value = serial << UInt64(RequestID.slotBits) | UInt64(slot) }

  @inlinable public static var slotBits: Int { 22 }
  /// As many requests can be in flight in one pool.
  @inlinable public static var slotLimit: Int { 1 << slotBits }
  @inlinable public var slot: Int { Int(value & UInt64(RequestID.slotLimit - 1)) }
}

/// One try of a request on one connection. What the engine says about a try that is over must not touch the one
/// that runs, hence a name of its own.
@frozen
public struct AttemptID: Hashable, Sendable {
  public var slot: Int32
  public var sequence: UInt32
  @inlinable public init(slot: Int32, sequence: UInt32) {
    self.slot = slot
    self.sequence = sequence
  }
}

/// A connection from the decision to dial until it is closed. The slot is reused, with another generation.
@frozen
public struct ConnectionID: Hashable, Sendable {
  public var slot: Int32
  public var generation: UInt32
  @inlinable public init(slot: Int32, generation: UInt32) {
    self.slot = slot
    self.generation = generation
  }
}

/// One scheme, host and port (and TLS server name). Slots are given by the caller, densely.
@frozen
public struct OriginID: Hashable, Sendable {
  public var slot: Int32
  @inlinable public init(slot: Int32) { self.slot = slot }
}

/// One host name; origins that differ in scheme or port share it. Slots are given by the caller, densely.
@frozen
public struct HostID: Hashable, Sendable {
  public var slot: Int32
  @inlinable public init(slot: Int32) { self.slot = slot }
}

/// One network address of a host: a number that the caller gives to each address it has met.
@frozen
public struct AddressID: Hashable, Sendable {
  public var value: UInt32
  @inlinable public init(value: UInt32) { self.value = value }
}

/// The addresses of a host: at most eight, in the resolver's order. Inline, so that events stay trivial.
@frozen
public struct AddressList: Sendable {
  public static let capacity = 8
  @usableFromInline var storage: InlineArray<8, UInt32>
  public private(set) var count: Int

  public init() {
    storage = InlineArray(repeating: 0)
    count = 0
  }
  public mutating func append(_ address: AddressID) {
    guard count < AddressList.capacity else { return }
    storage[count] = address.value
    count += 1
  }
  public func contains(_ address: AddressID) -> Bool {
    for index in 0..<count where storage[index] == address.value { return true }
    return false
  }
  public var isEmpty: Bool { count == 0 }
}
