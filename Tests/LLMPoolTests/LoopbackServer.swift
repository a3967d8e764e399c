import Glibc

/// An HTTP/1.1 server on loopback for the tests: answers each request with what `answer` gives for its path and
/// body, one connection after the other in threads of their own.
final class LoopbackServer: @unchecked Sendable {
  private let descriptor: Int32
  let port: UInt16
  private let answer: @Sendable (_ path: String, _ body: [UInt8]) -> String
  private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private var open: [Int32] = []
  private var accepted = 0
  private var sent = 0

  var connections: Int {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    return accepted
  }
  var openConnections: Int {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    return open.count
  }

  /// Answers that the kernel has taken to their last byte.
  var answersSent: Int {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    return sent
  }

  /// When its last thread has ended: each keeps the server.
  deinit {
    pthread_mutex_destroy(lock)
    lock.deallocate()
  }

  init(_ answer: @escaping @Sendable (_ path: String, _ body: [UInt8]) -> String) {
    self.answer = answer
    pthread_mutex_init(lock, nil)
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let descriptor = descriptor
    port = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { raw in
        precondition(bind(descriptor, raw, size) == 0 && listen(descriptor, 64) == 0)
        getsockname(descriptor, raw, &size)
      }
      return UInt16(bigEndian: pointer.pointee.sin_port)
    }
    thread { $0.acceptLoop() }
  }

  func url(_ path: String) -> String { "http://127.0.0.1:\(port)\(path)" }

  func stop() { shutdown(descriptor, Int32(SHUT_RDWR)) }

  private func thread(_ body: @escaping (LoopbackServer) -> Void) {
    final class Box {
      let server: LoopbackServer
      let body: (LoopbackServer) -> Void
      init(_ server: LoopbackServer, _ body: @escaping (LoopbackServer) -> Void) {
        self.server = server
        self.body = body
      }
    }
    var id = pthread_t()
    pthread_create(
      &id, nil,
      { argument in
        let box = Unmanaged<Box>.fromOpaque(argument!).takeRetainedValue()
        box.body(box.server)
        return nil
      }, Unmanaged.passRetained(Box(self, body)).toOpaque())
    pthread_detach(id)
  }

  private func acceptLoop() {
    while true {
      let connection = accept(descriptor, nil, nil)
      guard connection >= 0 else {
        close(descriptor)
        return
      }
      pthread_mutex_lock(lock)
      accepted += 1
      open.append(connection)
      pthread_mutex_unlock(lock)
      thread { $0.serve(connection) }
    }
  }

  private func serve(_ connection: Int32) {
    var input: [UInt8] = []
    while let (path, body) = readRequest(connection, &input) {
      var text = answer(path, body)
      let sent = text.withUTF8 { send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      guard sent >= 0 else { break }
      pthread_mutex_lock(lock)
      self.sent += 1
      pthread_mutex_unlock(lock)
    }
    pthread_mutex_lock(lock)
    open.removeAll { $0 == connection }
    pthread_mutex_unlock(lock)
    close(connection)
  }

  private func readRequest(_ connection: Int32, _ input: inout [UInt8]) -> (String, [UInt8])? {
    while true {
      if let head = LoopbackServer.head(input) {
        let text = String(decoding: input[..<head], as: UTF8.self)
        let length =
          text.lowercased().split(separator: "\r\n").first { $0.hasPrefix("content-length:") }
          .flatMap { Int($0.dropFirst("content-length:".count).filter(\.isNumber)) } ?? 0
        if input.count >= head + length {
          let path = text.split(separator: " ").dropFirst().first.map(String.init) ?? ""
          let body = Array(input[head..<head + length])
          input.removeFirst(head + length)
          return (path, body)
        }
      }
      var buffer = [UInt8](repeating: 0, count: 65_536)
      let count = recv(connection, &buffer, buffer.count, 0)
      guard count > 0 else { return nil }
      input += buffer.prefix(count)
    }
  }

  /// Where the body begins.
  private static func head(_ input: [UInt8]) -> Int? {
    guard input.count >= 4 else { return nil }
    for index in 0...(input.count - 4) where Array(input[index..<index + 4]) == [13, 10, 13, 10] { return index + 4 }
    return nil
  }
}

/// A whole answer.
func answerText(_ status: String, _ body: String, headers: String = "") -> String {
  "HTTP/1.1 \(status)\r\nContent-Length: \(body.utf8.count)\r\n\(headers)\r\n\(body)"
}
