import LLMPool
import LLMPoolTestSupport
import Testing

@Suite struct OptionsTests {
  @Test func whatIsSetIsRead() throws {
    var options = Pool.Options()
    #expect(options.maxConnections == 100 && options.maxConnectionsPerOrigin == nil)
    #expect(options.timeouts.connect == .seconds(5) && options.timeouts.total == nil)
    #expect(options.keepaliveExpiry == .seconds(30) && options.maxConnectionAge == nil)
    options.maxConnections = 7
    options.maxKeepaliveConnections = nil
    options.timeouts.total = .milliseconds(1500)
    options.timeouts.read = nil
    options.httpVersions = .http1
    options.proxy = ""
    options.dnsCacheTTL = .seconds(7)
    options.tcpKeepalive = nil
    options.pingInterval = .seconds(9)
    options.streamWindow = 70_000
    options.maxEventBytes = 2_048
    options.quietEvents = "ping"
    options.acceptsAnyCertificate = true
    options.retryBackoff = .zero
    options.retryBackoffMax = .seconds(3)
    options.retryAfterMax = nil
    options.hedgePercent = 1
    options.utilizationWarning = 0
    options.breakerStatuses = "503,529"
    let pool = try Pool(options)
    #expect(try pool.options == options)
    options.maxConnections = nil
    try pool.configure(options)
    #expect(try pool.options.maxConnections == nil && pool.options.timeouts.total == .milliseconds(1500))
    try pool.close()
    #expect(throws: PoolError.self) { try pool.options }
  }

  @Test func whatCannotBeMeantIsNamed() throws {
    func refused(_ change: (inout Pool.Options) -> Void) -> String {
      var options = Pool.Options()
      change(&options)
      do {
        try Pool(options).close()
        return ""
      } catch { return "\(error)" }
    }
    #expect(refused { $0.maxConnections = 0 }.contains("maxConnections: expected 1 to 4294967295, or nil"))
    #expect(refused { $0.maxPendingRequests = -1 }.contains("maxPendingRequests: expected 1"))
    #expect(refused { $0.hedgePercent = -1 }.contains("hedgePercent: expected 0 or more"))
    #expect(refused { $0.hedgePercent = 101 }.contains("hedge_percent: expected"))
    #expect(refused { $0.streamWindow = 1 }.contains("stream_window_bytes: expected"))
    #expect(refused { $0.maxEventBytes = -1 }.contains("max_event_bytes: expected"))
    #expect(refused { $0.breakerStatuses = "404" }.contains("breaker_statuses: expected"))
    #expect(refused { $0.maxRetries = -1 }.contains("maxRetries: expected 0 or more"))
    #expect(refused { $0.breakerFailures = 1_001 }.contains("breaker_failures"))
    #expect(refused { $0.caFile = "/no/such/file" }.contains("/no/such/file"))
    #expect(refused { _ in }.isEmpty)
  }

  @Test func aLimitHolds() async throws {
    var options = Pool.Options()
    options.maxConnections = 1
    options.timeouts.pool = .milliseconds(50)
    let pool = try Pool(options)
    let server = LoopbackServer { _, _ in "" }
    defer { server.stop() }
    let silent = Task { try await pool.send(Request(url: server.url("/"))) }
    while server.connections == 0 { try await Task.sleep(for: .milliseconds(1)) }
    let error = await #expect(throws: PoolError.self) { try await pool.send(Request(url: server.url("/"))) }
    #expect(error?.name == "E_POOL_TIMEOUT")
    silent.cancel()
    _ = await silent.result
    try pool.close()
  }
}
