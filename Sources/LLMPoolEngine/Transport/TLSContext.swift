import CLLMPoolSystem
import Glibc
import LLMPoolCore

/// The SSL_CTX of one pool configuration: certificates read once, and the sessions that its connections may resume.
///
/// May be made on any thread (so that `llmpool_configure` reports a bad file to its caller); from its first
/// connection on it belongs to the engine thread. The system's store has no error to report, and costs 25 ms where it
/// is one file: it is read by who needs it first, `AuthorityReading` as a rule.
package final class TLSContext: @unchecked Sendable {
  package let options: TLSOptions
  let pointer: OpaquePointer
  /// The file of the system's store, by the environment of the time when the context was made.
  let systemFile = SystemAuthorities.path
  /// Whom a server's certificate may come from is known, or does not matter.
  private(set) var hasAuthorities: Bool
  /// What was in the files that the options name, in their order.
  private var digests: [[UInt8]] = []
  var sessions = TLSSessionCache()

  package init(_ options: TLSOptions) throws(Fault) {
    guard Libraries.initialized, let pointer = SSL_CTX_new(TLS_client_method()) else {
      throw Fault(.outOfMemory, "cannot create a TLS context: \(TLSReason.takeText())")
    }
    self.options = options
    self.pointer = pointer
    hasAuthorities = options.insecure || options.namesAuthorities
    // Every property is set, so the deinitialiser frees the context if this throws.
    digests = try Self.configure(pointer, options)
  }

  /// Whether both would accept the same servers and show the same certificate, by what is in the files that are named:
  /// certificates are renewed under the same name. The system's store is not compared.
  func isSame(as other: TLSContext) -> Bool { options == other.options && digests == other.digests }

  deinit {
    sessions.removeAll()
    SSL_CTX_free(pointer)
  }

  private static func configure(_ context: OpaquePointer, _ options: TLSOptions) throws(Fault) -> [[UInt8]] {
    var digests: [[UInt8]] = []
    ERR_clear_error()
    _ = lp_ctx_set_min_version(context, TLS1_2_VERSION)
    // SSL_OP_IGNORE_UNEXPECTED_EOF stays off: an end without close_notify is how a truncated answer shows.
    lp_ctx_no_renegotiation(context)
    // Buffers of idle connections (2 x 17 KiB each) are given back to the allocator.
    let mode = SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS
    lp_ctx_set_mode(context, Int(mode))
    // One recv() fills OpenSSL's buffer with as many small records as have arrived.
    lp_ctx_read_ahead(context)
    lp_ctx_set_client_sessions(context)
    SSL_CTX_sess_set_new_cb(context, storeSession)
    setALPN(context, options.versions)
    if options.insecure {
      SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nil)
    } else {
      SSL_CTX_set_verify(context, SSL_VERIFY_PEER, noteVerifyFailure)
      // An intermediate among them may be the anchor, as with curl.
      X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context), UInt(X509_V_FLAG_PARTIAL_CHAIN))
      if options.namesAuthorities {
        digests = try loadAuthorities(context, options)
      } else {
        // Where the store is a directory, or what a provider has, OpenSSL looks when it verifies.
        SSL_CTX_set_default_verify_dir(context)
        SSL_CTX_set_default_verify_store(context)
        ERR_clear_error()  // A system without one of the default places is no error.
      }
    }
    return try digests + loadClientCertificate(context, options)
  }

  private static func setALPN(_ context: OpaquePointer, _ versions: HTTPVersions) {
    let h2: [UInt8] = [2] + Array("h2".utf8)
    let http11: [UInt8] = [8] + Array("http/1.1".utf8)
    let protocols =
      switch versions {
      case .automatic: h2 + http11
      case .http1: http11
      case .http2: h2
      }
    SSL_CTX_set_alpn_protos(context, protocols, UInt32(protocols.count))
  }

  /// `AuthorityReading` has read them.
  func noteAuthorities() { hasAuthorities = true }

  func readAuthoritiesHere() {
    guard !hasAuthorities else { return }
    var authorities = SystemAuthorities(path: systemFile)
    while authorities.addNext(to: pointer) {}
    hasAuthorities = true
  }

  /// Where no certificate can be verified because the system has no store at all: where one was looked for.
  var missingAuthorities: String? {
    guard !options.namesAuthorities, lp_store_count(SSL_CTX_get_cert_store(pointer)) == 0 else { return nil }
    return SystemAuthorities.absence(file: systemFile)
  }

  private static func loadAuthorities(_ context: OpaquePointer, _ options: TLSOptions) throws(Fault) -> [[UInt8]] {
    var digests: [[UInt8]] = []
    if let file = options.caFile {
      let bytes = try NamedFile.read(file, field: "ca_file")
      guard lp_ctx_load_authorities(context, bytes, Int32(bytes.count)) > 0 else {
        throw fileFailure("ca_file", file, otherwise: "no certificate in it")
      }
      digests.append(digest(bytes))
    }
    if let text = options.caPEM {
      let bytes = Array(text.utf8)
      guard lp_ctx_load_authorities(context, bytes, Int32(clamping: bytes.count)) > 0 else {
        ERR_clear_error()
        throw Fault(.invalidArgument, "ca_pem: no certificate in it")
      }
    }
    if let directory = options.caPath {
      try NamedFile.checkDirectory(directory, field: "ca_path")
      SSL_CTX_load_verify_dir(context, directory)
      ERR_clear_error()
    }
    return digests
  }

  private static func loadClientCertificate(
    _ context: OpaquePointer, _ options: TLSOptions
  ) throws(Fault) -> [[UInt8]] {
    guard let certificate = options.clientCertFile else {
      if options.clientKeyFile == nil { return [] }
      throw Fault(.invalidArgument, "client_key_file: given without client_cert_file")
    }
    let chain = try NamedFile.read(certificate, field: "client_cert_file")
    guard lp_ctx_use_chain(context, chain, Int32(chain.count)) == 1 else {
      throw fileFailure("client_cert_file", certificate, otherwise: "no certificate in it")
    }
    let keyField = options.clientKeyFile == nil ? "client_cert_file" : "client_key_file"
    let keyFile = options.clientKeyFile ?? certificate
    let key = keyFile == certificate ? chain : try NamedFile.read(keyFile, field: keyField)
    guard lp_ctx_use_key(context, key, Int32(key.count)) == 1, SSL_CTX_check_private_key(context) == 1
    else { throw fileFailure(keyField, keyFile, otherwise: "no private key in it") }
    return [digest(chain), digest(key)]
  }

  /// SHA-256
  private static func digest(_ bytes: [UInt8]) -> [UInt8] {
    var result = [UInt8](repeating: 0, count: 32)
    EVP_Digest(bytes, bytes.count, &result, nil, EVP_sha256(), nil)
    return result
  }

  /// OpenSSL puts several errors into its queue; the first that says something about the file is the one to tell.
  private static func fileFailure(_ field: String, _ file: String, otherwise: String) -> Fault {
    var reason = otherwise
    while case let error = ERR_get_error(), error != 0 {
      let (library, code) = (lp_err_library(error), lp_err_reason(error))
      switch (library, code) {
      case (Int32(ERR_LIB_X509), X509_R_KEY_VALUES_MISMATCH), (Int32(ERR_LIB_X509), X509_R_KEY_TYPE_MISMATCH):
        reason = "the key does not match the certificate"
      case (Int32(ERR_LIB_PEM), PEM_R_BAD_PASSWORD_READ), (Int32(ERR_LIB_PEM), PEM_R_PROBLEMS_GETTING_PASSWORD):
        reason = "the key is encrypted; a key without a passphrase is needed"
      case (Int32(ERR_LIB_SSL), SSL_R_EE_KEY_TOO_SMALL), (Int32(ERR_LIB_SSL), SSL_R_CA_MD_TOO_WEAK):
        reason = TLSReason.text(error)
      default:
        continue
      }
      break
    }
    ERR_clear_error()
    return Fault(.invalidArgument, "\(field): \(file): \(reason)")
  }
}

/// OpenSSL hands over each session that a server offers, with TLS 1.3 after the handshake, while the answer is read.
/// Returning 1 keeps the reference.
private let storeSession: @convention(c) (OpaquePointer?, OpaquePointer?) -> Int32 = { ssl, session in
  guard let session, let stream = ByteStream.of(ssl: ssl), let key = stream.tlsSessionKey else { return 0 }
  return stream.tlsContext?.sessions.store(session, for: key) == true ? 1 : 0
}

/// The certificate at fault is at hand only here; the handshake's error is told with what was noted.
private let noteVerifyFailure: @convention(c) (Int32, OpaquePointer?) -> Int32 = { accepted, store in
  if accepted == 0, let store,
    let ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()),
    let stream = ByteStream.of(ssl: OpaquePointer(ssl))
  {
    stream.verifyFailure = TLSReason.verifyText(store)
  }
  return accepted
}
