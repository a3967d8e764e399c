import CLLMPoolSystem
import Glibc
import LLMPoolTestSupport
import Testing

@testable import LLMPoolEngine

// MARK: a TLS server

struct ServerOptions: Sendable {
  var certificate = "good"
  var maxVersion: Int32 = 0
  var protocols: [String] = []
  var requiresClientCertificate = false
}

/// One accepted connection of the TLS server, blocking.
struct ServerConnection {
  let ssl: OpaquePointer
  let descriptor: Int32

  func write(_ text: String) {
    let bytes = Array(text.utf8)
    _ = SSL_write(ssl, bytes, Int32(bytes.count))
  }

  func read(_ capacity: Int = 4096) -> [UInt8] {
    var buffer = [UInt8](repeating: 0, count: capacity)
    let count = SSL_read(ssl, &buffer, Int32(capacity))
    return Array(buffer[..<max(Int(count), 0)])
  }
}

/// Accepts `connections` one after the other, each handled by the closure once its handshake is done.
final class TLSServer {
  let port: UInt16
  private let listener: Listener
  private var thread: TestThread?

  init(
    _ options: ServerOptions = ServerOptions(), connections: Int = 1,
    _ body: @escaping @Sendable (ServerConnection, Int) -> Void
  ) {
    let listener = Listener()
    self.listener = listener
    port = listener.port
    thread = TestThread {
      let context = makeServerContext(options)
      for number in 0..<connections {
        let descriptor = listener.acceptOne()
        guard descriptor >= 0 else { break }
        let ssl = SSL_new(context)!
        SSL_set_fd(ssl, descriptor)
        if SSL_accept(ssl) == 1 { body(ServerConnection(ssl: ssl, descriptor: descriptor), number) }
        // As close_notify was sent or not, by the closure: the session must stay resumable.
        SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN)
        SSL_free(ssl)
        Glibc.shutdown(descriptor, Int32(SHUT_WR))
        while !receiveSome(descriptor).isEmpty {}
        Glibc.close(descriptor)
      }
      SSL_CTX_free(context)
      ERR_clear_error()
    }
  }

  func join() {
    thread?.join()
    thread = nil
    listener.close()
  }
}

private func makeServerContext(_ options: ServerOptions) -> OpaquePointer {
  precondition(Libraries.initialized)
  let files = Certificates.shared
  let context = SSL_CTX_new(TLS_server_method())!
  SSL_CTX_set_options(context, 0)
  SSL_CTX_set_security_level(context, options.maxVersion == TLS1_1_VERSION ? 0 : 1)
  if options.maxVersion != 0 {
    _ = lp_ctx_set_min_version(context, TLS1_VERSION)
    SSL_CTX_ctrl(context, SSL_CTRL_SET_MAX_PROTO_VERSION, Int(options.maxVersion), nil)
  }
  precondition(SSL_CTX_use_certificate_chain_file(context, files.path(options.certificate)) == 1)
  precondition(
    SSL_CTX_use_PrivateKey_file(context, files.path(options.certificate + ".key"), SSL_FILETYPE_PEM) == 1)
  let identity: [UInt8] = [1]
  SSL_CTX_set_session_id_context(context, identity, 1)
  if options.requiresClientCertificate {
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
    SSL_CTX_load_verify_locations(context, files.path("ca"), nil)
  }
  if !options.protocols.isEmpty {
    let list = options.protocols.flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) }
    let memory = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: list.count)  // Lives as long as the process.
    _ = memory.initialize(from: list)
    let argument = UnsafeMutablePointer<UnsafeMutableBufferPointer<UInt8>>.allocate(capacity: 1)
    argument.initialize(to: memory)
    SSL_CTX_set_alpn_select_cb(
      context,
      { _, out, outCount, offered, offeredCount, argument in
        let server = argument!.assumingMemoryBound(to: UnsafeMutableBufferPointer<UInt8>.self).pointee
        var selected: UnsafeMutablePointer<UInt8>?
        let result = SSL_select_next_proto(
          &selected, outCount, server.baseAddress, UInt32(server.count), offered, offeredCount)
        out?.pointee = UnsafePointer(selected)
        return result == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL
      }, argument)
  }
  return context
}

// MARK: driving a stream without a loop

extension ByteStream {
  /// Waits with poll() and notes what it says; false after 20 s.
  func waitReady(write: Bool = false) -> Bool {
    let events = Int16(POLLIN) | Int16(0x2000) | (write ? Int16(POLLOUT) : 0)  // 0x2000: POLLRDHUP
    var entry = pollfd(fd: descriptor, events: events, revents: 0)
    guard poll(&entry, 1, 20_000) == 1 else { return false }
    let told = Int32(entry.revents)
    if told & (POLLIN | POLLHUP | POLLERR | 0x2000) != 0 {
      noteReadable(hangup: told & (POLLHUP | POLLERR | 0x2000) != 0)
    }
    if told & (POLLOUT | POLLHUP | POLLERR) != 0 { noteWritable() }
    return true
  }

  func completeHandshake() -> HandshakeStep {
    while true {
      let step = handshake()
      guard step == .again else { return step }
      guard waitReady() else { return step }
    }
  }

  /// Everything up to the end or the failure, which comes last; stops when `count` bytes are there.
  func readAll(count: Int = .max) -> (bytes: [UInt8], end: IOResult) {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 16384)
    while bytes.count < count {
      let result = buffer.withUnsafeMutableBytes { read(into: $0) }
      switch result {
      case .bytes(let count): bytes += buffer[..<count]
      case .wouldBlock:
        if !waitReady() { return (bytes, result) }
      case .endOfFile, .failed: return (bytes, result)
      }
    }
    return (bytes, .bytes(bytes.count))
  }

  func writeAll(_ bytes: [UInt8]) -> IOResult {
    var sent = 0
    while sent < bytes.count {
      let result = bytes.withUnsafeBytes { write(UnsafeRawBufferPointer(rebasing: $0[sent...])) }
      switch result {
      case .bytes(let count): sent += count
      case .wouldBlock:
        if !waitReady(write: true) { return result }
      default: return result
      }
    }
    return .bytes(sent)
  }
}
