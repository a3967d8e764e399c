import Glibc

package func withAddress<Result>(
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

/// A connected, non-blocking client socket.
package func connectPlain(_ port: UInt16) -> Int32 {
  let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
  precondition(withAddress(port: port) { connect(descriptor, $0, $1) } == 0)
  var enabled: Int32 = 1
  _ = ioctl(descriptor, UInt(FIONBIO), &enabled)
  return descriptor
}

package func sendAll(_ descriptor: Int32, _ text: String) { _ = sendAll(descriptor, Array(text.utf8)) }

/// False where the peer takes no more.
package func sendAll(_ descriptor: Int32, _ bytes: [UInt8]) -> Bool {
  var bytes = bytes[...]
  while !bytes.isEmpty {
    let sent = bytes.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    if sent <= 0 { return false }
    bytes = bytes.dropFirst(sent)
  }
  return true
}

/// What one recv() gives, as text; "" at the end.
package func receiveSome(_ descriptor: Int32) -> String {
  var buffer = [UInt8](repeating: 0, count: 4096)
  let count = recv(descriptor, &buffer, buffer.count, 0)
  return String(decoding: buffer[..<max(count, 0)], as: UTF8.self)
}

/// A socket closed like this answers with a reset instead of an end.
package func resetClose(_ descriptor: Int32) {
  var linger = Glibc.linger(l_onoff: 1, l_linger: 0)
  setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
  Glibc.close(descriptor)
}
