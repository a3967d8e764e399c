import CLLMPoolSystem
import Glibc
import Testing

@testable import LLMPoolEngine

/// Certificates of a throw-away authority, made once per run with the openssl command.
struct Certificates: Sendable {
  let directory: String

  static let shared = Certificates()

  func path(_ name: String) -> String { "\(directory)/\(name).pem" }

  private init() {
    var template = Array("/tmp/llmpool-certificates.XXXXXX".utf8CString)
    directory = String(cString: mkdtemp(&template)!)
    setenv("LLMPOOL_TEST_CERTIFICATES", directory, 1)
    atexit { removeDirectory() }
    let status = run("/bin/sh", ["-e", "-c", Self.script, "sh", directory])
    precondition(status == 0, "the openssl command failed with \(status)")
  }

  private static let script = """
    cd "$1"
    exec >log 2>&1
    key() { openssl ecparam -name prime256v1 -genkey -noout -out $1.key.pem; }
    authority() { key $1; openssl req -x509 -new -key $1.key.pem -subj "/CN=$2" -days 3 -out $1.pem; }
    leaf() {
      key $1
      openssl req -new -key $1.key.pem -subj "/CN=$1" -out $1.csr
      printf 'subjectAltName=%s\\n' "$2" >$1.ext
      openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key.pem -days $3 -extfile $1.ext -out $1.pem
    }
    authority ca "Test Authority"
    authority other "Other Authority"
    leaf good DNS:localhost,IP:127.0.0.1,DNS:*.wild.test 3
    leaf expired DNS:localhost -1
    leaf elsewhere DNS:elsewhere.test,DNS:b.elsewhere.test 3
    leaf client DNS:client 3
    cat client.pem client.key.pem >both.pem
    openssl ec -in client.key.pem -aes128 -passout pass:secret -out encrypted.key.pem
    key selfsigned
    openssl req -x509 -new -key selfsigned.key.pem -subj /CN=localhost -addext subjectAltName=DNS:localhost \\
      -days 3 -out selfsigned.pem
    leaf subject DNS:unused 3
    openssl req -new -key subject.key.pem -subj "/CN=localhost" -out subject.csr
    openssl x509 -req -in subject.csr -CA ca.pem -CAkey ca.key.pem -days 3 -out subject.pem
    echo nothing >empty.pem
    """
}

private func removeDirectory() {
  guard let directory = getenv("LLMPOOL_TEST_CERTIFICATES") else { return }
  _ = run("/bin/rm", ["-rf", String(cString: directory)])
}

func run(_ program: String, _ arguments: [String]) -> Int32 {
  var strings: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) } + [nil]
  defer { for string in strings { free(string) } }
  var process: pid_t = 0
  guard posix_spawn(&process, program, nil, nil, &strings, environ) == 0 else { return -1 }
  var status: Int32 = 0
  waitpid(process, &status, 0)
  return status
}

/// A thread that runs one closure and can be waited for.
final class TestThread {
  private final class Box {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }

  private var thread = pthread_t()

  init(_ body: @escaping @Sendable () -> Void) {
    let box = Unmanaged.passRetained(Box(body)).toOpaque()
    let code = pthread_create(
      &thread, nil,
      { pointer in
        // OpenSSL's own socket calls raise SIGPIPE. Blocked only here: the client's must never do.
        var signals = sigset_t()
        sigemptyset(&signals)
        sigaddset(&signals, SIGPIPE)
        pthread_sigmask(SIG_BLOCK, &signals, nil)
        Unmanaged<Box>.fromOpaque(pointer!).takeRetainedValue().body()
        return nil
      }, box)
    precondition(code == 0)
  }

  func join() { pthread_join(thread, nil) }
}

func withAddress<Result>(
  port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
) -> Result {
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_port = port.bigEndian
  address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
  return withUnsafePointer(to: &address) { pointer in
    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
  }
}

/// A listening socket on 127.0.0.1.
struct Listener: Sendable {
  let descriptor: Int32
  let port: UInt16

  init(backlog: Int32 = 128) {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    precondition(withAddress(port: 0) { bind(descriptor, $0, $1) } == 0 && listen(descriptor, backlog) == 0)
    var address = sockaddr_in()
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    withUnsafeMutablePointer(to: &address) { pointer in
      _ = pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &size) }
    }
    self.descriptor = descriptor
    port = UInt16(bigEndian: address.sin_port)
  }

  /// Blocks; gives up after 20 s, so that a failed test does not hang.
  func acceptOne() -> Int32 {
    var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    guard poll(&entry, 1, 20_000) == 1 else { return -1 }
    let peer = accept(descriptor, nil, nil)
    var limit = timeval(tv_sec: 20, tv_usec: 0)
    setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(peer, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    return peer
  }

  func close() { Glibc.close(descriptor) }
}

/// A connected, non-blocking client socket.
func connectPlain(_ port: UInt16) -> Int32 {
  let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
  precondition(withAddress(port: port) { connect(descriptor, $0, $1) } == 0)
  var enabled: Int32 = 1
  _ = ioctl(descriptor, UInt(FIONBIO), &enabled)
  return descriptor
}

func sendAll(_ descriptor: Int32, _ text: String) {
  var bytes = Array(text.utf8)[...]
  while !bytes.isEmpty {
    let sent = bytes.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    if sent <= 0 { return }
    bytes = bytes.dropFirst(sent)
  }
}

/// What one recv() gives, as text; "" at the end.
func receiveSome(_ descriptor: Int32) -> String {
  var buffer = [UInt8](repeating: 0, count: 4096)
  let count = recv(descriptor, &buffer, buffer.count, 0)
  return String(decoding: buffer[..<max(count, 0)], as: UTF8.self)
}

/// A socket closed like this answers with a reset instead of an end.
func resetClose(_ descriptor: Int32) {
  var linger = Glibc.linger(l_onoff: 1, l_linger: 0)
  setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
  Glibc.close(descriptor)
}

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
