import Glibc
import LLMPool
import LLMPoolTestSupport
import Testing

/// The Swift interface on real sockets.
@Suite struct PoolTests {
  private static func echo() -> LoopbackServer {
    LoopbackServer { path, body in
      switch path {
      case "/missing": answerText("404 Not Found", "no such thing")
      case "/never": ""
      case "/events":
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
          + "3c\r\nid: 7\ndata: one\n\nevent: delta\ndata: two\ndata: lines\n\n: end\n\n\r\n0\r\n\r\n"
      case "/endless":
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 1000000\r\n\r\ndata: one\n\n"
      default: answerText("200 OK", String(decoding: body, as: UTF8.self), headers: "X-Path: \(path)\r\n")
      }
    }
  }

  @Test func sendsARequestAndGetsTheAnswer() async throws {
    let server = PoolTests.echo()
    defer { server.stop() }
    let pool = try Pool()
    let begun = ContinuousClock.now
    let response = try await pool.send(
      Request(
        method: "POST", url: server.url("/v1/chat"), headers: [("content-type", "application/json")],
        body: Array("{}".utf8)))
    #expect(response.status == 200)
    #expect(String(decoding: response.body, as: UTF8.self) == "{}")
    #expect(response.header("x-path") == "/v1/chat")
    #expect(response.httpVersion == "HTTP/1.1")
    #expect(response.attempts == 1)
    #expect(!response.isReused)
    let second = try await pool.send(Request(url: server.url("/missing")))
    #expect(second.status == 404)
    // Where other tests hold every thread for longer, the idle connection has expired meanwhile.
    if ContinuousClock.now - begun < .seconds(20) {
      #expect(second.isReused)
      #expect(server.connections == 1)
    }
    try pool.close()
  }

  /// Many that come at once reach the reader one by one, each with its own id, and none is lost where he leaves.
  @Test func eventsThatComeTogetherAreToldApart() async throws {
    let body = (0..<500).map { number in
      number % 100 == 99 ? "id: \(number)\nevent: more\ndata: \(number)\n\n" : "data: \(number)\ndata: x\n\n"
    }.joined()
    let server = LoopbackServer { _, _ in
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }
    defer { server.stop() }
    let pool = try Pool()
    var seen: [ServerSentEvent] = []
    for try await case .message(let event) in pool.events(of: Request(url: server.url("/"))) { seen.append(event) }
    #expect(seen.map(\.data) == (0..<500).map { $0 % 100 == 99 ? "\($0)" : "\($0)\nx" })
    #expect(seen.map(\.event) == (0..<500).map { $0 % 100 == 99 ? "more" : "message" })
    #expect(seen[98].id == "" && seen[99].id == "99" && seen[150].id == "99" && seen[499].id == "499")
    for try await case .message(let event) in pool.events(of: Request(url: server.url("/"))) {
      if event.data == "7\nx" { break }
    }
    while try !pool.requests().isEmpty { try await Task.sleep(for: .milliseconds(1)) }
    try pool.close()
  }

  @Test func headersAreReadAsTheyCame() async throws {
    let server = LoopbackServer { _, _ in
      answerText("200 OK", "ok", headers: "X-One: a: b\r\nX-Empty:\r\nx-one: second\r\n")
    }
    defer { server.stop() }
    let pool = try Pool()
    let headers = try await pool.send(Request(url: server.url("/"))).headers
    #expect(headers["x-one"] == "a: b" && headers["X-EMPTY"] == "" && headers["x-none"] == nil)
    #expect(headers.filter { $0.name.lowercased() == "x-one" }.map(\.value) == ["a: b", "second"])
    #expect(headers.count == Array(headers).count && headers[headers.startIndex].name == headers.first?.name)
    try pool.close()
  }

  @Test func aPoolIsSeenAtAGlance() async throws {
    let server = PoolTests.echo()
    defer { server.stop() }
    let pool = try Pool()
    _ = try await pool.send(Request(url: server.url("/")))
    #expect(try pool.histograms()["total"]?.count == 1)
    #expect(try pool.histograms()["tls"]?.count == 0)
    #expect(try pool.requests().isEmpty)
    #expect(try pool.reasons().failed.isEmpty)
    #expect(throws: PoolError.self) { try pool.histograms(ofOrigin: "https://nobody:1") }
    let silent = Task { try await pool.send(Request(url: server.url("/never"))) }
    while try pool.requests().first?.phase != .waiting { try await Task.sleep(for: .milliseconds(1)) }
    let request = try #require(try pool.requests().first)
    #expect(request.attempts == 1)
    #expect(server.url("/").hasPrefix(request.origin))
    try pool.close()
    await #expect(throws: PoolError.self) { try await silent.value }
    #expect(throws: PoolError.self) { try pool.reasons() }
  }

  @Test func aRequestIsSentAgainWhereItSaysSo() async throws {
    let asked = Locked(0)
    let server = LoopbackServer { path, _ in
      let count = asked.withLock { count -> Int in
        count += 1
        return count
      }
      return count % 3 == 0 ? answerText("200 OK", "ok") : answerText("503 Busy", "", headers: "Retry-After: 0\r\n")
    }
    defer { server.stop() }
    let pool = try Pool()
    var request = Request(method: "POST", url: server.url("/"), body: [1])
    for (retry, status, attempts) in [
      (nil, 503, 1), (Retry.never, 503, 1), (.onStatus, 200, 1),
      (.onStatus, 200, 3), (Retry(onStatus: true, maxRetries: 1), 503, 2),
    ] as [(Retry?, Int, Int)] {
      request.retry = retry
      let response = try await pool.send(request)
      #expect(response.status == status)
      #expect(response.attempts == attempts)
    }
    request.retry = Retry(maxRetries: 0)
    await #expect(throws: PoolError.self) { try await pool.send(request) }
    try pool.close()
  }

  @Test func aRequestIsSentTwiceWhereItsServerIsSilent() async throws {
    let asked = Locked(0)
    let server = LoopbackServer { path, _ in
      let isFirst = asked.withLock { count -> Bool in
        count += 1
        return count == 1
      }
      return isFirst ? "" : answerText("200 OK", "second")  // "": nothing is sent, and the connection stays
    }
    defer { server.stop() }
    let pool = try Pool()
    var request = Request(method: "POST", url: server.url("/"), body: [1])
    request.retry = Retry(afterSent: true, hedgeAfter: .milliseconds(50))
    let response = try await pool.send(request)
    #expect(String(decoding: response.body, as: UTF8.self) == "second")
    #expect(response.attempts == 2)
    request.retry = Retry(onStatus: true, hedgeAfter: .milliseconds(50))
    await #expect(throws: PoolError.self) { try await pool.send(request) }
    try pool.close()
  }

  @Test func manyTasksShareThePool() async throws {
    let server = PoolTests.echo()
    defer { server.stop() }
    let pool = try Pool()
    let statuses = try await withThrowingTaskGroup(of: Int.self) { group in
      for index in 0..<200 {
        group.addTask { try await pool.send(Request(url: server.url("/\(index)"))).status }
      }
      return try await group.reduce(into: [Int]()) { $0.append($1) }
    }
    #expect(statuses == [Int](repeating: 200, count: 200))
    try pool.close()
  }

  @Test func refusesWhatCannotBeSent() async throws {
    let pool = try Pool()
    for request in [
      Request(url: "ftp://example.org/"), Request(method: "GE T", url: "http://127.0.0.1/"),
      Request(url: "http://127.0.0.1/", headers: [("a", "b\r\nc: d")]),
    ] {
      let error = await #expect(throws: PoolError.self) { try await pool.send(request) }
      #expect(error?.name == "E_INVALID_ARGUMENT")
    }
    try pool.close()
    let error = await #expect(throws: PoolError.self) { try await pool.send(Request(url: "http://127.0.0.1/")) }
    #expect(error?.name == "E_CLOSED")
  }

  @Test func theSharedPoolIsNotClosed() {
    let error = #expect(throws: PoolError.self) { try Pool.shared.close() }
    #expect(error?.name == "E_INVALID_ARGUMENT")
  }

  @Test func cancellingTheTaskCancelsTheRequest() async throws {
    let server = PoolTests.echo()
    defer { server.stop() }
    let pool = try Pool()
    let task = Task { try await pool.send(Request(url: server.url("/never"))) }
    while server.connections == 0 { try await Task.sleep(for: .milliseconds(1)) }
    task.cancel()
    let result = await task.result
    #expect(throws: CancellationError.self) { try result.get() }
    try pool.close()
  }

  @Test func eventsComeInOrder() async throws {
    let server = PoolTests.echo()
    defer { server.stop() }
    let pool = try Pool()
    var seen: [String] = []
    for try await event in pool.events(of: Request(url: server.url("/events"))) {
      switch event {
      case .head(let head): seen.append("head \(head.status)")
      case .data(let bytes): seen.append("data \(bytes.count)")
      case .message(let message): seen.append("\(message.event) \(message.id) \(message.data)")
      }
    }
    #expect(seen == ["head 200", "message 7 one", "delta 7 two\nlines"])
    try pool.close()
  }

  @Test func aBodyThatIsNoEventStreamComesAsData() async throws {
    let server = PoolTests.echo()
    defer { server.stop() }
    let pool = try Pool()
    var body: [UInt8] = []
    for try await event in pool.events(of: Request(method: "POST", url: server.url("/"), body: Array("hello".utf8))) {
      if case .data(let bytes) = event { body += bytes }
    }
    #expect(body == Array("hello".utf8))
    try pool.close()
  }

  @Test func leavingTheLoopEndsTheRequest() async throws {
    let server = PoolTests.echo()
    defer { server.stop() }
    let pool = try Pool()
    for try await event in pool.events(of: Request(url: server.url("/endless"))) {
      if case .message(let message) = event {
        #expect(message.data == "one")
        break
      }
    }
    var waited = 0
    while server.openConnections > 0, waited < 5_000 {
      try await Task.sleep(for: .milliseconds(1))
      waited += 1
    }
    #expect(server.openConnections == 0)
    try pool.close()
  }

  @Test func cancellingTheTaskEndsItsEvents() async throws {
    let server = PoolTests.echo()
    defer { server.stop() }
    let pool = try Pool()
    let (started, begun) = AsyncStream.makeStream(of: Void.self)
    let task = Task {
      for try await event in pool.events(of: Request(url: server.url("/endless"))) {
        if case .message = event { begun.yield() }
      }
    }
    for await _ in started { break }
    task.cancel()
    let result = await task.result
    #expect(throws: CancellationError.self) { try result.get() }
    try await waitUntil { server.openConnections == 0 }
    // A task that was cancelled before it asked for the first event.
    let early = Task {
      while !Task.isCancelled { await Task.yield() }
      for try await _ in pool.events(of: Request(url: server.url("/endless"))) {}
    }
    early.cancel()
    let earlyResult = await early.result
    #expect(throws: CancellationError.self) { try earlyResult.get() }
    try await waitUntil { server.answersSent == 1 }
    try pool.close()
  }

  @Test func aReaderThatWaitsHoldsTheServerBackAndLosesNothing() async throws {
    let size = 32 << 20
    let head = "HTTP/1.1 200 OK\r\nContent-Length: \(size)\r\n\r\n"
    let body = String(repeating: "0123456789abcdef", count: size / 16)
    let pattern = Array(body.utf8.prefix(65_536 + 16))
    let server = LoopbackServer { path, _ in path == "/large" ? head + body : answerText("200 OK", "small") }
    defer { server.stop() }
    let pool = try Pool()
    var iterator = pool.events(of: Request(url: server.url("/large"))).makeAsyncIterator()
    guard case .head = try await iterator.next() else { throw Unexpected() }
    try await Task.sleep(for: .milliseconds(300))
    #expect(server.answersSent == 0, "32 MiB do not fit into the window and the kernel's buffers")
    // Others do not notice.
    #expect(try await pool.send(Request(url: server.url("/small"))).status == 200)
    var sum = 0
    var isWhole = true
    while let event = try await iterator.next() {
      guard case .data(let bytes) = event else { throw Unexpected() }
      isWhole = isWhole && memcmp(bytes, Array(pattern[(sum % 16)...]), bytes.count) == 0
      sum += bytes.count
    }
    #expect(sum == size && isWhole)
    try await waitUntil { server.answersSent == 2 }
    try pool.close()
  }

  @Test func whatIsHandedAboutIsSendable() {
    func check<T: Sendable>(_: T.Type) {}
    check(Pool.self)
    check(Request.self)
    check(Response.self)
    check(Event.self)
    check(EventSequence.self)
    check(ServerSentEvent.self)
    check(PoolError.self)
  }

  private struct Unexpected: Error {}

  private func waitUntil(_ condition: () -> Bool) async throws {
    for _ in 0..<5_000 where !condition() { try await Task.sleep(for: .milliseconds(1)) }
    #expect(condition())
  }

  @Test func anAnswerCutShortIsAnError() async throws {
    let server = LoopbackServer { _, _ in "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort" }
    let pool = try Pool()
    var request = Request(url: server.url("/"))
    request.timeouts.read = .milliseconds(200)
    request.timeouts.firstByte = .seconds(60)
    var iterator = pool.events(of: request).makeAsyncIterator()
    _ = try await iterator.next()
    _ = try await iterator.next()
    let error = await #expect(throws: PoolError.self) { try await iterator.next() }
    #expect(error?.name == "E_READ_TIMEOUT")
    server.stop()
    try pool.close()
  }
}
