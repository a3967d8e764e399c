import LLMPoolCore

/// What shapes a TLS connection of one pool configuration.
package struct TLSOptions: Equatable, Sendable {
  /// PEM; nil: the system's store (and SSL_CERT_FILE, SSL_CERT_DIR, which OpenSSL minds by itself).
  package var caFile: String?
  package var clientCertFile: String?
  /// Nil: the key is in `clientCertFile` too.
  package var clientKeyFile: String?
  /// Accepts any certificate for any name.
  package var insecure: Bool
  /// What ALPN offers.
  package var versions: HTTPVersions

  package init(
    caFile: String? = nil, clientCertFile: String? = nil, clientKeyFile: String? = nil, insecure: Bool = false,
    versions: HTTPVersions = .automatic
  ) {
    self.caFile = caFile
    self.clientCertFile = clientCertFile
    self.clientKeyFile = clientKeyFile
    self.insecure = insecure
    self.versions = versions
  }
}
