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

  /// So many failures in a row that brought no answer open an origin's breaker; 0: there is none.
  public var breakerFailures = 0
  /// Answers that count as such.
  public var breakerStatuses = StatusSet()

  /// So many hedges for a hundred requests that ask for them.
  public var hedgePercent = 5

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
      .count("breaker_failures", \.breakerFailures, 0...1_000),
      .count("hedge_percent", \.hedgePercent, 0...100),
    ]
    + Timeouts<Nanoseconds>.numbers.map { $0.within(\.timeouts) }
}
