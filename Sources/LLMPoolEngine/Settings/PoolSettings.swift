import LLMPoolCore
import LLMPoolWire

/// Everything that a pool can be configured with: `llmpool_options_t` in Swift's types.
package struct PoolSettings: Equatable, Sendable {
  /// What the core decides by.
  package var core = PoolOptions()
  /// Milliseconds until the first probe on a silent connection; 0: never.
  package var tcpKeepalive: UInt32 = 15_000
  package var streamWindow: UInt32 = 1_048_576
  package var insecureTLS = false
  /// Of one server-sent event.
  package var maxEventBytes: UInt32 = 16 << 20
  package static let maxEventBytesRange: ClosedRange<UInt32> = 1_024...1 << 30

  /// Types of events that do not say anything, by commas; nil: those that are usual.
  package var quietEvents: String?

  /// Statuses by commas; nil: none.
  package var breakerStatuses: String?

  package var caFile: String?
  package var caPath: String?
  package var caPEM: String?
  package var clientCertFile: String?
  package var clientKeyFile: String?
  package var proxy: String?
  package var noProxy: String?

  package init() {}

  /// Each option that is a number, with its name in `llmpool.h`.
  package static let numbers: [NumberOption<PoolSettings>] =
    PoolOptions.numbers.map { $0.within(\.core) } + [
      .count("tcp_keepalive_ms", \.tcpKeepalive),
      .count("stream_window_bytes", \.streamWindow, 65_536...UInt32(Int32.max)),
      .flag("tls_insecure", \.insecureTLS),
      .count("max_event_bytes", \.maxEventBytes, maxEventBytesRange),
    ]

  /// Each that is a text.
  package static let texts: [(name: String, path: WritableKeyPath<PoolSettings, String?> & Sendable)] = [
    ("ca_file", \.caFile), ("client_cert_file", \.clientCertFile), ("client_key_file", \.clientKeyFile),
    ("proxy", \.proxy), ("no_proxy", \.noProxy), ("ca_path", \.caPath), ("ca_pem", \.caPEM),
    ("quiet_events", \.quietEvents), ("breaker_statuses", \.breakerStatuses),
  ]

  var quietEventNames: [[UInt8]] { EventWatch.names(quietEvents ?? EventWatch.usualQuietNames) }

  /// What TLS is made of.
  var tlsOptions: TLSOptions {
    TLSOptions(
      caFile: caFile, caPath: caPath, caPEM: caPEM, clientCertFile: clientCertFile, clientKeyFile: clientKeyFile,
      insecure: insecureTLS, versions: core.httpVersions)
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
  func sharesConnections(with other: PoolSettings) -> Bool { tlsOptions == other.tlsOptions }

  /// Refuses what cannot be meant, naming the field.
  package func validate() throws(Fault) {
    for option in PoolSettings.numbers { try PoolSettings.check(option.read(self), of: option) }
    guard (clientKeyFile == nil) || (clientCertFile != nil) else {
      throw Fault(.invalidArgument, "client_key_file: given without client_cert_file")
    }
  }

  /// What the core decides by, that of the texts included.
  func coreOptions() throws(Fault) -> PoolOptions {
    var options = core
    options.breakerStatuses = StatusSet()
    for part in (breakerStatuses ?? "").split(separator: ",", omittingEmptySubsequences: false) {
      let text = part.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed()
      if text.isEmpty, breakerStatuses?.contains(",") != true { continue }
      guard text.count == 3, let status = Int(String(text)), StatusSet.range.contains(status) else {
        throw Fault(
          .invalidArgument, "breaker_statuses: expected numbers from 500 to 599, separated by commas, got \"\(part)\"")
      }
      options.breakerStatuses.insert(status)
    }
    return options
  }

  /// Sets an option to a number of the application's.
  package mutating func set(_ option: NumberOption<PoolSettings>, _ value: UInt32) throws(Fault) {
    try PoolSettings.check(value, of: option)
    option.write(&self, value)
  }

  private static func check(_ value: UInt32, of option: NumberOption<PoolSettings>) throws(Fault) {
    guard option.range.contains(value) else {
      throw Fault(.invalidArgument, "\(option.name): expected \(option.expected), got \(value)")
    }
  }
}
