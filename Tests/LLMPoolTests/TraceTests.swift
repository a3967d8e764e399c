import LLMPool
import LLMPoolTestSupport
import Testing

/// What a tracer hears of each request, in its order.
@Suite struct TraceTests {
  /// Adds a header to each request, and keeps what is told.
  final class Recorder: RequestTracer {
    private let told = Locked<[(what: String, report: AttemptReport)]>([])
    var reports: [(what: String, report: AttemptReport)] { told.withLock { $0 } }

    struct Trace: RequestTrace {
      let recorder: Recorder
      func retried(_ attempt: AttemptReport) { recorder.keep("retried", attempt) }
      func opened(_ attempt: AttemptReport) { recorder.keep("opened", attempt) }
      func ended(_ attempt: AttemptReport) { recorder.keep("ended", attempt) }
    }

    func begin(_ request: inout Request) -> (any RequestTrace)? {
      guard !request.url.hasSuffix("/private") else { return nil }
      request.headers["traceparent"] = "00-1-2-01"
      return Trace(recorder: self)
    }

    private func keep(_ what: String, _ report: AttemptReport) { told.withLock { $0.append((what, report)) } }
  }

  private func traced() throws -> (pool: Pool, recorder: Recorder) {
    let (pool, recorder) = (try Pool(), Recorder())
    pool.trace(with: recorder)
    return (pool, recorder)
  }

  @Test func eachAttemptIsTold() async throws {
    let asked = Locked(0)
    let server = LoopbackServer { _, _ in
      let isFirst = asked.withLock { asked -> Bool in
        asked += 1
        return asked == 1
      }
      return isFirst
        ? answerText("503 Busy", "", headers: "Retry-After: 0\r\nX-Request-Id: one\r\n")
        : answerText("200 OK", "ok", headers: "Request-Id: two\r\n")
    }
    defer { server.stop() }
    let (pool, recorder) = try traced()
    var request = Request(url: server.url("/"))
    request.retry = Retry(onStatus: true)
    let response = try await pool.send(request)
    let reports = recorder.reports
    #expect(reports.map(\.what) == ["retried", "ended"])
    let (first, last) = (reports[0].report, reports[1].report)
    #expect(first.status == 503 && first.reason == "status 503" && first.providerRequestID == "one")
    #expect(last.status == 200 && last.reason == nil && last.error == nil && last.providerRequestID == "two")
    #expect((first.number, last.number) == (1, 2))
    #expect(first.requestID == response.requestID && last.requestID == response.requestID)
    #expect(!first.isReused && last.isReused && first.connectionID == last.connectionID)
    #expect(last.timings == response.timings && last.peer == response.peer)
    let failedAt = try #require(first.timings.done)
    #expect(try #require(first.timings.firstByte) <= failedAt)
    #expect(failedAt <= (try #require(last.timings.firstByte)))
    // Whom the tracer leaves alone, and once there is none.
    _ = try await pool.send(Request(url: server.url("/private")))
    pool.trace(with: nil)
    _ = try await pool.send(Request(url: server.url("/")))
    #expect(recorder.reports.count == 2)
    try pool.close()
  }

  /// It is not told as the failure of the attempt before it.
  @Test func aDialThatFailsIsNoAttempt() async throws {
    let running = Locked<LoopbackServer?>(nil)
    let server = LoopbackServer { _, _ in
      running.withLock { server in
        server?.stop()
        server = nil
      }
      return answerText("503 Busy", "", headers: "Retry-After: 0\r\nConnection: close\r\nX-Request-Id: one\r\n")
    }
    running.withLock { $0 = server }
    let (pool, recorder) = try traced()
    var request = Request(url: server.url("/"))
    request.retry = Retry(onStatus: true)
    await #expect(throws: PoolError.self) { try await pool.send(request) }
    let reports = recorder.reports.map(\.report)
    #expect(reports.count >= 3 && reports[0].number == 1 && reports[0].providerRequestID == "one")
    for dial in reports.dropFirst().dropLast() {
      #expect(dial.number == 0 && dial.reason == "connect" && dial.connectionID == 0 && dial.status == nil)
      #expect(dial.timings.firstByte == nil && dial.timings.done != nil)
      #expect(dial.requestID == reports[0].requestID)
    }
    try pool.close()
  }

  @Test func aStreamIsToldWithItsHead() async throws {
    let server = LoopbackServer { _, _ in
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Request-Id: s\r\nContent-Length: 11\r\n\r\ndata: one\n\n"
    }
    defer { server.stop() }
    let (pool, recorder) = try traced()
    for try await _ in pool.events(of: Request(url: server.url("/"))) {}
    let reports = recorder.reports
    #expect(reports.map(\.what) == ["opened", "ended"])
    for (_, report) in reports {
      #expect(report.status == 200 && report.providerRequestID == "s" && report.number == 1)
    }
    #expect(reports[0].report.timings.firstByte != nil && reports[0].report.timings.done == nil)
    #expect(reports[1].report.timings.firstData != nil && reports[1].report.peer == reports[0].report.peer)
    try pool.close()
  }

  @Test func whatGoesWrongIsToldOnce() async throws {
    let (pool, recorder) = try traced()
    let server = LoopbackServer { _, _ in "" }
    await #expect(throws: PoolError.self) { try await pool.send(Request(url: "nowhere")) }
    let silent = Task { try await pool.send(Request(url: server.url("/"))) }
    while server.connections == 0 { try await Task.sleep(for: .milliseconds(1)) }
    silent.cancel()
    await #expect(throws: CancellationError.self) { try await silent.value }
    server.stop()
    try pool.close()
    await #expect(throws: PoolError.self) { try await pool.send(Request(url: "http://127.0.0.1/")) }
    let reports = recorder.reports
    #expect(reports.map(\.what) == ["ended", "ended", "ended"])
    #expect((reports[0].report.error as? PoolError)?.name == "E_INVALID_ARGUMENT")
    #expect(reports[1].report.error is CancellationError && reports[1].report.requestID != 0)
    #expect((reports[2].report.error as? PoolError)?.name == "E_CLOSED" && reports[2].report.requestID == 0)
  }

  /// The header that a tracer adds goes out, and the caller's own request is as it was.
  @Test func theTracerChangesTheRequest() async throws {
    let server = LoopbackServer { _, _ in answerText("200 OK", "ok") }
    defer { server.stop() }
    let (pool, recorder) = try traced()
    let request = Request(url: server.url("/"))
    _ = try await pool.send(request)
    #expect(request.headers.isEmpty && recorder.reports.count == 1)
    try pool.close()
  }
}
