import CLLMPoolSystem
import Glibc
import LLMPoolCore
import LLMPoolTestSupport
import Testing

@testable import LLMPoolEngine

/// Plain streams, addresses and what the kernel knows about a connection.
@Suite struct TransportStreamTests {
  private func pair() -> (client: ByteStream, server: Int32) {
    let listener = Listener()
    let client = ByteStream(descriptor: connectPlain(listener.port))
    let server = listener.acceptOne()
    listener.close()
    return (client, server)
  }

  @Test func readsToTheEnd() {
    let (client, server) = pair()
    sendAll(server, "hello")
    Glibc.close(server)
    let (bytes, end) = client.readAll()
    #expect(String(decoding: bytes, as: UTF8.self) == "hello")
    #expect(end == .endOfFile(clean: true))
    #expect(client.bytesReceived == 5)
    client.close(goodbye: true)
    #expect(client.descriptor == -1)
  }

  @Test func writesHeadAndBody() {
    let (client, server) = pair()
    let (head, body) = (Array("head ".utf8), Array("body".utf8))
    let result = head.withUnsafeBytes { head in body.withUnsafeBytes { client.write(head, $0) } }
    #expect(result == .bytes(9))
    #expect(receiveSome(server) == "head body")
    #expect(client.bytesSent == 9)
    client.close(goodbye: false)
    #expect(receiveSome(server).isEmpty)
    Glibc.close(server)
  }

  @Test func waitsForTheNotedEdges() {
    let (client, server) = pair()
    var buffer = [UInt8](repeating: 0, count: 16)
    #expect(buffer.withUnsafeMutableBytes { client.read(into: $0) } == .wouldBlock)
    sendAll(server, "x")
    #expect(buffer.withUnsafeMutableBytes { client.read(into: $0) } == .wouldBlock)
    #expect(client.waitReady())
    #expect(buffer.withUnsafeMutableBytes { client.read(into: $0) } == .bytes(1))
    #expect(!client.hasBufferedInput)
    let block = [UInt8](repeating: 1, count: 1 << 20)
    var result = IOResult.bytes(0)
    while case .bytes = result { result = block.withUnsafeBytes { client.write($0) } }
    #expect(result == .wouldBlock)
    Glibc.close(server)
    client.close(goodbye: false)
  }

  /// The next request on a connection would take for its answer what lies there unread.
  @Test func knowsWhatLiesUnread() {
    let (client, server) = pair()
    var buffer = [UInt8](repeating: 0, count: 16)
    func read() -> IOResult { buffer.withUnsafeMutableBytes { client.read(into: $0) } }
    #expect(!client.holdsInput())
    sendAll(server, "sixteen bytes...and more")
    #expect(client.waitReady())
    #expect(client.holdsInput())
    #expect(read() == .bytes(16))
    #expect(client.holdsInput(), "it ends with the read")
    #expect(read() == .bytes(8))
    #expect(!client.holdsInput())
    sendAll(server, "sixteen bytes...")
    #expect(client.waitReady())
    #expect(read() == .bytes(16))
    #expect(!client.holdsInput(), "the kernel is asked where the read may have left something")
    sendAll(server, "x")
    #expect(client.waitReady())
    #expect(read() == .bytes(1))
    Glibc.shutdown(server, Int32(SHUT_WR))
    #expect(client.waitReady())
    #expect(client.holdsInput(), "the end")
    #expect(read() == .endOfFile(clean: true))
    #expect(client.holdsInput())
    Glibc.close(server)
    client.close(goodbye: false)
    #expect(client.holdsInput())
  }

  @Test func tellsReset() {
    let (client, server) = pair()
    resetClose(server)
    guard case .failed(let failure) = client.readAll().end else { return #expect(Bool(false)) }
    #expect(failure.failure == .read)
    #expect(failure.message.contains("Connection reset by peer"), "\(failure.message)")
    client.close(goodbye: false)
  }

  /// send() takes the reset's error with it, and the kernel then calls the cut an ordinary end. It is none.
  @Test func resetToldBySendIsNoEnd() {
    let (client, server) = pair()
    resetClose(server)
    var entry = pollfd(fd: client.descriptor, events: Int16(POLLIN), revents: 0)
    #expect(poll(&entry, 1, 20_000) == 1)
    guard case .failed(let failure) = client.writeAll([1]) else { return #expect(Bool(false)) }
    #expect(failure.failure == .write)
    guard case .failed(let other) = client.readAll().end else { return #expect(Bool(false)) }
    #expect(other.failure == .read)
    client.close(goodbye: false)
  }

  /// The server closed the idle connection; the request that came later was read by nobody.
  @Test func provesUnseen() {
    let (client, server) = pair()
    #expect(client.writeAll(Array("first".utf8)) == .bytes(5))
    #expect(receiveSome(server) == "first")
    let position = client.bytesSent
    #expect(!client.peerRefusedInput())
    Glibc.close(server)
    _ = client.writeAll(Array("second".utf8))
    var entry = pollfd(fd: client.descriptor, events: 0, revents: 0)
    #expect(poll(&entry, 1, 20_000) == 1)  // POLLERR: the reset has come.
    client.noteReadable()
    #expect(client.readAll().end == .endOfFile(clean: true))
    #expect(client.peerRefusedInput())
    #expect(client.isUnacknowledged(from: position))
    #expect(!client.isUnacknowledged(from: position - 1))
    client.close(goodbye: false)
  }

  @Test func acknowledgedIsSeen() {
    let (client, server) = pair()
    let position = client.bytesSent
    #expect(client.isUnacknowledged(from: position))
    #expect(client.writeAll(Array("request".utf8)) == .bytes(7))
    #expect(receiveSome(server) == "request")
    sendAll(server, "answer")  // Carries the acknowledgement.
    #expect(client.readAll(count: 6).bytes.count == 6)
    #expect(!client.isUnacknowledged(from: position))
    Glibc.close(server)
    client.close(goodbye: false)
  }

  @Test func setsKeepalive() {
    let (client, server) = pair()
    Socket.setKeepalive(
      client.descriptor,
      KeepaliveSettings(
        firstProbeMilliseconds: 15_000, intervalMilliseconds: 1, count: 3, userTimeoutMilliseconds: 30_000))
    func option(_ level: Int32, _ name: Int32) -> Int32 {
      var value: Int32 = 0
      var size = socklen_t(4)
      getsockopt(client.descriptor, level, name, &value, &size)
      return value
    }
    #expect(option(SOL_SOCKET, SO_KEEPALIVE) == 1)
    #expect(option(Int32(IPPROTO_TCP), TCP_KEEPIDLE) == 15)
    #expect(option(Int32(IPPROTO_TCP), TCP_KEEPINTVL) == 1)
    #expect(option(Int32(IPPROTO_TCP), TCP_KEEPCNT) == 3)
    #expect(option(Int32(IPPROTO_TCP), TCP_USER_TIMEOUT) == 30_000)
    Glibc.close(server)
    client.close(goodbye: false)
  }

  @Test func addressesHaveOneText() {
    for (literal, text) in [
      ("192.0.2.1", "192.0.2.1:443"), ("::1", "[::1]:443"), ("[::1]", "[::1]:443"),
      ("2001:DB8:0:0:0:0:0:1", "[2001:db8::1]:443"), ("fe80::1%1", "[fe80::1%1]:443"),
    ] { #expect(SocketAddress(literal: literal, port: 443)?.description == text) }
    for name in ["localhost", "", "1.2.3", "127.1", "::1%", "1.2.3.4.5", "::g", "[::1", "1.2.3.4 "] {
      #expect(SocketAddress(literal: name, port: 1) == nil, "\(name)")
    }
    #expect(SocketAddress(literal: "::1", port: 1) == SocketAddress(literal: "[0::1]", port: 1))
    #expect(SocketAddress(literal: "127.0.0.1", port: 1)?.with(port: 2).description == "127.0.0.1:2")
  }
}
