import CLLMPoolSystem
import Glibc
import LLMPoolCore

package enum HandshakeStep: Equatable {
  /// Without ALPN it is HTTP/1.1.
  case done(WireVersion, resumed: Bool)
  /// Wait for an edge of either direction, note it and call again.
  case again
  case failed(Fault)
}

/// The largest plain text of one record: more in one piece gains nothing.
private let recordCapacity = 16384

extension ByteStream {
  /// Prepares the handshake; `handshake()` runs it, and tells what failed here. `serverName` is the name or address
  /// that the certificate must be for. `sessionKey` is what sessions are shared by, as a rule the origin.
  package func startTLS(_ context: TLSContext, serverName: String, sessionKey: UInt64) {
    precondition(ssl == nil && descriptor >= 0)
    context.readAuthoritiesHere()
    ERR_clear_error()
    guard let ssl = SSL_new(context.pointer), let bio = BIO_new(socketMethod) else {
      tlsStartFailure = failure(.outOfMemory, "cannot create a TLS session: \(TLSReason.takeText())")
      return
    }
    BIO_set_data(bio, Unmanaged.passUnretained(self).toOpaque())
    BIO_set_init(bio, 1)
    SSL_set_bio(ssl, bio, bio)
    SSL_set_connect_state(ssl)
    self.ssl = ssl
    tlsContext = context
    // "example.com." is the same host, but certificates and SNI write it without the dot (RFC 6066, section 3).
    let name = serverName.hasSuffix(".") ? String(serverName.dropLast()) : serverName
    let address = SocketAddress(literal: name, port: 0)
    var accepted = true
    if address == nil { accepted = lp_ssl_set_server_name(ssl, name) == 1 }
    if !context.options.insecure { accepted = accepted && verifyName(ssl, name, address) }
    guard accepted else {
      tlsStartFailure = failure(.invalidArgument, "\"\(name)\" cannot be verified as a server name")
      return
    }
    let key = TLSSessionKey(origin: sessionKey, serverName: name)
    tlsSessionKey = key
    if let session = context.sessions.take(for: key) {
      SSL_set_session(ssl, session)
      SSL_SESSION_free(session)
    }
  }

  private func verifyName(_ ssl: OpaquePointer, _ name: String, _ address: SocketAddress?) -> Bool {
    let parameters = SSL_get0_param(ssl)
    if let address {
      let text = address.host.split(separator: "%").first.map(String.init) ?? ""
      return X509_VERIFY_PARAM_set1_ip_asc(parameters, text) == 1
    }
    // The subject's CN is no host name (RFC 9525, section 6.3).
    X509_VERIFY_PARAM_set_hostflags(
      parameters, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT))
    // An empty name would switch the check off; one that begins with a dot would mean every name below it.
    return !name.isEmpty && !name.hasPrefix(".") && X509_VERIFY_PARAM_set1_host(parameters, name, name.utf8.count) == 1
  }

  package func handshake() -> HandshakeStep {
    if let tlsStartFailure { return .failed(tlsStartFailure) }
    guard let ssl, descriptor >= 0 else { return .failed(failure(.internalError, "no TLS was started")) }
    ERR_clear_error()
    let result = SSL_do_handshake(ssl)
    if result == 1 { return finishHandshake(ssl) }
    switch SSL_get_error(ssl, result) {
    case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE:
      return .again
    default:
      tlsIsBroken = true
      if let tlsSessionKey { tlsContext?.sessions.remove(for: tlsSessionKey) }
      return .failed(handshakeFailure())
    }
  }

  private func finishHandshake(_ ssl: OpaquePointer) -> HandshakeStep {
    isSecured = true
    var bytes: UnsafePointer<UInt8>?
    var count: UInt32 = 0
    SSL_get0_alpn_selected(ssl, &bytes, &count)
    let selected = Array(UnsafeBufferPointer(start: bytes, count: Int(count)))
    let version = selected == Array("h2".utf8) ? WireVersion.http2 : .http1
    if tlsContext?.options.versions == .http2 && version != .http2 {
      return .failed(failure(.tls, "the server does not offer HTTP/2 (ALPN)"))
    }
    return .done(version, resumed: SSL_session_reused(ssl) == 1)
  }

  private func handshakeFailure() -> Fault {
    let error = ERR_get_error()
    ERR_clear_error()
    if let verifyFailure { return failure(.tlsVerify, verifyFailure + (tlsContext?.missingAuthorities ?? "")) }
    if firstBytes.starts(with: Array("HTTP/".utf8)) {
      return failure(.tls, "the server answered in plain HTTP: this is not a TLS port")
    }
    if socketError != 0 {
      return failure(.tls, "connection lost in the TLS handshake: \(errnoText(socketError))")
    }
    if sawEndOfFile { return failure(.tls, "the server closed the connection in the TLS handshake") }
    guard error != 0 else { return failure(.tls, "TLS handshake failed without a reason") }
    var text = "TLS handshake failed: \(TLSReason.text(error))"
    switch lp_err_reason(error) {
    case SSL_R_UNSUPPORTED_PROTOCOL, SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
      text += "; the server does not speak TLS 1.2 or newer"
    case SSL_R_WRONG_VERSION_NUMBER:
      text += "; the server does not speak TLS on this port"
    default:
      break
    }
    return failure(.tls, text)
  }

  // MARK: records

  /// Fills the buffer with as many records as have arrived.
  func readTLS(into buffer: UnsafeMutableRawBufferPointer) -> IOResult {
    guard let ssl, let base = buffer.baseAddress, !tlsIsBroken else {
      return .failed(failure(.read, "the TLS connection has failed before"))
    }
    isReadingTLS = true
    defer { isReadingTLS = false }
    var total = 0
    ERR_clear_error()
    while total < buffer.count {
      var count = 0
      if SSL_read_ex(ssl, base + total, buffer.count - total, &count) == 1 {
        total += count
        continue
      }
      let result = readFailure(SSL_get_error(ssl, 0))
      if case .wouldBlock = result {
        lastReadWouldBlock = true
      } else if total > 0 {
        deferredRead = result
      }
      if total == 0 { return result }
      break
    }
    return .bytes(total)
  }

  private func readFailure(_ code: Int32) -> IOResult {
    switch code {
    case SSL_ERROR_WANT_READ:
      return .wouldBlock
    case SSL_ERROR_WANT_WRITE:
      readWaitsForWritable = true
      return .wouldBlock
    case SSL_ERROR_ZERO_RETURN:
      return .endOfFile(clean: true)
    default:
      tlsIsBroken = true
      let error = ERR_get_error()
      ERR_clear_error()
      if receiveFailed { return .failed(failure(.read, errnoText(socketError))) }
      if sawEndOfFile { return .endOfFile(clean: false) }
      return .failed(recordFailure(.read, error))
    }
  }

  /// With TLS 1.3 the server judges our certificate after the handshake, so that its verdict comes as an alert in the
  /// place of the answer.
  private func recordFailure(_ direction: Failure, _ error: UInt) -> Fault {
    let reason = error == 0 ? "no reason given" : TLSReason.text(error)
    let aboutCertificate: Set<Int32> = [42, 43, 44, 45, 46, 48, 49, 116]  // Alerts of RFC 8446, section 6.2.
    if error != 0, aboutCertificate.contains(lp_err_reason(error) - Int32(SSL_AD_REASON_OFFSET)) {
      return failure(.tls, "the server did not accept the client certificate: \(reason)")
    }
    return failure(direction, "TLS: \(reason)")
  }

  func writeTLS(_ buffer: UnsafeRawBufferPointer) -> IOResult {
    guard let ssl, let base = buffer.baseAddress, !tlsIsBroken else {
      return .failed(failure(.write, "the TLS connection has failed before"))
    }
    var total = 0
    ERR_clear_error()
    while total < buffer.count {
      var count = 0
      if SSL_write_ex(ssl, base + total, buffer.count - total, &count) == 1 {
        total += count
        continue
      }
      switch SSL_get_error(ssl, 0) {
      case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE:
        return total > 0 ? .bytes(total) : .wouldBlock
      default:
        // The socket's error comes again with the next call, after the bytes that went out have been told.
        if total > 0 && socketError != 0 { return .bytes(total) }
        return .failed(writeFailure())
      }
    }
    return .bytes(total)
  }

  private func writeFailure() -> Fault {
    let error = ERR_get_error()
    ERR_clear_error()
    // A socket that refuses to send may still hold the answer: reading goes on.
    if socketError != 0 { return failure(.write, errnoText(socketError)) }
    if sawEndOfFile { return failure(.write, "the server has closed the connection") }
    tlsIsBroken = true
    if lp_err_library(error) == Int32(ERR_LIB_SSL), lp_err_reason(error) == SSL_R_BAD_WRITE_RETRY {
      return failure(.internalError, "a TLS write was not repeated with the same bytes")
    }
    return recordFailure(.write, error)
  }

  /// The head and the start of the body share the first record.
  func writeTLS(_ head: UnsafeRawBufferPointer, _ body: UnsafeRawBufferPointer) -> IOResult {
    guard head.count < recordCapacity else { return writeTLS(head) }
    let shared = min(body.count, recordCapacity - head.count)
    let first = withUnsafeTemporaryAllocation(byteCount: head.count + shared, alignment: 16) { record in
      record.copyMemory(from: head)
      UnsafeMutableRawBufferPointer(rebasing: record[head.count...])
        .copyMemory(from: UnsafeRawBufferPointer(rebasing: body[..<shared]))
      return writeTLS(UnsafeRawBufferPointer(record))
    }
    guard case .bytes(let count) = first, count == head.count + shared, shared < body.count else { return first }
    // What went wrong after the first record is told by the next call.
    guard case .bytes(let more) = writeTLS(UnsafeRawBufferPointer(rebasing: body[shared...])) else { return first }
    return .bytes(count + more)
  }

  // MARK: the end

  func closeTLS(goodbye: Bool) {
    guard let ssl else { return }
    self.ssl = nil
    if goodbye && isSecured && !tlsIsBroken && socketError == 0 {
      ERR_clear_error()
      SSL_shutdown(ssl)
    }
    ERR_clear_error()
    // Without it OpenSSL would take the session for a failed one and spoil it for those who resume it.
    if isSecured && !tlsIsBroken { SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN) }
    SSL_free(ssl)
  }

  /// The stream below an SSL; its BIO carries the pointer, and lives no longer than the stream.
  static func of(ssl: OpaquePointer?) -> ByteStream? {
    guard let ssl, let bio = SSL_get_rbio(ssl), let data = BIO_get_data(bio) else { return nil }
    return Unmanaged<ByteStream>.fromOpaque(data).takeUnretainedValue()
  }
}

// MARK: the BIO between OpenSSL and the socket

/// One for the process, never freed and never changed: hence safe to share.
nonisolated(unsafe) private let socketMethod: OpaquePointer? = {
  let method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "llmpool socket")
  BIO_meth_set_read(method, readSocket)
  BIO_meth_set_write(method, writeSocket)
  BIO_meth_set_ctrl(method, controlSocket)
  return method
}()

private let readSocket: @convention(c) (OpaquePointer?, UnsafeMutablePointer<CChar>?, Int32) -> Int32 = {
  bio, buffer, count in
  lp_bio_clear_retry(bio)
  guard let buffer, let data = BIO_get_data(bio) else { return -1 }
  let stream = Unmanaged<ByteStream>.fromOpaque(data).takeUnretainedValue()
  switch stream.receive(into: buffer, count: Int(count)) {
  case .bytes(let received):
    if stream.firstBytes.isEmpty {
      stream.firstBytes = Array(UnsafeRawBufferPointer(start: buffer, count: min(received, 5)))
    }
    return Int32(received)
  case .wouldBlock:
    lp_bio_retry_read(bio)
    return -1
  case .endOfFile:
    return 0
  case .error:
    return -1
  }
}

private let writeSocket: @convention(c) (OpaquePointer?, UnsafePointer<CChar>?, Int32) -> Int32 = {
  bio, buffer, count in
  lp_bio_clear_retry(bio)
  guard let buffer, let data = BIO_get_data(bio) else { return -1 }
  let stream = Unmanaged<ByteStream>.fromOpaque(data).takeUnretainedValue()
  // Of an end without close_notify OpenSSL would complain to a peer that is gone, and the reset that this provokes
  // would look like the peer's answer to our request.
  if stream.isReadingTLS && stream.sawEndOfFile { return count }
  switch stream.send(buffer, count: Int(count)) {
  case .bytes(let sent):
    return Int32(sent)
  case .wouldBlock:
    lp_bio_retry_write(bio)
    return -1
  case .endOfFile, .error:
    return -1
  }
}

private let controlSocket: @convention(c) (OpaquePointer?, Int32, Int, UnsafeMutableRawPointer?) -> Int = {
  bio, command, _, _ in
  switch command {
  case BIO_CTRL_FLUSH:
    return 1
  case BIO_CTRL_EOF:
    guard let data = BIO_get_data(bio) else { return 1 }
    return Unmanaged<ByteStream>.fromOpaque(data).takeUnretainedValue().sawEndOfFile ? 1 : 0
  default:
    return 0
  }
}
