import Glibc

/// An HTTP/1.1 server on loopback for the tests: answers each request with what `answer` gives for its path and
/// body, one connection after the other in threads of their own.
package final class LoopbackServer: @unchecked Sendable {
  private let listener = Listener(backlog: 64)
  private let answer: @Sendable (_ path: String, _ body: [UInt8]) -> String
  private let counts = Locked((accepted: 0, open: 0, sent: 0))

  package var port: UInt16 { listener.port }
  package var connections: Int { counts.withLock { $0.accepted } }
  package var openConnections: Int { counts.withLock { $0.open } }
  /// Answers that the kernel has taken to their last byte.
  package var answersSent: Int { counts.withLock { $0.sent } }

  package init(_ answer: @escaping @Sendable (_ path: String, _ body: [UInt8]) -> String) {
    self.answer = answer
    TestThread.detached { self.acceptLoop() }
  }

  package func url(_ path: String) -> String { "http://127.0.0.1:\(port)\(path)" }

  package func stop() { listener.stop() }

  private func acceptLoop() {
    while true {
      let connection = accept(listener.descriptor, nil, nil)
      guard connection >= 0 else { return listener.close() }
      counts.withLock {
        $0.accepted += 1
        $0.open += 1
      }
      TestThread.detached { self.serve(connection) }
    }
  }

  private func serve(_ connection: Int32) {
    var input: [UInt8] = []
    while let (path, body) = readRequest(connection, &input) {
      guard sendAll(connection, Array(answer(path, body).utf8)) else { break }
      counts.withLock { $0.sent += 1 }
    }
    counts.withLock { $0.open -= 1 }
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
package func answerText(_ status: String, _ body: String, headers: String = "") -> String {
  "HTTP/1.1 \(status)\r\nContent-Length: \(body.utf8.count)\r\n\(headers)\r\n\(body)"
}
