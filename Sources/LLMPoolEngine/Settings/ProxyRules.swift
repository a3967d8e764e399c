import Glibc
import LLMPoolCore

/// Through which proxy an origin is reached: what the options or, where they say nothing, the environment said when
/// the pool was opened or configured. libcurl never looks for itself: it would go by the scheme that it dials, which
/// is http for TLS too.
struct ProxyRules: Equatable, Sendable {
  private let http: ProxySettings?
  private let https: ProxySettings?
  private let exempt: NoProxyList

  /// `environment` answers like getenv. A variable that is there but empty says "none", as with curl.
  init(_ settings: PoolSettings, environment: (String) -> String? = ProxyRules.processEnvironment) throws(CallError) {
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

  @Sendable static func processEnvironment(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

  private static func first(
    _ names: [String], _ environment: (String) -> String?
  ) throws(CallError) -> ProxySettings? {
    for name in names {
      if let value = environment(name) { return try parse(value, "proxy (from \(name))") }
    }
    return nil
  }

  /// `source` is the field that the message names.
  private static func parse(_ url: String, _ source: String) throws(CallError) -> ProxySettings? {
    if url.isEmpty { return nil }
    do { return try ProxySettings(url: url) } catch {
      throw CallError(error.failure, source + error.message.dropFirst("proxy".count))
    }
  }
}

/// Hosts that are reached directly: a list as curl documents it (CURLOPT_NOPROXY), and ports, which other programs
/// take. An entry is a name, which stands for itself and for all below it; an address; a block of addresses like
/// 10.0.0.0/8; or "*", everything. Commas or spaces separate.
struct NoProxyList: Equatable, Sendable {
  private enum Pattern: Equatable, Sendable {
    case everything
    case name(String)
    case block(SocketAddress, bits: Int)
  }
  private struct Entry: Equatable, Sendable {
    let pattern: Pattern
    /// Nil: any.
    var port: UInt16?
  }
  private let entries: [Entry]

  init(_ text: String) {
    entries = text.split { $0 == "," || $0 == " " || $0 == "\t" }.compactMap(Self.entry)
  }

  func contains(host: String, port: UInt16) -> Bool {
    if entries.isEmpty { return false }
    let address = SocketAddress(literal: host, port: 0)
    let name = Self.plain(host)
    return entries.contains { entry in
      guard entry.port == nil || entry.port == port else { return false }
      switch entry.pattern {
      case .everything: return true
      case .name(let suffix): return address == nil && (name == suffix || name.hasSuffix("." + suffix))
      case .block(let block, let bits): return address.map { $0.isWithin(block, bits: bits) } ?? false
      }
    }
  }

  private static func entry(_ text: Substring) -> Entry? {
    if text == "*" { return Entry(pattern: .everything) }
    if let pattern = addresses(text) { return Entry(pattern: pattern) }
    var (name, port) = (text, UInt16?.none)
    if let colon = text.lastIndex(of: ":") {
      // What is neither address nor port is no name either, and would match nothing.
      guard let number = UInt16(text[text.index(after: colon)...]) else { return nil }
      (name, port) = (text[..<colon], number)
      if let pattern = addresses(name) { return Entry(pattern: pattern, port: port) }
    }
    let plain = plain(String(name))
    return plain.isEmpty ? nil : Entry(pattern: .name(plain), port: port)
  }

  /// "192.0.2.1", "[::1]", "2001:db8::/32"
  private static func addresses(_ text: Substring) -> Pattern? {
    let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
    guard let address = parts.first.flatMap({ SocketAddress(literal: String($0), port: 0) }) else { return nil }
    let width = address.isIPv6 ? 128 : 32
    guard parts.count == 2 else { return .block(address, bits: width) }
    guard let bits = Int(parts[1]), (0...width).contains(bits) else { return nil }
    return .block(address, bits: bits)
  }

  /// Lower case, without the dots around it: ".example.com", "example.com" and "example.com." say the same.
  private static func plain(_ name: String) -> String {
    var rest = name.lowercased()[...]
    while rest.hasPrefix(".") { rest = rest.dropFirst() }
    if rest.hasSuffix(".") { rest = rest.dropLast() }
    return String(rest)
  }
}

/// How an origin is reached, as a connection keeps it: a later configuration changes the origin's, not the
/// connection's.
struct Route: Equatable, Sendable {
  static let direct = Route(proxy: nil, isTLS: true, versions: .automatic)

  let proxy: ProxySettings?
  /// libcurl asks an HTTP proxy for a tunnel (RFC 9110, section 9.3.6).
  let usesTunnel: Bool
  /// To an HTTP proxy a request for an http:// URL names all of it (RFC 9112, section 3.2.2).
  var usesAbsoluteForm: Bool { proxy?.scheme == .http && !usesTunnel }
  /// Header lines for the proxy itself.
  let proxyLines: [UInt8]

  init(proxy: ProxySettings?, isTLS: Bool, versions: HTTPVersions) {
    self.proxy = proxy
    // HTTP/2 without TLS knows no absolute form that HTTP/1 proxies would understand.
    usesTunnel = isTLS || versions == .http2
    guard let proxy, proxy.scheme == .http, !usesTunnel, let user = proxy.user else {
      proxyLines = []
      return
    }
    let credentials = base64(Array("\(user):\(proxy.password ?? "")".utf8))
    proxyLines = Array("Proxy-Authorization: Basic ".utf8) + credentials + [0x0D, 0x0A]
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
