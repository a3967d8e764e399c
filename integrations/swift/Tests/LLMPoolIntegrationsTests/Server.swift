import Dispatch
import Glibc
import Synchronization

/// A server on loopback that answers each request, which has no body, with the next of its answers, the last again and
/// again; "": it is silent.
final class Server: Sendable {
  let url: String
  private let listener: Int32
  private let seen = Mutex<[String]>([])
  private let answers: Mutex<[String]>

  /// The heads of the requests.
  var requests: [String] { seen.withLock { $0 } }

  init(_ answers: String...) {
    self.answers = Mutex(answers)
    listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let port = withUnsafeMutablePointer(to: &address) { [listener] pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        precondition(bind(listener, $0, size) == 0 && listen(listener, 16) == 0)
        getsockname(listener, $0, &size)
      }
      return UInt16(bigEndian: pointer.pointee.sin_port)
    }
    url = "http://127.0.0.1:\(port)"
    DispatchQueue(label: "server").async { [self] in
      while case let peer = accept(listener, nil, nil), peer >= 0 {
        DispatchQueue(label: "server").async { self.serve(peer) }
      }
    }
  }

  func stop() { shutdown(listener, Int32(SHUT_RDWR)) }

  private func serve(_ peer: Int32) {
    var head = ""
    var buffer = [UInt8](repeating: 0, count: 4_096)
    while case let count = recv(peer, &buffer, buffer.count, 0), count > 0 {
      head += String(decoding: buffer[..<count], as: UTF8.self)
      guard head.hasSuffix("\r\n\r\n") else { continue }
      seen.withLock { $0.append(head) }
      head = ""
      let answer = answers.withLock { $0.count > 1 ? $0.removeFirst() : $0[0] }
      _ = send(peer, answer, answer.utf8.count, Int32(MSG_NOSIGNAL))
    }
    close(peer)
  }
}

func answer(_ status: String, _ headers: String = "", body: String = "") -> String {
  "HTTP/1.1 \(status)\r\ncontent-length: \(body.utf8.count)\r\n\(headers)\r\n\(body)"
}
