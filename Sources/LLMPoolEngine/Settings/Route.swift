import LLMPoolCore

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
