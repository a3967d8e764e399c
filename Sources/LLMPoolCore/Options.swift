/// Which versions of HTTP a pool may speak.
@frozen
public enum HTTPVersions: UInt8, CaseIterable, Sendable {
  /// https: what ALPN picks of h2 and http/1.1; http: HTTP/1.1.
  case automatic = 0
  case http1 = 1
  /// https: h2 or fail; http: h2 with prior knowledge.
  case http2 = 2
}

/// What a connection speaks.
@frozen
public enum WireVersion: UInt8, Sendable { case http1, http2 }

/// The options of a pool that its decisions depend on. `Int.max` and `Nanoseconds.max` mean "no limit".
public struct PoolOptions: Sendable, Equatable {
  public var maxConnections = 100
  public var maxConnectionsPerOrigin = Int.max
  public var maxKeepaliveConnections = 20
  public var keepaliveExpiry = Nanoseconds.milliseconds(30_000)
  public var maxConnectionAge = Nanoseconds.max
  public var maxStreamsPerConnection = 100
  public var maxPendingRequests = 10_000

  public var timeouts = Timeouts.ofNewPool

  public var httpVersions = HTTPVersions.automatic
  public var dnsCacheTTL = Nanoseconds.milliseconds(300_000)
  public var pingInterval = Nanoseconds.milliseconds(30_000)

  public var maxRetries = 2
  public var retryBackoff = Nanoseconds.milliseconds(500)
  public var retryBackoffMax = Nanoseconds.milliseconds(8_000)
  public var retryAfterMax = Nanoseconds.milliseconds(60_000)

  /// Of `maxConnections`, in percent; 0: no warning.
  public var utilizationWarning = 80

  public init() {}

  /// Each with its name in `llmpool.h`.
  public static let numbers: [NumberOption<PoolOptions>] =
    [
      .limit("max_connections", \.maxConnections),
      .limit("max_connections_per_origin", \.maxConnectionsPerOrigin),
      .limit("max_keepalive_connections", \.maxKeepaliveConnections),
      .timeout("keepalive_expiry_ms", \.keepaliveExpiry),
      .timeout("max_connection_age_ms", \.maxConnectionAge),
      .limit("max_streams_per_connection", \.maxStreamsPerConnection),
      .limit("max_pending_requests", \.maxPendingRequests),
      .choice("http_versions", \.httpVersions, expected: "LLMPOOL_HTTP_AUTO, _1_1 or _2"),
      .duration("dns_cache_ttl_ms", \.dnsCacheTTL),
      .timeout("ping_interval_ms", \.pingInterval),
      .count("max_retries", \.maxRetries),
      .duration("retry_backoff_ms", \.retryBackoff),
      .duration("retry_backoff_max_ms", \.retryBackoffMax),
      .timeout("retry_after_max_ms", \.retryAfterMax),
      .count("utilization_warning_percent", \.utilizationWarning, 0...100),
    ]
    + Timeouts<Nanoseconds>.numbers.map { $0.within(\.timeouts) }
}

/// What one request asks for.
public struct RequestOptions: Sendable, Equatable {
  public struct Flags: OptionSet, Sendable {
    public var rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    /// The answer is delivered as it arrives: once its head is out nothing can be retried.
    public static let streamed = Flags(rawValue: 1 << 0)
    public static let retryStatus = Flags(rawValue: 1 << 1)
    public static let retrySent = Flags(rawValue: 1 << 2)
    public static let noRetry = Flags(rawValue: 1 << 3)
  }

  /// A timeout that follows the pool's option.
  public static let asPool: Nanoseconds = 0

  public var submittedAt: Instant
  public var priority: Int32 = 0
  public var flags: Flags = []
  /// `asPool`: as the pool has it; `.max`: none.
  public var timeouts = Timeouts<Nanoseconds>(all: asPool)

  public init(submittedAt: Instant = .never) { self.submittedAt = submittedAt }

  /// The timeouts that are left to the pool take its values as they are now.
  func resolved(with pool: PoolOptions) -> RequestOptions {
    var result = self
    result.timeouts = timeouts.combined(with: pool.timeouts) { $0 == RequestOptions.asPool ? $1 : $0 }
    return result
  }
}
