import LLMPoolCore
import LLMPoolEngine

extension Pool {
  /// With what a pool is opened or configured; what is not set is as in `llmpool.h`, which says more of each.
  public struct Options: Sendable, Equatable {
    var settings = PoolSettings()

    public init() {}

    // MARK: Limits; nil: none

    /// Open connections, in use and idle. Default: 100.
    public var maxConnections: Int? {
      get { self[limit: \.maxConnections] }
      set { self[limit: \.maxConnections] = newValue }
    }
    /// Of them to one scheme, host and port. Default: nil.
    public var maxConnectionsPerOrigin: Int? {
      get { self[limit: \.maxConnectionsPerOrigin] }
      set { self[limit: \.maxConnectionsPerOrigin] = newValue }
    }
    /// Idle connections that are kept open. Default: 20.
    public var maxKeepaliveConnections: Int? {
      get { self[limit: \.maxKeepaliveConnections] }
      set { self[limit: \.maxKeepaliveConnections] = newValue }
    }
    /// HTTP/2: also bounded by the server. Default: 100.
    public var maxStreamsPerConnection: Int? {
      get { self[limit: \.maxStreamsPerConnection] }
      set { self[limit: \.maxStreamsPerConnection] = newValue }
    }
    /// Requests that wait for a connection, or for their budget. Default: 10,000.
    public var maxPendingRequests: Int? {
      get { self[limit: \.maxPendingRequests] }
      set { self[limit: \.maxPendingRequests] = newValue }
    }

    // MARK: Times; nil, `.zero` or less: for ever

    /// Of each request that has none of its own. Default: connect 5 s, read 60 s, write 10 s, pool 10 s, budget 60 s,
    /// the others nil.
    public var timeouts: Request.Timeouts {
      get { settings.core.timeouts.map(Options.duration) }
      set { settings.core.timeouts = newValue.map(Options.nanoseconds) }
    }
    /// How long an idle connection is kept. Default: 30 s.
    public var keepaliveExpiry: Duration? {
      get { self[time: \.keepaliveExpiry] }
      set { self[time: \.keepaliveExpiry] = newValue }
    }
    /// A connection is retired after this, ±10 % at random. Default: nil.
    public var maxConnectionAge: Duration? {
      get { self[time: \.maxConnectionAge] }
      set { self[time: \.maxConnectionAge] = newValue }
    }

    // MARK: Connections

    /// How long an address that was looked up is used; `.zero`: once. Default: 300 s.
    public var dnsCacheTTL: Duration {
      get { .nanoseconds(settings.core.dnsCacheTTL) }
      set { settings.core.dnsCacheTTL = Options.wholeMilliseconds(newValue) }
    }
    /// First probe on a silent connection; nil: none. Default: 15 s.
    public var tcpKeepalive: Duration? {
      get { settings.tcpKeepalive == 0 ? nil : .milliseconds(settings.tcpKeepalive) }
      set { settings.tcpKeepalive = newValue.map { max(1, Request.milliseconds($0)) } ?? 0 }
    }
    /// HTTP/2 PING on a silent connection; nil: never. Default: 30 s.
    public var pingInterval: Duration? {
      get { self[time: \.pingInterval] }
      set { self[time: \.pingInterval] = newValue }
    }
    /// Bytes of one answer that are held until they are read, 65,536 to 2^31 - 1. Default: 1 MiB.
    public var streamWindow: Int {
      get { Int(settings.streamWindow) }
      set { settings.streamWindow = UInt32(clamping: newValue) }
    }
    /// Largest server-sent event, 1,024 to 2^30. Default: 16 MiB.
    public var maxEventBytes: Int {
      get { Int(settings.maxEventBytes) }
      set { settings.maxEventBytes = UInt32(clamping: newValue) }
    }
    /// Types of events that say nothing, for which the event timeout goes on, by commas; "": none; nil:
    /// "ping,keepalive".
    public var quietEvents: String? {
      get { settings.quietEvents }
      set { settings.quietEvents = newValue }
    }
    /// Default: over TLS what the server picks of HTTP/2 and HTTP/1.1, else HTTP/1.1.
    public var httpVersions: HTTPVersions {
      get { settings.core.httpVersions }
      set { settings.core.httpVersions = newValue }
    }
    /// http://, socks5:// or socks5h:// with host and port; "": none; nil: as http_proxy, https_proxy and all_proxy
    /// say.
    public var proxy: String? {
      get { settings.proxy }
      set { settings.proxy = newValue }
    }
    /// Hosts that are reached without it, by commas; nil: as no_proxy says.
    public var noProxy: String? {
      get { settings.noProxy }
      set { settings.noProxy = newValue }
    }

    // MARK: Trust

    /// Certificates in a file, PEM, instead of the system's.
    public var caFile: String? {
      get { settings.caFile }
      set { settings.caFile = newValue }
    }
    /// The same as text.
    public var caPEM: String? {
      get { settings.caPEM }
      set { settings.caPEM = newValue }
    }
    /// A directory of certificates, as `openssl rehash` makes it.
    public var caPath: String? {
      get { settings.caPath }
      set { settings.caPath = newValue }
    }
    /// True accepts any certificate: for tests. Default: false.
    public var acceptsAnyCertificate: Bool {
      get { settings.insecureTLS }
      set { settings.insecureTLS = newValue }
    }
    /// A certificate to show, with its chain, in a file, PEM.
    public var clientCertificateFile: String? {
      get { settings.clientCertFile }
      set { settings.clientCertFile = newValue }
    }
    /// Its key.
    public var clientKeyFile: String? {
      get { settings.clientKeyFile }
      set { settings.clientKeyFile = newValue }
    }

    // MARK: Retries and outages

    /// How often a request is sent again where it says that it may be. Default: 2.
    public var maxRetries: Int {
      get { settings.core.maxRetries }
      set { settings.core.maxRetries = newValue }
    }
    /// Pause before the first retry, doubled each time, with jitter. Default: 500 ms.
    public var retryBackoff: Duration {
      get { .nanoseconds(settings.core.retryBackoff) }
      set { settings.core.retryBackoff = Options.wholeMilliseconds(newValue) }
    }
    /// The longest. Default: 8 s.
    public var retryBackoffMax: Duration {
      get { .nanoseconds(settings.core.retryBackoffMax) }
      set { settings.core.retryBackoffMax = Options.wholeMilliseconds(newValue) }
    }
    /// A longer Retry-After ends the request with the answer in hand; nil: none does. Default: 60 s.
    public var retryAfterMax: Duration? {
      get { self[time: \.retryAfterMax] }
      set { self[time: \.retryAfterMax] = newValue }
    }
    /// So many hedges for a hundred requests that ask for them, 0 to 100. Default: 5.
    public var hedgePercent: Int {
      get { settings.core.hedgePercent }
      set { settings.core.hedgePercent = newValue }
    }
    /// So much of `maxConnections` in use is worth a notice, in percent, 0 to 100; 0: never. Default: 80.
    public var utilizationWarning: Int {
      get { settings.core.utilizationWarning }
      set { settings.core.utilizationWarning = newValue }
    }
    /// Answers that count as failures for the breaker: numbers from 500 to 599, by commas; nil: none.
    public var breakerStatuses: String? {
      get { settings.breakerStatuses }
      set { settings.breakerStatuses = newValue }
    }
    /// So many failures in a row open an origin's breaker, 0 to 1,000. Default: 0, none.
    public var breakerFailures: Int {
      get { settings.core.breakerFailures }
      set { settings.core.breakerFailures = newValue }
    }

    private subscript(limit limit: WritableKeyPath<PoolOptions, Int>) -> Int? {
      get { settings.core[keyPath: limit] == .max ? nil : settings.core[keyPath: limit] }
      set { settings.core[keyPath: limit] = newValue ?? .max }
    }
    private subscript(time time: WritableKeyPath<PoolOptions, Nanoseconds>) -> Duration? {
      get { Options.duration(settings.core[keyPath: time]) }
      set { settings.core[keyPath: time] = Options.nanoseconds(newValue) }
    }
    private static func wholeMilliseconds(_ value: Duration) -> Nanoseconds {
      .milliseconds(value <= .zero ? 0 : Request.milliseconds(value))
    }
    private static func duration(_ value: Nanoseconds) -> Duration? { value == .max ? nil : .nanoseconds(value) }
    private static func nanoseconds(_ value: Duration?) -> Nanoseconds { value.map(Request.nanoseconds) ?? .max }

    /// - Throws: what cannot be meant, by its name.
    func checked() throws(Fault) -> PoolSettings {
      let limits = [
        "maxConnections": maxConnections, "maxConnectionsPerOrigin": maxConnectionsPerOrigin,
        "maxKeepaliveConnections": maxKeepaliveConnections, "maxStreamsPerConnection": maxStreamsPerConnection,
        "maxPendingRequests": maxPendingRequests,
      ]
      for (name, limit) in limits.sorted(by: { $0.key < $1.key }) {
        guard let limit else { continue }
        guard (1...Int(UInt32.max)).contains(limit) else {
          throw Fault(.invalidArgument, "\(name): expected 1 to \(UInt32.max), or nil for no limit, got \(limit)")
        }
      }
      let counts = [
        ("maxRetries", maxRetries), ("breakerFailures", breakerFailures), ("hedgePercent", hedgePercent),
        ("utilizationWarning", utilizationWarning),
      ]
      for (name, number) in counts where number < 0 {
        throw Fault(.invalidArgument, "\(name): expected 0 or more, got \(number)")
      }
      return settings
    }
  }

  /// With what the pool was opened or configured last.
  ///
  /// - Throws: `PoolError`, where it is closed.
  public var options: Options {
    get throws {
      do {
        var options = Options()
        options.settings = try handle.currentSettings()
        return options
      } catch { throw PoolError(error) }
    }
  }

  /// Sets other options; connections made with another CA, certificate, proxy or HTTP version carry no more requests.
  ///
  /// - Throws: `PoolError`, where they cannot be meant or a file cannot be read, and where the pool is closed.
  public func configure(_ options: Options) throws {
    do { try handle.configure(options.checked()) } catch { throw PoolError(error) }
  }
}

/// Which versions of HTTP a pool may speak.
public typealias HTTPVersions = LLMPoolCore.HTTPVersions
