import CLLMPoolSystem
import Glibc
import LLMPoolCore
import LLMPoolTestSupport
import Testing

@testable import LLMPoolEngine

/// The system's CA store is read when it is needed, and off the engine's thread.
@Suite struct AuthorityTests {
  @Test func aContextHasThemFromTheStartOnlyWhereTheOptionsSay() throws {
    #expect(try TLSContext(TLSOptions(caFile: Certificates.shared.path("ca"))).hasAuthorities)
    #expect(try TLSContext(TLSOptions(insecure: true)).hasAuthorities)
    let context = try TLSContext(TLSOptions())
    #expect(!context.hasAuthorities)
    let listener = Listener()
    defer { listener.close() }
    let stream = ByteStream(descriptor: connectPlain(listener.port))
    stream.startTLS(context, serverName: "localhost", sessionKey: 1)
    #expect(context.hasAuthorities)
    stream.close(goodbye: false)
  }

  private func count(_ context: TLSContext) -> Int32 {
    OPENSSL_sk_num(X509_STORE_get0_objects(SSL_CTX_get_cert_store(context.pointer)))
  }

  /// In pieces it is what OpenSSL reads at once.
  @Test func readsWhatOpenSSLReads() throws {
    let context = try TLSContext(TLSOptions())
    #expect(count(context) == 0)
    context.readAuthoritiesHere()
    let whole = try TLSContext(TLSOptions(insecure: true))
    SSL_CTX_set_default_verify_file(whole.pointer)
    #expect(count(context) == count(whole))
    context.readAuthoritiesHere()
    #expect(count(context) == count(whole))
  }

  @Test func readsEachCertificateOfAFile() throws {
    let context = try TLSContext(TLSOptions(insecure: true))
    for (name, expected) in [("ca", true), ("both", true), ("empty", false), ("missing", false)] {
      var authorities = SystemAuthorities(path: Certificates.shared.path(name))
      let (first, second) = (authorities.addNext(to: context.pointer), authorities.addNext(to: context.pointer))
      #expect((first, second) == (expected, false), "\(name)")
    }
    #expect(count(context) == 2)
  }

  @Test(arguments: [0, 1_000, 5_000, 200_000])
  func aReadingIsOverOrGivenUp(after microseconds: useconds_t) throws {
    let context = try TLSContext(TLSOptions())
    let reading = try #require(AuthorityReading(context) {})
    usleep(microseconds)
    reading.giveUp()
    let read = count(context)
    usleep(2_000)
    #expect(count(context) == read)
  }

  private func settings(_ change: (inout PoolSettings) -> Void = { _ in }) -> PoolSettings {
    var settings = PoolSettings()
    settings.proxy = ""
    settings.core.maxRetries = 0
    change(&settings)
    return settings
  }

  private func submit(_ url: String, to engine: Engine, _ queue: CompletionQueue) throws {
    var text = Array(url.utf8)
    try text.withUnsafeMutableBytes { bytes in
      var input = RequestInput()
      input.url = UnsafeRawBufferPointer(bytes)
      try engine.submit(input, queue: queue) { _ in }
    }
  }

  /// The statuses of so many requests.
  private func statuses(_ count: Int, of queue: CompletionQueue) -> [Int32] {
    var statuses: [Int32] = []
    while statuses.count < count, queue.wait(timeout: 20_000_000_000) == .ready {
      _ = queue.take(.max) { record in
        statuses.append(record.pointee.status)
        EventRecord.release(record)
        return true
      }
    }
    return statuses
  }

  /// Takes connections and says nothing on them, or closes them at once.
  private func accepting(_ count: Int, from listener: Listener, closing: Bool = false) -> TestThread {
    TestThread {
      let open = (0..<count).map { _ in
        let peer = listener.acceptOne()
        if closing { Glibc.close(peer) }
        return peer
      }
      guard !closing else { return }
      for peer in open {
        var bytes = [UInt8](repeating: 0, count: 4_096)
        while recv(peer, &bytes, bytes.count, 0) > 0 {}
        Glibc.close(peer)
      }
    }
  }

  @Test func aPoolWithoutHTTPSReadsNone() throws {
    let engine = try Engine(settings())
    let queue = CompletionQueue()
    try submit("http://127.0.0.1:1/", to: engine, queue)
    #expect(statuses(1, of: queue) == [Failure.connect.rawValue])
    try engine.configure(settings { $0.core.httpVersions = .http1 })
    #expect(engine.close(drain: 0))
    #expect(!engine.tls.hasAuthorities)
  }

  @Test func manyCallsAtOnceWaitForOneReading() throws {
    _ = Certificates.shared  // which takes its time to make them
    let servers = (0..<4).map { _ in TLSServer(connections: 1) { _, _ in } }
    let engine = try Engine(settings { $0.core.timeouts.connect = .seconds(60) })
    let queue = CompletionQueue()
    for index in 0..<40 { try submit("https://127.0.0.1:\(servers[index % 4].port)/", to: engine, queue) }
    let expected = [Int32](repeating: Failure.tlsVerify.rawValue, count: 4)
    #expect(statuses(4, of: queue) == expected)
    #expect(engine.close(drain: 0))
    #expect(statuses(36, of: queue).count == 36)  // what nobody takes is kept
    #expect(engine.tls.hasAuthorities)
    for server in servers { server.join() }
  }

  /// The server hangs up, or the pool is closed or configured anew, at any moment of the reading.
  @Test func whatEndsMeanwhileLeavesNothingBehind() throws {
    for round in 0..<20 {
      let listener = Listener()
      let server = accepting(1, from: listener, closing: round % 2 == 0)
      let engine = try Engine(settings())
      let queue = CompletionQueue()
      try submit("https://127.0.0.1:\(listener.port)/", to: engine, queue)
      usleep(useconds_t(round * 1_500))
      if round % 3 == 0 {
        try engine.configure(settings { $0.core.httpVersions = .http1 })
        try engine.configure(settings { $0.caFile = Certificates.shared.path("ca") })
      }
      #expect(engine.close(drain: 0))
      #expect(statuses(1, of: queue).count == 1)
      // Where the pool was closed before it dialled, nobody else would.
      Glibc.close(connectPlain(listener.port))
      server.join()
      listener.close()
    }
  }

  @Test func theDialsClockRunsWhileTheStoreIsRead() throws {
    let listener = Listener()
    let server = accepting(1, from: listener)
    let engine = try Engine(settings { $0.core.timeouts.connect = .milliseconds(50) })
    let queue = CompletionQueue()
    // Nobody reads while this is held, as in a fork.
    AuthorityReading.lock.lock()
    try submit("https://127.0.0.1:\(listener.port)/", to: engine, queue)
    let timedOut = statuses(1, of: queue)
    AuthorityReading.lock.unlock()
    #expect(timedOut == [Failure.connectTimeout.rawValue])
    #expect(engine.close(drain: 0))
    server.join()
    listener.close()
  }
}
