/// The counts of a pool or of one origin. Identities, asserted in debug builds:
/// submitted == pending + active + backingOff + succeeded + failed + cancelled
/// opened == connecting + inUse + idle + closed
public struct Counters: Sendable, Equatable {
  public var submitted = 0
  public var succeeded = 0
  public var failed = 0
  public var cancelled = 0
  public var retries = 0
  public var pending = 0
  public var active = 0
  public var backingOff = 0
  public var connecting = 0
  public var inUse = 0
  public var idle = 0
  public var opened = 0
  public var closed = 0
  public var reused = 0
  public var connectFailures = 0
  public var dnsLookups = 0
  public var dnsCacheHits = 0

  public init() {}

  /// Connections that count against the limits.
  public var connections: Int { connecting + inUse + idle }
  public var requestsAddUp: Bool { submitted == pending + active + backingOff + succeeded + failed + cancelled }
  public var connectionsAddUp: Bool { opened == connecting + inUse + idle + closed }
}
