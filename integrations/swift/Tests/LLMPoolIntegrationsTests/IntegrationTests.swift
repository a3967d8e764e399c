import Configuration
import HTTPTypes
import InMemoryLogging
import InMemoryTracing
import LLMPool
import LLMPoolIntegrations
import Logging
import MetricsTestKit
import ServiceLifecycle
import ServiceLifecycleTestKit
import Testing
import Tracing

@Suite struct IntegrationTests {
  private func retried(_ url: String) -> Request {
    var request = Request(url: url + "/path?key=secret")
    request.retry = .onStatus
    return request
  }

  @Test func whatThePoolTellsIsLogged() async throws {
    let server = Server(answer("200 OK"))
    defer { server.stop() }
    let pool = try Pool()
    var handler = InMemoryLogHandler()
    handler.logLevel = .debug
    let logger = Logger(label: "pool") { [handler] _ in handler }
    let logging = Task { try await pool.log(to: logger) }
    // Until the pool knows of who listens; each is a connection.
    while handler.entries.isEmpty {
      _ = try await pool.send(Request(url: server.url, headers: ["connection": "close"]))
      try await Task.sleep(for: .milliseconds(1))
    }
    #expect(handler.entries.contains { $0.level == .debug || $0.metadata["reason"] == "not-reusable" })
    _ = try await pool.send(Request(url: server.url))
    try pool.close()
    try await logging.value
    let closed = try #require(handler.entries.last)
    #expect(closed.level == .info && closed.metadata["reason"] == "pool-closed" && closed.metadata["origin"] != nil)
    #expect(closed.metadata["connection"] != nil && "\(closed.message)".hasPrefix("connection to http://127.0.0.1:"))
  }

  @Test func countsAreRecorded() async throws {
    let server = Server(answer("200 OK"))
    defer { server.stop() }
    let pool = try Pool()
    let metrics = TestMetrics()
    for _ in 0..<3 { _ = try await pool.send(Request(url: server.url)) }
    let recording = Task {
      await pool.record(every: .milliseconds(1), dimensions: [("pool", "one")], to: metrics)
    }
    let name = "llmpool_requests_succeeded_total"
    while metrics.counterTotal(label: name) < 3 { try await Task.sleep(for: .milliseconds(1)) }
    _ = try await pool.send(Request(url: server.url))
    let idle = try metrics.expectMeter("llmpool_connections_idle", [("pool", "one")])
    while metrics.counterTotal(label: name) < 4 || idle.lastValue != 1 { try await Task.sleep(for: .milliseconds(1)) }
    try pool.close()
    await recording.value
    #expect(metrics.counterTotal(label: name, dimensions: [("pool", "one")]) == 4)
    #expect(metrics.counterTotal(label: "llmpool_connections_opened_total") == 1)
    #expect(try metrics.expectMeter("llmpool_utilization_ratio", [("pool", "one")]).lastValue == 0)
  }

  @Test func eachAttemptIsASpan() async throws {
    let server = Server(answer("503 Busy", "retry-after: 0\r\nx-request-id: one\r\n"), answer("200 OK"), "")
    defer { server.stop() }
    let pool = try Pool()
    let tracer = InMemoryTracer()
    pool.trace(with: SpanTracer(tracer))
    try await tracer.withSpan("above") { _ in _ = try await pool.send(retried(server.url)) }
    let spans = tracer.finishedSpans.filter { $0.operationName == "GET" }
    #expect(spans.count == 2 && spans.allSatisfy { $0.kind == .client })
    #expect(Set(spans.map(\.traceID)).count == 1 && Set(spans.map(\.spanID)).count == 2)
    let above = try #require(tracer.finishedSpans.first { $0.operationName == "above" })
    #expect(spans.allSatisfy { $0.parentSpanID == above.spanID })
    #expect(spans[0].attributes.get("http.response.status_code") == .int64(503))
    #expect(spans[0].attributes.get("llmpool.request_id") == .string("one") && spans[0].status?.code == .error)
    #expect(spans[1].attributes.get("http.response.status_code") == .int64(200) && spans[1].status == nil)
    #expect(spans[1].attributes.get("http.request.resend_count") == .int64(1))
    #expect(spans[0].attributes.get("error.type") == .string("503"))
    #expect(spans[0].attributes.get("server.address") == .string("127.0.0.1"))
    #expect(spans[1].attributes.get("network.peer.address") == .string("127.0.0.1"))
    #expect(spans[1].attributes.get("network.peer.port") == spans[0].attributes.get("server.port"))
    #expect(spans[0].attributes.get("url.scheme") == .string("http"))
    #expect(spans[0].attributes.get("http.request.method") == .string("GET"))
    #expect(server.requests[0].contains("in-memory-span-id: \(spans[0].spanID)\r\n"))
    let shown = "\(spans.map(\.attributes))"
    #expect(shown.contains("127.0.0.1") && !shown.contains("secret"))
    // A request without an answer.
    let silent = Task { try await pool.send(Request(url: server.url)) }
    while server.requests.count < 3 { try await Task.sleep(for: .milliseconds(1)) }
    silent.cancel()
    await #expect(throws: CancellationError.self) { try await silent.value }
    let last = try #require(tracer.finishedSpans.last)
    #expect(last.errors.first?.error is CancellationError && last.status?.code == .error)
    #expect(last.attributes.get("error.type") == .string("CancellationError"))
    #expect(tracer.activeSpans.isEmpty)
    try pool.close()
  }

  @Test func aServiceClosesItsPool() async throws {
    let server = Server("")
    defer { server.stop() }
    let pool = try Pool()
    try await testGracefulShutdown { trigger in
      let service = PoolService(
        pool, drain: .milliseconds(50), logger: Logger(label: "pool"), recordingMetricsEvery: .seconds(60))
      let running = Task { try await service.run() }
      let silent = Task { try await pool.send(Request(url: server.url)) }
      while server.requests.isEmpty { try await Task.sleep(for: .milliseconds(1)) }
      let begun = ContinuousClock.now
      trigger.triggerGracefulShutdown()
      try await running.value
      #expect(ContinuousClock.now - begun >= .milliseconds(50))
      let error = await #expect(throws: PoolError.self) { try await silent.value }
      #expect(error?.name == "E_CLOSED")
    }
    #expect(throws: PoolError.self) { try pool.statistics() }
    try await testGracefulShutdown { trigger in
      trigger.triggerGracefulShutdown()
      try await PoolService(.shared).run()
    }
    _ = try Pool.shared.statistics()
    // Without grace it does not wait.
    let other = try Pool()
    let running = Task { try await PoolService(other, drain: .seconds(600)).run() }
    running.cancel()
    try await running.value
    #expect(throws: PoolError.self) { try other.statistics() }
  }

  @Test func typesOfHTTPAreTaken() async throws {
    let server = Server(answer("299 Fine", "x-one: 1\r\nx-one: 2\r\n", body: "ok"))
    defer { server.stop() }
    let pool = try Pool()
    let authority = String(server.url.dropFirst("http://".count))
    var request = HTTPRequest(method: .query, scheme: "http", authority: authority, path: "/a?b")
    request.headerFields[.accept] = "text/plain"
    let (response, body) = try await pool.send(request)
    #expect(response.status.code == 299 && response.headerFields[values: .init("x-one")!] == ["1", "2"])
    #expect(String(decoding: body, as: UTF8.self) == "ok")
    #expect(server.requests[0].hasPrefix("QUERY /a?b HTTP/1.1\r\n"))
    #expect(server.requests[0].lowercased().contains("accept: text/plain\r\n"))
    for try await case .head(let head) in pool.events(of: try Request(request)) {
      #expect(HTTPResponse(head).status.code == 299)
    }
    for part in ["scheme", "authority", "path"] {
      var incomplete = request
      if part == "scheme" { incomplete.scheme = nil }
      if part == "authority" { incomplete.authority = nil }
      if part == "path" { incomplete.path = nil }
      let error = #expect(throws: IncompleteRequest.self) { try Request(incomplete) }
      #expect(error?.part == part)
    }
    try pool.close()
  }

  @Test func optionsAreConfigured() throws {
    let provider = EnvironmentVariablesProvider(environmentVariables: [
      "LLMPOOL_MAX_CONNECTIONS": "7", "LLMPOOL_MAX_PENDING_REQUESTS": "0", "LLMPOOL_CONNECT_TIMEOUT": "1.5",
      "LLMPOOL_READ_TIMEOUT": "0", "LLMPOOL_MAX_RETRIES": "4", "LLMPOOL_PROXY": "socks5h://127.0.0.1:1",
    ])
    let options = Pool.Options(ConfigReader(provider: provider).scoped(to: "llmpool"))
    #expect(options.maxConnections == 7 && options.maxPendingRequests == nil && options.maxRetries == 4)
    #expect(options.timeouts.connect == .milliseconds(1_500) && options.timeouts.read == nil)
    #expect(options.proxy == "socks5h://127.0.0.1:1")
    let untouched = Pool.Options()
    #expect(options.maxKeepaliveConnections == untouched.maxKeepaliveConnections)
    #expect(options.timeouts.write == untouched.timeouts.write && options.caFile == nil)
    #expect(Pool.Options(ConfigReader(provider: InMemoryProvider(values: [:]))) == untouched)
  }
}
