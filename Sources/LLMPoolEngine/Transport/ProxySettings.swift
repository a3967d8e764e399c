import LLMPoolCore

/// Where a proxy is and who we are to it. Whether it applies to an origin (no_proxy) the caller has decided.
///
/// The credentials are taken out of the URL here and go to libcurl on their own, so that no text made from the rest,
/// by us or by libcurl, can hold them.
package struct ProxySettings: Equatable, Sendable, CustomStringConvertible {
  package enum Scheme: String, Sendable {
    case http, socks5
    /// The proxy resolves the origin's name.
    case socks5h
  }

  package let scheme: Scheme
  /// Without brackets.
  package let host: String
  package let port: UInt16
  let user: String?
  let password: String?
  /// Of `host`, in the order to try, as the resolver gave them. Empty: libcurl resolves, with a thread of its own.
  package var addresses: [SocketAddress] = []

  /// "http://user:password@proxy.example.com:3128"; a missing scheme means http, a missing port the scheme's: 80, or
  /// 1080 for SOCKS.
  package init(url: String) throws(Fault) {
    var rest = Substring(url)
    var scheme = Scheme.http
    if let colon = rest.firstIndex(of: ":"), rest[colon...].hasPrefix("://") {
      let name = rest[..<colon].lowercased()
      guard let known = Scheme(rawValue: name) else {
        // What stands before "://" is no secret, unless the URL is malformed.
        let failure: Failure = name == "https" ? .unsupported : .invalidArgument
        let shown = name.utf8.allSatisfy({ $0.isNameByte }) ? name : "this"
        throw Fault(failure, "proxy: \(shown):// is not supported; http, socks5 and socks5h are")
      }
      scheme = known
      rest = rest[colon...].dropFirst(3)
    }
    if let slash = rest.firstIndex(of: "/") { rest = rest[..<slash] }
    (user, password) = try Self.takeCredentials(&rest)
    self.scheme = scheme
    (host, port) = try Self.hostAndPort(rest, defaultPort: scheme == .http ? 80 : 1080)
  }

  /// Never with credentials.
  package var description: String { "\(scheme.rawValue)://\(authority)" }

  var authority: String { bracketed(host) + ":\(port)" }

  private static func takeCredentials(
    _ rest: inout Substring
  ) throws(Fault) -> (user: String?, password: String?) {
    guard let at = rest.lastIndex(of: "@") else { return (nil, nil) }
    let parts = rest[..<at].split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    rest = rest[rest.index(after: at)...]
    guard let user = percentDecoded(parts[0]), let password = percentDecoded(parts.count > 1 ? parts[1] : "") else {
      throw Fault(.invalidArgument, "proxy: bad percent-encoding in the credentials")
    }
    // Basic credentials cannot hold it (RFC 7617, section 2).
    guard !user.contains(":") else {
      throw Fault(.invalidArgument, "proxy: the user name contains a colon")
    }
    return (user, password)
  }

  private static func hostAndPort(
    _ authority: Substring, defaultPort: UInt16
  ) throws(Fault) -> (host: String, port: UInt16) {
    var host = authority
    var port = defaultPort
    let afterBrackets = authority.lastIndex(of: "]") ?? authority.startIndex
    if let colon = authority[afterBrackets...].lastIndex(of: ":") {
      host = authority[..<colon]
      guard let number = UInt16(authority[authority.index(after: colon)...]), number > 0 else {
        throw Fault(.invalidArgument, "proxy: bad port")
      }
      port = number
    }
    if host.hasPrefix("[") && host.hasSuffix("]") { host = host.dropFirst().dropLast() }
    guard isDialable(String(host)) else { throw Fault(.invalidArgument, "proxy: bad host name") }
    return (String(host), port)
  }

  /// Nil for a broken escape, a control character or what is not UTF-8.
  private static func percentDecoded(_ text: Substring) -> String? {
    var bytes: [UInt8] = []
    var rest = text.utf8[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      let digits = String(decoding: rest.prefix(2), as: UTF8.self)
      guard digits.utf8.count == 2, digits.first != "+", let value = UInt8(digits, radix: 16) else { return nil }
      bytes.append(value)
      rest = rest.dropFirst(2)
    }
    if bytes.contains(where: { $0 < 0x20 || $0 == 0x7f }) { return nil }
    return String(validating: bytes, as: UTF8.self)
  }
}

/// A name or address that can stand in a URL and in libcurl's lists without changing their meaning.
func isDialable(_ host: String) -> Bool {
  if SocketAddress(literal: host, port: 0) != nil { return true }
  return !host.isEmpty && host.utf8.count <= 253 && host.utf8.allSatisfy(\.isNameByte)
}

/// As a URL has it.
func bracketed(_ host: String) -> String {
  guard host.utf8.contains(UInt8(ascii: ":")) else { return host }
  // The zone of a link-local address follows an escaped percent sign (RFC 6874, section 2).
  return "[\(host.split(separator: "%").joined(separator: "%25"))]"
}

extension UInt8 {
  /// Letters, digits, and the marks that names in use have.
  fileprivate var isNameByte: Bool {
    switch self {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"):
      true
    default:
      false
    }
  }
}
