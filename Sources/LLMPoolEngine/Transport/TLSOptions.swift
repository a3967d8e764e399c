import LLMPoolCore

/// What shapes a TLS connection of one pool configuration.
package struct TLSOptions: Equatable, Sendable {
  /// PEM; nil: the system's store (and SSL_CERT_FILE, SSL_CERT_DIR, which OpenSSL minds by itself).
  package var caFile: String?
  /// A directory of certificates, by the hashes of their subjects.
  package var caPath: String?
  /// PEM itself.
  package var caPEM: String?
  package var clientCertFile: String?
  /// Nil: the key is in `clientCertFile` too.
  package var clientKeyFile: String?
  /// Who is trusted is named: the system's store is not looked at.
  package var namesAuthorities: Bool { caFile != nil || caPath != nil || caPEM != nil }
  /// Accepts any certificate for any name.
  package var insecure: Bool
  /// What ALPN offers.
  package var versions: HTTPVersions

  package init(
    caFile: String? = nil, caPath: String? = nil, caPEM: String? = nil, clientCertFile: String? = nil,
    clientKeyFile: String? = nil, insecure: Bool = false, versions: HTTPVersions = .automatic
  ) {
    self.caFile = caFile
    self.caPath = caPath
    self.caPEM = caPEM
    self.clientCertFile = clientCertFile
    self.clientKeyFile = clientKeyFile
    self.insecure = insecure
    self.versions = versions
  }
}
