import LLMPoolCore

/// Everything that a pool can be configured with, as the application said it: `llmpool_options_t` in Swift's types.
/// Durations in milliseconds; 0 means what it means there.
package struct PoolSettings: Equatable, Sendable {
  package var maxConnections: UInt32 = 100
  package var maxConnectionsPerOrigin: UInt32 = 0
  package var maxKeepaliveConnections: UInt32 = 20
  package var keepaliveExpiry: UInt32 = 30_000
  package var maxConnectionAge: UInt32 = 0
  package var maxStreamsPerConnection: UInt32 = 100
  package var maxPendingRequests: UInt32 = 10_000

  package var connectTimeout: UInt32 = 5_000
  package var readTimeout: UInt32 = 60_000
  package var writeTimeout: UInt32 = 10_000
  package var poolTimeout: UInt32 = 10_000
  package var firstByteTimeout: UInt32 = 0
  package var totalTimeout: UInt32 = 0

  package var httpVersions = HTTPVersions.automatic
  package var dnsCacheTTL: UInt32 = 300_000
  package var tcpKeepalive: UInt32 = 15_000
  package var pingInterval: UInt32 = 30_000
  package var streamWindow: UInt32 = 1_048_576

  package var maxRetries: UInt32 = 2
  package var retryBackoff: UInt32 = 500
  package var retryBackoffMax: UInt32 = 8_000
  package var retryAfterMax: UInt32 = 60_000

  package var utilizationWarning: UInt32 = 80
  package var insecureTLS = false

  package var caFile: String?
  package var clientCertFile: String?
  package var clientKeyFile: String?
  package var proxy: String?
  package var noProxy: String?

  package init() {}

  var texts: [String?] { [caFile, clientCertFile, clientKeyFile, proxy, noProxy] }

  /// What the core decides by.
  var poolOptions: PoolOptions {
    func limit(_ value: UInt32) -> Int { value == 0 ? .max : Int(value) }
    func timeout(_ value: UInt32) -> Nanoseconds { value == 0 || value == .max ? .max : .milliseconds(value) }
    var options = PoolOptions()
    options.maxConnections = limit(maxConnections)
    options.maxConnectionsPerOrigin = limit(maxConnectionsPerOrigin)
    options.maxKeepaliveConnections = limit(maxKeepaliveConnections)
    options.keepaliveExpiry = timeout(keepaliveExpiry)
    options.maxConnectionAge = timeout(maxConnectionAge)
    options.maxStreamsPerConnection = limit(maxStreamsPerConnection)
    options.maxPendingRequests = limit(maxPendingRequests)
    options.connectTimeout = timeout(connectTimeout)
    options.readTimeout = timeout(readTimeout)
    options.writeTimeout = timeout(writeTimeout)
    options.poolTimeout = timeout(poolTimeout)
    options.firstByteTimeout = timeout(firstByteTimeout)
    options.totalTimeout = timeout(totalTimeout)
    options.httpVersions = httpVersions
    options.dnsCacheTTL = .milliseconds(dnsCacheTTL)
    options.pingInterval = timeout(pingInterval)
    options.maxRetries = Int(maxRetries)
    options.retryBackoff = .milliseconds(retryBackoff)
    options.retryBackoffMax = .milliseconds(retryBackoffMax)
    options.retryAfterMax = timeout(retryAfterMax)
    options.utilizationWarning = Int(utilizationWarning)
    return options
  }

  /// What TLS is made of.
  var tlsOptions: TLSOptions {
    let offer: TLSOptions.Offer
    switch httpVersions {
    case .automatic: offer = .h2AndHTTP11
    case .http1: offer = .http11Only
    case .http2: offer = .h2Only
    }
    return TLSOptions(
      caFile: caFile, clientCertFile: clientCertFile, clientKeyFile: clientKeyFile, insecure: insecureTLS, offer: offer)
  }

  /// Three probes in the time of one, and no longer for bytes that nobody acknowledges: a peer that is gone is
  /// noticed after twice the time of the first probe.
  var keepalive: KeepaliveSettings? {
    guard tcpKeepalive > 0 else { return nil }
    let (user, overflow) = tcpKeepalive.multipliedReportingOverflow(by: 2)
    return KeepaliveSettings(
      firstProbeMilliseconds: tcpKeepalive, intervalMilliseconds: max(1_000, tcpKeepalive / 3), count: 3,
      userTimeoutMilliseconds: overflow ? .max : user)
  }

  /// A connection made with other settings of these must not carry a request: they are part of its identity, like
  /// the proxy rules, which depend on the environment too.
  func sharesConnections(with other: PoolSettings) -> Bool {
    tlsOptions == other.tlsOptions && httpVersions == other.httpVersions
  }

  /// Refuses what cannot be meant, naming the field.
  package func validate() throws(CallError) {
    guard streamWindow >= 65_536, streamWindow <= Int32.max else {
      throw CallError(
        .invalidArgument, "stream_window_bytes: expected 65536 to 2147483647, got \(streamWindow)")
    }
    guard utilizationWarning <= 100 else {
      throw CallError(.invalidArgument, "utilization_warning_percent: expected 0 to 100, got \(utilizationWarning)")
    }
    guard (clientKeyFile == nil) || (clientCertFile != nil) else {
      throw CallError(.invalidArgument, "client_key_file: given without client_cert_file")
    }
  }
}
