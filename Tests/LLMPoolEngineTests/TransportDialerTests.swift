import CLLMPoolSystem
import Glibc
import LLMPoolCore
import LLMPoolTestSupport
import Testing

@testable import LLMPoolEngine

/// The loop that the dialer is driven by in the tests: level-triggered epoll, as in the engine.
private final class EpollLoop: DescriptorWatcher {
  private let epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
  private var watched: Set<Int32> = []
  private(set) var turns = 0

  deinit { close(epoll) }

  var watchedCount: Int { watched.count }

  func watch(_ descriptor: Int32, read: Bool, write: Bool) {
    var event = epoll_event()
    event.events = (read ? EPOLLIN.rawValue : 0) | (write ? EPOLLOUT.rawValue : 0)
    event.data.fd = descriptor
    let operation = watched.insert(descriptor).inserted ? EPOLL_CTL_ADD : EPOLL_CTL_MOD
    #expect(epoll_ctl(epoll, operation, descriptor, &event) == 0)
  }

  func unwatch(_ descriptor: Int32) {
    #expect(watched.remove(descriptor) != nil)
    var event = epoll_event()
    _ = epoll_ctl(epoll, EPOLL_CTL_DEL, descriptor, &event)
  }

  /// Runs until that many results are there, or for 20 s.
  func run(_ dialer: Dialer, results count: Int) -> [DialResult] {
    let end = monotonicNow() + 20_000_000_000
    var results = dialer.takeResults()
    while results.count < count && monotonicNow() < end {
      turn(dialer, until: end)
      results += dialer.takeResults()
    }
    return results
  }

  func turn(_ dialer: Dialer, until end: Int64) {
    turns += 1
    let left = max(0, min(dialer.nextDeadline ?? end, end) - monotonicNow())
    var events = [epoll_event](repeating: epoll_event(), count: 64)
    let count = Int(epoll_wait(epoll, &events, 64, Int32((left + 999_999) / 1_000_000)))
    for event in events[..<max(count, 0)] {
      func told(_ bits: EPOLL_EVENTS...) -> Bool { bits.contains { event.events & $0.rawValue != 0 } }
      dialer.descriptorReady(
        event.data.fd, readable: told(EPOLLIN), writable: told(EPOLLOUT), error: told(EPOLLERR, EPOLLHUP))
    }
    dialer.advance(now: monotonicNow())
  }
}

/// A listening socket whose queue is full, so that the kernel answers no SYN.
private final class Blackhole {
  let descriptor: Int32
  let port: UInt16
  private let fillers: [Int32]

  /// From here on the kernel answers again, when it next sends the SYN.
  func drain() {
    while case let peer = accept(descriptor, nil, nil), peer >= 0 { close(peer) }
    listen(descriptor, 128)
  }

  /// nil where the family is not there.
  init?(address text: String, port: UInt16 = 0) {
    let isIPv6 = text.contains(":")
    let family = isIPv6 ? AF_INET6 : AF_INET
    let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
    let descriptor = socket(family, kind, 0)
    var fillers: [Int32] = []
    var storage = sockaddr_storage()
    var size = socklen_t(isIPv6 ? MemoryLayout<sockaddr_in6>.size : MemoryLayout<sockaddr_in>.size)
    var ok = descriptor >= 0
    var bound: UInt16 = 0
    withUnsafeMutableBytes(of: &storage) { bytes in
      if isIPv6 {
        var address = sockaddr_in6()
        (address.sin6_family, address.sin6_port) = (sa_family_t(AF_INET6), port.bigEndian)
        inet_pton(AF_INET6, text, &address.sin6_addr)
        bytes.storeBytes(of: address, as: sockaddr_in6.self)
      } else {
        var address = sockaddr_in()
        (address.sin_family, address.sin_port) = (sa_family_t(AF_INET), port.bigEndian)
        inet_pton(AF_INET, text, &address.sin_addr)
        bytes.storeBytes(of: address, as: sockaddr_in.self)
      }
      let pointer = bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self)
      ok = ok && bind(descriptor, pointer, size) == 0 && listen(descriptor, 0) == 0
      ok = ok && getsockname(descriptor, pointer, &size) == 0
      bound = SocketAddress(pointer)?.port ?? 0
      for _ in 0..<4 where ok {
        let filler = socket(family, kind, 0)
        _ = connect(filler, pointer, size)
        fillers.append(filler)
      }
    }
    (self.descriptor, self.port, self.fillers) = (descriptor, bound, fillers)
    if !ok { return nil }
  }

  deinit {
    for filler in fillers { close(filler) }
    close(descriptor)
  }
}

@Suite struct TransportDialerTests {
  private let localhost = SocketAddress(literal: "127.0.0.1", port: 0)!

  private func request(
    _ port: UInt16, token: UInt64 = 1, host: String = "origin.test", addresses: [SocketAddress]? = nil,
    proxy: String? = nil, tunnel: Bool = true, timeout: UInt32 = 5000
  ) throws -> DialRequest {
    DialRequest(
      token: token, host: host, port: port, addresses: addresses ?? [localhost],
      proxy: try proxy.map { try ProxySettings(url: $0) }, tunnel: tunnel, timeoutMilliseconds: timeout)
  }

  /// Dials once; the descriptor, if there is one, is the caller's.
  private func dial(_ request: DialRequest) throws -> DialResult.Outcome {
    let loop = EpollLoop()
    let dialer = try Dialer(watcher: loop)
    defer { dialer.shutdown() }
    dialer.dial(request)
    let results = loop.run(dialer, results: 1)
    #expect(results.count == 1)
    #expect(loop.watchedCount == 0)
    #expect(loop.turns < 200)
    return try #require(results.first).outcome
  }

  private func refusal(_ request: DialRequest) throws -> Fault {
    switch try dial(request) {
    case .connected(let descriptor, _, _):
      close(descriptor)
      return Fault(.internalError, "connected")
    case .failed(let failure):
      return failure
    }
  }

  @Test(arguments: ["origin.test", "127.0.0.1"])
  func connects(host: String) throws {
    let listener = Listener()
    let addresses = host == "127.0.0.1" ? [] : [localhost]
    guard
      case .connected(let descriptor, let peer, let address) = try dial(
        request(listener.port, host: host, addresses: addresses))
    else { return #expect(Bool(false)) }
    #expect(peer == "127.0.0.1:\(listener.port)")
    #expect(address == localhost.with(port: listener.port))
    #expect(fcntl(descriptor, F_GETFL) & Int32(O_NONBLOCK) != 0)
    #expect(fcntl(descriptor, F_GETFD) & FD_CLOEXEC != 0)
    let server = listener.acceptOne()
    sendAll(server, "hello")
    close(server)
    let stream = ByteStream(descriptor: descriptor)
    #expect(stream.readAll().bytes == Array("hello".utf8))
    stream.close(goodbye: false)
    listener.close()
  }

  @Test func namesRefusal() throws {
    let listener = Listener()
    listener.close()
    let failure = try refusal(request(listener.port))
    #expect(failure.failure == .connect)
    #expect(
      failure.message == "cannot connect to origin.test:\(listener.port): Connection refused (tried 127.0.0.1)")
  }

  @Test func timesOut() throws {
    let hole = try #require(Blackhole(address: "127.0.0.1"))
    let begin = monotonicNow()
    let failure = try refusal(request(hole.port, timeout: 300))
    #expect(failure.failure == .connectTimeout)
    #expect(failure.message.contains("no connection to origin.test:\(hole.port) within 300 ms"))
    #expect(monotonicNow() - begin < 10_000_000_000)
  }

  @Test func triesTheNextAddress() throws {
    let listener = Listener()
    let refused = (2...5).map { SocketAddress(literal: "127.0.0.\($0)", port: 0)! }
    let begin = monotonicNow()
    guard
      case .connected(let descriptor, let peer, _) = try dial(
        request(listener.port, addresses: refused + [localhost], timeout: 18_000))
    else { return #expect(Bool(false)) }
    #expect(monotonicNow() - begin < 5_000_000_000)
    #expect(peer == "127.0.0.1:\(listener.port)")
    close(descriptor)
    listener.close()
  }

  /// IPv6 does not answer; IPv4 is tried beside it.
  @Test func happyEyeballs() throws {
    let listener = Listener()
    defer { listener.close() }
    guard let hole = Blackhole(address: "::1", port: listener.port) else { return }
    let begin = monotonicNow()
    guard
      case .connected(let descriptor, let peer, _) = try dial(
        request(listener.port, addresses: [SocketAddress(literal: "::1", port: 0)!, localhost], timeout: 15_000))
    else { return #expect(Bool(false)) }
    #expect(peer == "127.0.0.1:\(hole.port)")
    #expect(monotonicNow() - begin < 5_000_000_000)
    close(descriptor)
  }

  /// libcurl closes the first address's socket without a word and goes on to the second only when it is called; the
  /// new socket has the number of the old one.
  @Test func watchesTheNextAddress() throws {
    let first = try #require(Blackhole(address: "127.0.0.2"))
    let second = try #require(Blackhole(address: "127.0.0.3", port: first.port))
    let loop = EpollLoop()
    let dialer = try Dialer(watcher: loop)
    let addresses = ["127.0.0.2", "127.0.0.3"].map { SocketAddress(literal: $0, port: 0)! }
    // libcurl gives the first address half of the time, and sends the second SYN of the other one a second later.
    dialer.dial(try request(first.port, addresses: addresses, timeout: 12_000))
    let middle = monotonicNow() + 6_300_000_000
    while monotonicNow() < middle { loop.turn(dialer, until: middle) }
    second.drain()
    guard case .connected(let descriptor, let peer, _)? = loop.run(dialer, results: 1).first?.outcome else {
      Issue.record("the second address was not noticed")
      return dialer.shutdown()
    }
    #expect(peer == "127.0.0.3:\(first.port)")
    close(descriptor)
    dialer.shutdown()
    #expect(loop.watchedCount == 0)
  }

  @Test func dialsManyAtOnce() throws {
    let listener = Listener(backlog: 256)
    let loop = EpollLoop()
    let dialer = try Dialer(watcher: loop)
    for token in 1...50 { dialer.dial(try request(listener.port, token: UInt64(token), host: "h\(token % 5).test")) }
    #expect(dialer.nextDeadline != nil)
    let results = loop.run(dialer, results: 50)
    #expect(Set(results.map(\.token)) == Set(1...50))
    var descriptors: Set<Int32> = []
    for result in results {
      guard case .connected(let descriptor, _, _) = result.outcome else {
        Issue.record("\(result)")
        continue
      }
      descriptors.insert(descriptor)
    }
    #expect(descriptors.count == 50)
    dialer.shutdown()
    // libcurl's end ended none of them.
    for descriptor in descriptors {
      #expect(SocketAddress(peerOf: descriptor)?.port == listener.port)
      close(descriptor)
    }
    listener.close()
  }

  /// libcurl prunes what it holds for an idle connection when a later dial looks for one. Ours must not be in reach.
  @Test func descriptorsOutliveTheCache() throws {
    let listener = Listener()
    let loop = EpollLoop()
    let dialer = try Dialer(watcher: loop, cacheAgeSeconds: 1)
    func dialOne(_ token: UInt64) throws -> Int32 {
      dialer.dial(try request(listener.port, token: token))
      guard case .connected(let descriptor, _, _)? = loop.run(dialer, results: 1).first?.outcome else { return -1 }
      return descriptor
    }
    let first = ByteStream(descriptor: try dialOne(1))
    let server = listener.acceptOne()
    usleep(2_200_000)
    let second = try dialOne(2)
    usleep(1_100_000)
    let third = try dialOne(3)
    #expect(Set([first.descriptor, second, third]).count == 3)
    sendAll(server, "still here")
    #expect(first.readAll(count: 10).bytes == Array("still here".utf8))
    #expect(first.writeAll(Array("yes".utf8)) == .bytes(3))
    #expect(receiveSome(server) == "yes")
    first.close(goodbye: false)
    for descriptor in [second, third, server] { close(descriptor) }
    dialer.shutdown()
    listener.close()
  }

  @Test func cancelsWithoutResult() throws {
    let hole = try #require(Blackhole(address: "127.0.0.1"))
    let listener = Listener()
    let loop = EpollLoop()
    let dialer = try Dialer(watcher: loop)
    dialer.dial(try request(hole.port, token: 1))
    dialer.dial(try request(hole.port, token: 2))
    dialer.dial(try request(listener.port, token: 3))
    for _ in 0..<5 { loop.turn(dialer, until: monotonicNow() + 10_000_000) }
    dialer.cancel(1)
    dialer.cancel(2)
    dialer.cancel(99)
    #expect(loop.run(dialer, results: 1).map(\.token) == [3])
    #expect(loop.watchedCount == 0)
    // A result that nobody took is closed with the dialer.
    dialer.dial(try request(listener.port, token: 4))
    dialer.dial(try request(hole.port, token: 5))
    for _ in 0..<5 { loop.turn(dialer, until: monotonicNow() + 10_000_000) }
    dialer.shutdown()
    dialer.shutdown()
    #expect(loop.watchedCount == 0)
    #expect(dialer.nextDeadline == nil)
    listener.close()
  }

  @Test func refusesWhatIsNoHost() throws {
    for host in ["", "a b", "user@host", "a/b", "a:b", "a\r\nb", "a,b", "ä.test"] {
      #expect(try refusal(request(80, host: host)).failure == .invalidArgument)
    }
  }

  // MARK: proxies

  /// Accepts once, hands what it read up to an empty line to `answer`, sends what that returns and then "hi".
  private func withHTTPProxy(
    _ answer: String, _ body: (UInt16) throws -> Void
  ) rethrows -> String {
    let listener = Listener()
    let seen = Locked("")
    let thread = TestThread {
      let peer = listener.acceptOne()
      var request = ""
      while !request.hasSuffix("\r\n\r\n"), case let more = receiveSome(peer), !more.isEmpty { request += more }
      seen.withLock { $0 = request }
      sendAll(peer, answer + "hi")
      close(peer)
    }
    try body(listener.port)
    thread.join()
    listener.close()
    return seen.withLock { $0 }
  }

  @Test func tunnelsThroughHTTPProxy() throws {
    let seen = try withHTTPProxy("HTTP/1.1 200 Connection established\r\n\r\n") { port in
      var dialRequest = try request(443, addresses: [], proxy: "http://us%40er:p%3Ass@proxy.test:\(port)")
      dialRequest.proxy?.addresses = [localhost]
      guard case .connected(let descriptor, let peer, _) = try dial(dialRequest) else { return #expect(Bool(false)) }
      #expect(peer == "127.0.0.1:\(port)")
      let stream = ByteStream(descriptor: descriptor)
      #expect(stream.readAll().bytes == Array("hi".utf8))
      stream.close(goodbye: false)
    }
    #expect(seen.hasPrefix("CONNECT origin.test:443 HTTP/1.1\r\n"))
    // Basic of "us@er:p:ss".
    #expect(seen.contains("Proxy-Authorization: Basic dXNAZXI6cDpzcw==\r\n"), "\(seen)")
  }

  @Test(arguments: [407, 403, 502])
  func namesProxyRefusal(status: Int) throws {
    _ = try withHTTPProxy("HTTP/1.1 \(status) No\r\nContent-Length: 2\r\n\r\n") { port in
      let failure = try refusal(
        request(443, addresses: [], proxy: "http://someone:hunter2@127.0.0.1:\(port)"))
      #expect(failure.failure == .proxy)
      #expect(failure.message.contains("status \(status)"), "\(failure.message)")
      #expect(!failure.message.contains("hunter2") && !failure.message.contains("someone"))
    }
  }

  @Test func connectsOnlyToProxyWithoutTunnel() throws {
    let listener = Listener()
    let outcome = try dial(request(80, addresses: [], proxy: "127.0.0.1:\(listener.port)", tunnel: false))
    guard case .connected(let descriptor, let peer, _) = outcome else { return #expect(Bool(false)) }
    #expect(peer == "127.0.0.1:\(listener.port)")
    let server = listener.acceptOne()
    close(descriptor)
    #expect(receiveSome(server).isEmpty)
    close(server)
    listener.close()
  }

  @Test func namesDeadProxy() throws {
    let listener = Listener()
    listener.close()
    for tunnel in [true, false] {
      let failure = try refusal(
        request(443, addresses: [], proxy: "http://u:hunter2@127.0.0.1:\(listener.port)", tunnel: tunnel))
      #expect(failure.failure == .proxy)
      #expect(failure.message.contains("Connection refused"), "\(failure.message)")
      #expect(!failure.message.contains("hunter2"))
    }
  }

  @Test func silentProxyTimesOut() throws {
    let listener = Listener()
    let failure = try refusal(
      request(443, addresses: [], proxy: "http://127.0.0.1:\(listener.port)", timeout: 300))
    #expect(failure.failure == .connectTimeout)
    listener.close()
  }

  /// `reply` is the code of RFC 1928, section 6. Returns the address part of the request that the proxy saw.
  private func withSOCKSProxy(reply: UInt8, _ body: (UInt16) throws -> Void) rethrows -> [UInt8] {
    let listener = Listener()
    let seen = Locked([UInt8]())
    let thread = TestThread {
      let peer = listener.acceptOne()
      var buffer = [UInt8](repeating: 0, count: 512)
      _ = recv(peer, &buffer, buffer.count, 0)
      _ = send(peer, [5, 0], 2, 0)
      let count = recv(peer, &buffer, buffer.count, 0)
      seen.withLock { $0 = Array(buffer[..<max(count, 0)]) }
      _ = send(peer, [5, reply, 0, 1, 0, 0, 0, 0, 0, 0], 10, 0)
      if reply == 0 { sendAll(peer, "hi") }
      close(peer)
    }
    try body(listener.port)
    thread.join()
    listener.close()
    return seen.withLock { $0 }
  }

  @Test(arguments: ["socks5", "socks5h"])
  func connectsThroughSOCKS(scheme: String) throws {
    let seen = try withSOCKSProxy(reply: 0) { port in
      let addresses = scheme == "socks5" ? [SocketAddress(literal: "192.0.2.7", port: 0)!] : []
      let outcome = try dial(request(443, addresses: addresses, proxy: "\(scheme)://127.0.0.1:\(port)"))
      guard case .connected(let descriptor, _, _) = outcome else { return #expect(Bool(false)) }
      let stream = ByteStream(descriptor: descriptor)
      #expect(stream.readAll().bytes == Array("hi".utf8))
      stream.close(goodbye: false)
    }
    let name = Array("origin.test".utf8)
    let destination: [UInt8] = scheme == "socks5" ? [1, 192, 0, 2, 7] : [3, UInt8(name.count)] + name
    #expect(seen == [5, 1, 0] + destination + [1, 187])
  }

  @Test func namesSOCKSRefusal() throws {
    _ = try withSOCKSProxy(reply: 5) { port in
      let failure = try refusal(request(443, addresses: [], proxy: "socks5h://127.0.0.1:\(port)"))
      #expect(failure.failure == .proxy)
      #expect(failure.message.contains("the host refused the SOCKS proxy's connection"), "\(failure.message)")
    }
  }

  @Test func parsesProxyURLs() throws {
    for (url, text) in [
      ("proxy.test", "http://proxy.test:80"), ("http://proxy.test:3128/", "http://proxy.test:3128"),
      ("socks5://[::1]", "socks5://[::1]:1080"), ("SOCKS5H://u:p@h:1", "socks5h://h:1"),
      ("http://u:p@ss@h:1", "http://h:1"),
    ] { #expect(try ProxySettings(url: url).description == text) }
    let settings = try ProxySettings(url: "http://u%20ser:p%40ss:word@h")
    #expect(settings.user == "u ser" && settings.password == "p@ss:word")
    for url in [
      "https://h", "ftp://h", "http://", "http://h:0", "http://h:x", "http://h:70000", "http://hunter2%@h",
      "http://hunter2%3a@h", "http://u:hunter2%0d@h", "hunter2 ://h", "http://u:hunter2@h h", "http://a,b",
    ] {
      do throws(Fault) {
        _ = try ProxySettings(url: url)
        Issue.record("accepted \(url)")
      } catch {
        #expect(error.failure == (url == "https://h" ? .unsupported : .invalidArgument))
        #expect(!error.message.contains("hunter2"))
      }
    }
  }
}
