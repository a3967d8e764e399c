import CLLMPoolSystem
import LLMPoolCore

/// Through which proxy an origin is reached: what the options or, where they say nothing, the environment said when
/// the pool was opened or configured. libcurl never looks for itself: it would go by the scheme that it dials, which
/// is http for TLS too.
struct ProxyRules: Equatable, Sendable {
  private let http: ProxySettings?
  private let https: ProxySettings?
  private let exempt: NoProxyList

  /// `environment` answers like getenv. A variable that is there but empty says "none", as with curl.
  init(_ settings: PoolSettings, environment: (String) -> String? = ProxyRules.processEnvironment) throws(Fault) {
    if let proxy = settings.proxy {
      let parsed = try Self.parse(proxy, "proxy")
      (http, https) = (parsed, parsed)
    } else {
      // Lower case only: in CGI programs HTTP_PROXY is what a request's "Proxy" header says.
      http = try Self.first(["http_proxy", "all_proxy", "ALL_PROXY"], environment)
      https = try Self.first(["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"], environment)
    }
    exempt = NoProxyList(settings.noProxy ?? environment("no_proxy") ?? environment("NO_PROXY") ?? "")
  }

  /// Nil: directly.
  func proxy(host: String, port: UInt16, isTLS: Bool) -> ProxySettings? {
    guard let proxy = isTLS ? https : http, !exempt.contains(host: host, port: port) else { return nil }
    return proxy
  }

  /// Not where the program has more rights than its user (setuid): his environment must not send it to his proxy.
  @Sendable static func processEnvironment(_ name: String) -> String? {
    lp_secure_getenv(name).map { String(cString: $0) }
  }

  private static func first(
    _ names: [String], _ environment: (String) -> String?
  ) throws(Fault) -> ProxySettings? {
    for name in names {
      if let value = environment(name) { return try parse(value, "proxy (from \(name))") }
    }
    return nil
  }

  /// `source` is the field that the message names.
  private static func parse(_ url: String, _ source: String) throws(Fault) -> ProxySettings? {
    if url.isEmpty { return nil }
    do { return try ProxySettings(url: url) } catch {
      throw Fault(error.failure, source + error.message.dropFirst("proxy".count))
    }
  }
}

/// RFC 4648, section 4.
func base64(_ bytes: [UInt8]) -> [UInt8] {
  let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
  var text: [UInt8] = []
  for start in stride(from: 0, to: bytes.count, by: 3) {
    let group = bytes[start..<min(start + 3, bytes.count)]
    let value = (0..<3).reduce(0) { sum, index in sum << 8 | (index < group.count ? Int(group[start + index]) : 0) }
    for index in 0..<4 {
      text.append(index <= group.count ? alphabet[value >> (18 - 6 * index) & 63] : UInt8(ascii: "="))
    }
  }
  return text
}
