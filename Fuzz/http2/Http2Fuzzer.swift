import Glibc
import LLMPoolEngine
import LLMPoolTestSupport
import Synchronization

// A server that sends whatever the fuzzer makes up to a connection that speaks HTTP/2, in plain text with prior
// knowledge. Whatever it is, each request ends, and the pool is whole afterwards.

private let server = FuzzServer()
private nonisolated(unsafe) let engine: Engine = {
  var settings = PoolSettings()
  settings.core.httpVersions = .http2
  settings.core.maxConnections = 2
  settings.core.timeouts.read = .milliseconds(200)
  settings.core.timeouts.pool = .seconds(1)
  settings.core.maxRetries = 0
  return try! Engine(settings)
}()

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
  server.setAnswer(Array(UnsafeBufferPointer(start: data, count: size)))
  let queue = CompletionQueue()
  let url = "http://127.0.0.1:\(server.port)/"
  var left = 0
  for flags: RequestFlags in [[], .stream, .sse] {
    try! Array(url.utf8).withUnsafeBytes { url in
      var input = RequestInput()
      input.url = url
      input.flags = flags.union(.noRetry)
      try engine.submit(input, queue: queue) { _ in left += 1 }
    }
  }
  while left > 0 {
    // libFuzzer's alarm interrupts the wait.
    let waited = queue.wait(timeout: 10_000_000_000)
    precondition(waited == .ready || waited == .interrupted, "a request that never ends")
    _ = queue.take(64) { record in
      if record.pointee.kind == .done { left -= 1 }
      EventRecord.release(record)
      return true
    }
  }
  _ = queue.close()
  let counters = engine.statistics.counters
  precondition(counters.requestsAddUp && counters.connectionsAddUp, "the counts do not add up")
  return 0
}

/// Sends the answer to each connection and closes it.
private final class FuzzServer: @unchecked Sendable {
  private let listener = Listener(backlog: 16)
  private let answer = Mutex<[UInt8]>([])
  var port: UInt16 { listener.port }

  init() { TestThread.detached { self.serve() } }

  func setAnswer(_ bytes: [UInt8]) { answer.withLock { $0 = bytes } }

  private func serve() {
    while true {
      let connection = accept(listener.descriptor, nil, nil)
      guard connection >= 0 else { continue }
      _ = sendAll(connection, answer.withLock { $0 })
      shutdown(connection, Int32(SHUT_WR))
      var rest = [UInt8](repeating: 0, count: 65_536)
      while recv(connection, &rest, rest.count, 0) > 0 {}
      close(connection)
    }
  }
}
