import Glibc
import LLMPoolCore
import LLMPoolEngine
import LLMPoolSimulation
import LLMPoolTestSupport
import Testing

/// What the engine tells the core in a run on real sockets keeps the promises that the simulation makes for it: the
/// same checks run over the recording.
@Suite struct RecordedRunTests {
  /// Answers, closes, resets or says nothing, by turns, to whatever it is sent.
  private final class UnrulyServer: @unchecked Sendable {
    private let listener = Listener(backlog: 64)
    var port: UInt16 { listener.port }

    init() { TestThread.detached { self.serve() } }

    func stop() { listener.stop() }

    /// One loop over all connections: the order of what happens is whatever the kernel makes it.
    private func serve() {
      var open: [Int32] = []
      var turn = 0
      while true {
        var polled = ([listener.descriptor] + open).map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        guard poll(&polled, nfds_t(polled.count), 10_000) > 0 else { break }
        if polled[0].revents != 0 {
          let connection = accept(listener.descriptor, nil, nil)
          guard connection >= 0 else { break }
          open.append(connection)
        }
        for item in polled.dropFirst() where item.revents != 0 {
          var buffer = [UInt8](repeating: 0, count: 65_536)
          turn += 1
          if recv(item.fd, &buffer, buffer.count, 0) <= 0 || !answer(item.fd, turn) {
            close(item.fd)
            open.removeAll { $0 == item.fd }
          }
        }
      }
      for connection in open { close(connection) }
      listener.close()
    }

    private func answer(_ connection: Int32, _ turn: Int) -> Bool {
      let text: String
      switch turn % 9 {
      case 3: return false
      case 5: text = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"
      case 6: text = "HTTP/1.1 429 Slow\r\nRetry-After-Ms: 5\r\nContent-Length: 0\r\n\r\n"
      case 7: return true
      default: text = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
      }
      return sendAll(connection, Array(text.utf8)) && turn % 9 != 5
    }
  }

  /// With few connections requests wait for them, with many they are hedged.
  @Test(arguments: [6, 60]) func theEngineKeepsThePromisesOfTheSimulation(connections: Int) throws {
    let server = UnrulyServer()
    var settings = PoolSettings()
    settings.core.maxConnections = connections
    settings.core.maxKeepaliveConnections = 3
    settings.core.maxPendingRequests = 60
    settings.core.timeouts.read = .milliseconds(60)
    settings.core.timeouts.pool = .milliseconds(400)
    settings.core.retryBackoff = .milliseconds(5)
    settings.core.hedgePercent = 100
    let recording = EventRecording()
    let engine = try Engine(settings, recording: recording)
    let queue = CompletionQueue()
    let url = Array("http://127.0.0.1:\(server.port)/".utf8)
    let flags: [RequestFlags] = [[], .stream, .retryStatus, [.retrySent, .retryStatus], .noRetry]
    var ids: [UInt64] = []
    var done = 0
    for index in 0..<400 {
      try url.withUnsafeBytes { url in
        var input = RequestInput()
        input.url = url
        input.flags = flags[index % flags.count]
        input.options.priority = Int32(index % 3)
        if input.flags.contains(.retrySent) { input.options.hedgeAfter = .milliseconds(10) }
        try engine.submit(input, queue: queue) { ids.append($0) }
      }
      if index % 7 == 0 { _ = engine.cancel(ids[index / 2]) }
      if index % 40 == 39 { while done < index - 30 { done += drain(queue) } }
    }
    while done < 400 { done += drain(queue) }
    let hedges = engine.statistics.counters.hedges
    #expect(engine.close(drain: 0))
    server.stop()
    #expect(recording.steps.count > 1_000)
    if connections > 6 { #expect(hedges > 0) }
    var options = SimulationOptions()
    options.seed = recording.seed
    options.pool = recording.options
    let broken = replay(recording.steps.map { Step(at: $0.at, event: $0.event) }, options, exactly: false)
    #expect(broken == nil)
  }

  /// Takes what has come; returns how many requests it ended.
  private func drain(_ queue: CompletionQueue) -> Int {
    _ = queue.wait(timeout: 5_000_000_000)
    var done = 0
    _ = queue.take(1_000) { record in
      if record.pointee.kind == .done { done += 1 }
      EventRecord.release(record)
      return true
    }
    return done
  }
}
