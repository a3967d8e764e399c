import CLLMPoolSystem
import Glibc
import LLMPoolCore
import LLMPoolTestSupport
import Testing

@testable import LLMPoolEngine

/// TLS against a server made of OpenSSL's own blocking calls, one thread per server.
@Suite struct TransportTLSTests {
  let files = Certificates.shared

  private func trusting(
    _ authority: String = "ca", versions: HTTPVersions = .automatic, insecure: Bool = false
  ) throws -> TLSContext {
    try TLSContext(TLSOptions(caFile: files.path(authority), insecure: insecure, versions: versions))
  }

  private func connect(
    _ port: UInt16, _ context: TLSContext, name: String = "localhost", key: UInt64 = 1
  ) -> (ByteStream, HandshakeStep) {
    let stream = ByteStream(descriptor: connectPlain(port))
    stream.startTLS(context, serverName: name, sessionKey: key)
    return (stream, stream.completeHandshake())
  }

  private func refusal(
    _ options: ServerOptions, _ context: TLSContext, name: String = "localhost"
  ) -> Fault? {
    let server = TLSServer(options) { _, _ in }
    let (stream, step) = connect(server.port, context, name: name)
    stream.close(goodbye: false)
    server.join()
    guard case .failed(let failure) = step else { return nil }
    return failure
  }

  @Test(arguments: ["localhost", "localhost.", "127.0.0.1", "a.wild.test"])
  func acceptsCertificate(name: String) throws {
    let server = TLSServer { connection, _ in
      connection.write(String(decoding: connection.read().reversed(), as: UTF8.self))
      SSL_shutdown(connection.ssl)
    }
    let (stream, step) = connect(server.port, try trusting(), name: name)
    #expect(step == .done(.http1, resumed: false))
    #expect(stream.writeAll(Array("hello".utf8)) == .bytes(5))
    let (bytes, end) = stream.readAll()
    #expect(String(decoding: bytes, as: UTF8.self) == "olleh")
    #expect(end == .endOfFile(clean: true))
    #expect(stream.peer == "127.0.0.1:\(server.port)")
    stream.close(goodbye: true)
    server.join()
  }

  /// In OpenSSL's buffers, or in the socket.
  @Test func knowsWhatLiesUnread() throws {
    let size = 2 * 16_384
    let server = TLSServer { connection, _ in
      connection.write("tickets come before this")
      _ = connection.read()
      connection.write(String(repeating: "x", count: size))
      connection.write("poison")
      _ = connection.read()
      connection.write("y")
      _ = connection.read()
    }
    let (stream, _) = connect(server.port, try trusting())
    var buffer = [UInt8](repeating: 0, count: size)
    #expect(stream.readAll(count: 24).bytes.count == 24)
    #expect(stream.writeAll(Array("go".utf8)) == .bytes(2))
    // All of it has come before the first byte is read; a record of TLS 1.3 has 22 bytes around its text.
    while lp_unread_bytes(stream.descriptor) < Int32(size + 6 + 3 * 22) { usleep(1_000) }
    #expect(stream.waitReady())
    #expect(buffer.withUnsafeMutableBytes { stream.read(into: $0) } == .bytes(size))
    #expect(stream.holdsInput())
    #expect(stream.readAll(count: 6).bytes == Array("poison".utf8))
    #expect(stream.writeAll(Array("go".utf8)) == .bytes(2))
    #expect(stream.waitReady())
    #expect(stream.holdsInput())
    #expect(stream.readAll(count: 1).bytes == Array("y".utf8))
    #expect(!stream.holdsInput())
    stream.close(goodbye: true)
    server.join()
  }

  /// RFC 9525: the subject's CN names no host.
  @Test func refusesASubjectThatIsTheOnlyName() throws {
    let failure = try #require(try refusal(ServerOptions(certificate: "subject"), trusting()))
    #expect(failure.failure == .tlsVerify)
    #expect(failure.message.contains("it has no subjectAltName"), "\(failure.message)")
  }

  /// A name that begins with a dot would be any name below it.
  @Test(arguments: [".wild.test", ".test", "", "."])
  func refusesWhatIsNoHostName(name: String) throws {
    let failure = try #require(try refusal(ServerOptions(), trusting(), name: name))
    #expect(failure.failure == .invalidArgument, "\(failure.message)")
  }

  /// Certificates are renewed under the same name.
  @Test func isTheSameByWhatIsInTheFiles() throws {
    let (authority, pair) = (files.path("renewed"), files.path("renewed-pair"))
    func copy(_ name: String, to path: String) { #expect(run("/bin/cp", [files.path(name), path]) == 0) }
    func context() throws -> TLSContext {
      try TLSContext(TLSOptions(caFile: authority, clientCertFile: pair))
    }
    copy("ca", to: authority)
    copy("both", to: pair)
    let first = try context()
    copy("ca", to: authority)
    #expect(try context().isSame(as: first))
    copy("other", to: authority)
    let second = try context()
    #expect(!second.isSame(as: first))
    #expect(run("/bin/sh", ["-c", "echo >>\(pair)"]) == 0)
    #expect(try !context().isSame(as: second))
    let system = try TLSContext(TLSOptions())
    #expect(try TLSContext(TLSOptions()).isSame(as: system))
    #expect(try !TLSContext(TLSOptions(insecure: true)).isSame(as: system))
  }

  @Test func refusesExpired() throws {
    let failure = try #require(try refusal(ServerOptions(certificate: "expired"), trusting()))
    #expect(failure.failure == .tlsVerify)
    #expect(failure.message.contains("certificate has expired on"), "\(failure.message)")
    #expect(failure.message.contains("issuer CN=Test Authority"), "\(failure.message)")
  }

  @Test(arguments: ["localhost", "127.0.0.1", "x.elsewhere.test"])
  func refusesOtherName(name: String) throws {
    let failure = try #require(try refusal(ServerOptions(certificate: "elsewhere"), trusting(), name: name))
    #expect(failure.failure == .tlsVerify)
    #expect(failure.message.contains("DNS:elsewhere.test, DNS:b.elsewhere.test"), "\(failure.message)")
  }

  @Test func refusesSelfSigned() throws {
    let failure = try #require(try refusal(ServerOptions(certificate: "selfsigned"), trusting()))
    #expect(failure.failure == .tlsVerify)
    #expect(failure.message.contains("self-signed certificate"), "\(failure.message)")
  }

  @Test func refusesUnknownAuthority() throws {
    let failure = try #require(try refusal(ServerOptions(), trusting("other")))
    #expect(failure.failure == .tlsVerify)
    #expect(failure.message.contains("unable to get local issuer certificate"), "\(failure.message)")
  }

  @Test func insecureAcceptsAnything() throws {
    let server = TLSServer(ServerOptions(certificate: "expired")) { _, _ in }
    let (stream, step) = connect(server.port, try trusting("other", insecure: true), name: "whatever.test")
    #expect(step == .done(.http1, resumed: false))
    stream.close(goodbye: true)
    server.join()
  }

  @Test func refusesOldProtocol() throws {
    let failure = try #require(try refusal(ServerOptions(maxVersion: TLS1_1_VERSION), trusting()))
    #expect(failure.failure == .tls)
    #expect(failure.message.contains("does not speak TLS 1.2 or newer"), "\(failure.message)")
  }

  @Test func picksProtocol() throws {
    let cases: [([String], HTTPVersions, WireVersion)] = [
      (["h2", "http/1.1"], .automatic, .http2), (["http/1.1"], .automatic, .http1),
      (["h2", "http/1.1"], .http1, .http1), (["h2"], .http2, .http2), ([], .automatic, .http1),
    ]
    for (protocols, versions, expected) in cases {
      let server = TLSServer(ServerOptions(protocols: protocols)) { _, _ in }
      let (stream, step) = connect(server.port, try trusting(versions: versions))
      #expect(step == .done(expected, resumed: false))
      stream.close(goodbye: true)
      server.join()
    }
  }

  @Test(arguments: [[], ["http/1.1"]])
  func h2OnlyFailsWithoutIt(protocols: [String]) throws {
    let failure = try #require(try refusal(ServerOptions(protocols: protocols), trusting(versions: .http2)))
    #expect(failure.failure == .tls)
    #expect(failure.message.contains("HTTP/2") || failure.message.contains("no application protocol"))
  }

  @Test(arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
  func resumesSessions(version: Int32) throws {
    let server = TLSServer(ServerOptions(maxVersion: version), connections: 5) { connection, _ in
      connection.write("x")
      _ = connection.read()
    }
    let context = try trusting()
    func once(name: String = "localhost", key: UInt64 = 1) -> HandshakeStep {
      let (stream, step) = connect(server.port, context, name: name, key: key)
      // TLS 1.3 brings the tickets after the handshake, ahead of the first byte.
      #expect(stream.readAll(count: 1).bytes.count == 1)
      stream.close(goodbye: false)
      return step
    }
    #expect(once() == .done(.http1, resumed: false))
    #expect(once() == .done(.http1, resumed: true))
    #expect(once() == .done(.http1, resumed: true))
    #expect(once(key: 2) == .done(.http1, resumed: false))
    #expect(once(name: "127.0.0.1") == .done(.http1, resumed: false))
    #expect(context.sessions.count > 0)
    server.join()
  }

  @Test(arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
  func showsClientCertificate(version: Int32) throws {
    let options = ServerOptions(maxVersion: version, requiresClientCertificate: true)
    for (certificate, key) in [("client", "client.key"), ("both", nil)] as [(String, String?)] {
      let server = TLSServer(options) { connection, _ in connection.write("welcome") }
      let context = try TLSContext(
        TLSOptions(
          caFile: files.path("ca"), clientCertFile: files.path(certificate),
          clientKeyFile: key.map { files.path($0) }))
      let (stream, _) = connect(server.port, context)
      #expect(stream.readAll(count: 7).bytes == Array("welcome".utf8))
      stream.close(goodbye: true)
      server.join()
    }
    let server = TLSServer(options) { connection, _ in connection.write("welcome") }
    let (stream, step) = connect(server.port, try trusting())
    var found: Fault?
    if case .failed(let failure) = step { found = failure }
    if found == nil, case .failed(let failure) = stream.readAll().end { found = failure }
    #expect(found?.failure == .tls)
    stream.close(goodbye: false)
    server.join()
  }

  @Test func truncationIsNoCleanEnd() throws {
    let server = TLSServer { connection, _ in connection.write("half an ans") }
    let (stream, _) = connect(server.port, try trusting())
    let (bytes, end) = stream.readAll()
    #expect(bytes.count == 11)
    #expect(end == .endOfFile(clean: false))
    stream.close(goodbye: true)
    server.join()
  }

  @Test func namesPlainHTTP() throws {
    let listener = Listener()
    let server = TestThread {
      let peer = listener.acceptOne()
      _ = receiveSome(peer)
      sendAll(peer, "HTTP/1.1 400 Bad Request\r\n\r\n")
      Glibc.close(peer)
    }
    let (stream, step) = connect(listener.port, try trusting())
    guard case .failed(let failure) = step else { return #expect(Bool(false)) }
    #expect(failure.failure == .tls)
    #expect(failure.message.contains("plain HTTP"))
    stream.close(goodbye: false)
    server.join()
    listener.close()
  }

  @Test(arguments: [true, false])
  func namesLostHandshake(reset: Bool) throws {
    let listener = Listener()
    let server = TestThread {
      let peer = listener.acceptOne()
      _ = receiveSome(peer)
      if reset { resetClose(peer) } else { Glibc.close(peer) }
    }
    let (stream, step) = connect(listener.port, try trusting())
    guard case .failed(let failure) = step else { return #expect(Bool(false)) }
    #expect(failure.failure == .tls)
    let reason = reset ? "Connection reset by peer" : "the server closed the connection in the TLS handshake"
    #expect(failure.message.contains(reason), "\(failure.message)")
    stream.close(goodbye: false)
    server.join()
    listener.close()
  }

  @Test func namesBadFiles() {
    let good = files.path("client")
    let cases: [(TLSOptions, String)] = [
      (TLSOptions(caFile: "/nowhere.pem"), "ca_file: cannot read /nowhere.pem: No such file"),
      (TLSOptions(caFile: "/tmp"), "ca_file: /tmp is a directory"),
      (TLSOptions(caFile: files.path("empty")), "no certificate in it"),
      (TLSOptions(caPath: "/nowhere"), "ca_path: cannot read /nowhere: No such file"),
      (TLSOptions(caPath: good), "ca_path: cannot read \(good): Not a directory"),
      (TLSOptions(caPEM: "no certificate"), "ca_pem: no certificate in it"),
      (TLSOptions(clientCertFile: "/nowhere.pem"), "client_cert_file: cannot read"),
      (TLSOptions(clientCertFile: good), "client_cert_file: \(good): no private key in it"),
      (TLSOptions(clientCertFile: good, clientKeyFile: files.path("good.key")), "does not match the certificate"),
      (TLSOptions(clientCertFile: good, clientKeyFile: files.path("encrypted.key")), "the key is encrypted"),
      (TLSOptions(clientCertFile: files.path("empty"), clientKeyFile: good), "client_cert_file: "),
    ]
    for (options, expected) in cases {
      do throws(Fault) {
        _ = try TLSContext(options)
        Issue.record("accepted where it should say \(expected)")
      } catch {
        #expect(error.failure == .invalidArgument)
        #expect(error.message.contains(expected), "\(error.message)")
      }
    }
  }

  @Test func usesSystemStore() throws {
    let failure = try #require(try refusal(ServerOptions(), TLSContext(TLSOptions())))
    #expect(failure.failure == .tlsVerify)
  }

  /// Many small records are there: one read gives them all, and knows that nothing is left.
  @Test func readsBurstAtOnce() throws {
    let server = TLSServer { connection, _ in
      for _ in 0..<50 { connection.write("token ") }
      _ = connection.read()
      connection.write("x")
      SSL_shutdown(connection.ssl)
    }
    let (stream, _) = connect(server.port, try trusting())
    // Wait for the burst in the kernel, so that the one read finds it whole.
    var waiting: Int32 = 0
    while waiting < 50 * 28 { _ = ioctl(stream.descriptor, UInt(FIONREAD), &waiting) }
    stream.noteReadable(hangup: false)
    var buffer = [UInt8](repeating: 0, count: 4096)
    #expect(buffer.withUnsafeMutableBytes { stream.read(into: $0) } == .bytes(300))
    #expect(!stream.hasBufferedInput)
    #expect(stream.writeAll([1]) == .bytes(1))
    // The next bytes are not seen before the edge is noted, and no call is made for them.
    waiting = 0
    while waiting == 0 { _ = ioctl(stream.descriptor, UInt(FIONREAD), &waiting) }
    #expect(buffer.withUnsafeMutableBytes { stream.read(into: $0) } == .wouldBlock)
    #expect(stream.readAll().end == .endOfFile(clean: true))
    stream.close(goodbye: true)
    server.join()
  }

  @Test func smallReadsLeaveBufferedInput() throws {
    let server = TLSServer { connection, _ in
      connection.write("0123456789")
      SSL_shutdown(connection.ssl)
    }
    let (stream, _) = connect(server.port, try trusting())
    var buffer = [UInt8](repeating: 0, count: 4)
    var text: [UInt8] = []
    while text.count < 4, stream.waitReady() {
      if case .bytes(let count) = buffer.withUnsafeMutableBytes({ stream.read(into: $0) }) { text += buffer[..<count] }
    }
    #expect(stream.hasBufferedInput)
    while stream.hasBufferedInput, case .bytes(let count) = buffer.withUnsafeMutableBytes({ stream.read(into: $0) }) {
      text += buffer[..<count]
    }
    #expect(text == Array("0123456789".utf8))
    stream.close(goodbye: true)
    server.join()
  }

  /// More than any socket buffer holds, to a server that starts reading late.
  @Test func writesLargeBody() throws {
    let size = 20_000_000
    func block(_ number: Int) -> [UInt8] { [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: 64) }
    let (head, body) = (Array("HEAD".utf8), (0..<size / 64).flatMap { block($0) })
    let expected = head + body
    let server = TLSServer { connection, _ in
      usleep(50_000)
      var received: [UInt8] = []
      while received.count < expected.count, case let bytes = connection.read(65536), !bytes.isEmpty {
        received += bytes
      }
      let same = received.count == expected.count && memcmp(received, expected, expected.count) == 0
      connection.write(same ? "same" : "different")
      SSL_shutdown(connection.ssl)
    }
    let (stream, _) = connect(server.port, try trusting())
    var sent = 0
    var sawBlock = false
    while sent < head.count + size {
      let result = head.withUnsafeBytes { head in
        body.withUnsafeBytes { body in
          stream.write(
            UnsafeRawBufferPointer(rebasing: head[min(sent, head.count)...]),
            UnsafeRawBufferPointer(rebasing: body[max(sent - head.count, 0)...]))
        }
      }
      if case .bytes(let count) = result { sent += count }
      if result == .wouldBlock { sawBlock = true }
      if case .failed(let failure) = result {
        Issue.record("\(failure.message)")
        break
      }
      if result == .wouldBlock && !stream.waitReady(write: true) { break }
    }
    #expect(sawBlock)
    #expect(stream.readAll().bytes == Array("same".utf8))
    stream.close(goodbye: true)
    server.join()
  }

  @Test func sessionCacheIsBounded() {
    var cache = TLSSessionCache()
    for number in 0..<2000 {
      let session = SSL_SESSION_new()!
      SSL_SESSION_set1_id(session, [1, 2, 3], 3)
      SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION)
      let stored = cache.store(session, for: TLSSessionKey(origin: UInt64(number / 10), serverName: "a"))
      #expect(stored)
    }
    #expect(cache.count <= TLSSessionCache.capacity)
    let newest = TLSSessionKey(origin: 199, serverName: "a")
    var taken = 0
    while let session = cache.take(for: newest) {
      SSL_SESSION_free(session)
      taken += 1
    }
    #expect(taken == TLSSessionCache.capacityPerKey)
    cache.removeAll()
  }
}
