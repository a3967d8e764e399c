import LLMPool
import LLMPoolTestSupport
import Testing

/// What a pool says of itself.
@Suite struct NoticeTests {
  @Test func whatHappensIsToldUntilThePoolIsClosed() async throws {
    let asked = Locked(0)
    let server = LoopbackServer { _, _ in
      let isFirst = asked.withLock { asked -> Bool in
        asked += 1
        return asked == 1
      }
      return isFirst ? answerText("503 Busy", "", headers: "Retry-After: 0\r\n") : answerText("200 OK", "ok")
    }
    defer { server.stop() }
    let pool = try Pool()
    let notices = try pool.notices()
    let retries = try pool.notices(.retry)
    let reader = Task { await notices.reduce(into: [Notice]()) { $0.append($1) } }
    let retryReader = Task { await retries.reduce(into: [Notice]()) { $0.append($1) } }
    var request = Request(url: server.url("/"))
    request.retry = .onStatus
    let id = try await pool.send(request).requestID
    try pool.close()
    let (all, ofRetries) = (await reader.value, await retryReader.value)
    #expect(all.map(\.kind).prefix(2) == [.connectionOpened, .retry])
    let opened = try #require(all.first)
    #expect(opened.fields["origin"] == server.url("") && opened.fields["version"] == "HTTP/1.1")
    #expect(opened.connectionID != nil && opened.requestID == nil && opened.message.contains("opened"))
    #expect(ofRetries.count == 1 && ofRetries[0].requestID == id && ofRetries[0].fields["reason"] == "status 503")
    #expect(throws: PoolError.self) { try pool.notices() }
  }

  @Test func whoLeavesIsToldNoMore() async throws {
    let pool = try Pool()
    let notices = try pool.notices()
    let reader = Task { for await _ in notices {} }
    reader.cancel()
    await reader.value
    try pool.close()
  }

  @Test func countsAddUp() async throws {
    let server = LoopbackServer { _, _ in answerText("200 OK", "ok") }
    defer { server.stop() }
    let pool = try Pool()
    for _ in 0..<3 { _ = try await pool.send(Request(url: server.url("/"))) }
    let statistics = try pool.statistics()
    #expect(statistics.submitted == 3 && statistics.succeeded == 3 && statistics.reused == 2)
    #expect(statistics.opened == 1 && statistics.opened == statistics.idle + statistics.closed)
    #expect(statistics.bytesReceived > 0 && statistics.tlsHandshakes == 0 && statistics.utilization == 0)
    let all = Dictionary(uniqueKeysWithValues: statistics.all.map { ($0.name, $0) })
    #expect(all["submitted"]?.value == 3 && all["submitted"]?.isCounter == true && all["idle"]?.isCounter == false)
    #expect(all["bytes_received"]?.value == statistics.bytesReceived)
    #expect(statistics.all.allSatisfy { !$0.meaning.isEmpty })
    let origin = try #require(try pool.origins().first)
    #expect(server.url("") == origin)
    #expect(try pool.statistics(ofOrigin: origin).succeeded == 3)
    #expect(throws: PoolError.self) { try pool.statistics(ofOrigin: "https://nobody:1") }
    #expect(try pool.metrics().contains("\nllmpool_requests_succeeded_total{"))
    #expect(try pool.metrics(openMetrics: true).hasSuffix("# EOF\n"))
    try pool.close()
    #expect(throws: PoolError.self) { try pool.statistics() }
  }

  @Test func connectionsAreOpenedAheadOfNeed() async throws {
    let server = LoopbackServer { _, _ in answerText("200 OK", "ok") }
    defer { server.stop() }
    let pool = try Pool()
    try pool.warm(server.url("/"), connections: 2)
    while try pool.statistics().idle < 2 { try await Task.sleep(for: .milliseconds(1)) }
    #expect(try pool.statistics().opened == 2)
    #expect(try await pool.send(Request(url: server.url("/"))).isReused)
    #expect(throws: PoolError.self) { try pool.warm("nowhere") }
    let error = #expect(throws: PoolError.self) { try pool.warm(server.url("/"), connections: 0) }
    #expect(error?.message == "connections: expected at least 1, got 0")
    try pool.close()
  }
}
