import Glibc
import LLMPoolEngine

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
  private let listener: Int32
  let port: UInt16
  private let lock = Lock()
  private var answer: [UInt8] = []

  init() {
    listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let listener = listener
    port = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { raw in
        precondition(bind(listener, raw, size) == 0 && listen(listener, 16) == 0)
        getsockname(listener, raw, &size)
      }
      return UInt16(bigEndian: pointer.pointee.sin_port)
    }
    var thread = pthread_t()
    pthread_create(
      &thread, nil,
      { context in
        Unmanaged<FuzzServer>.fromOpaque(context!).takeUnretainedValue().serve()
        return nil
      }, Unmanaged.passRetained(self).toOpaque())
  }

  func setAnswer(_ bytes: [UInt8]) {
    lock.lock()
    answer = bytes
    lock.unlock()
  }

  private func serve() {
    while true {
      let connection = accept(listener, nil, nil)
      guard connection >= 0 else { continue }
      lock.lock()
      let bytes = answer
      lock.unlock()
      _ = bytes.withUnsafeBytes { send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      shutdown(connection, Int32(SHUT_WR))
      var rest = [UInt8](repeating: 0, count: 65_536)
      while recv(connection, &rest, rest.count, 0) > 0 {}
      close(connection)
    }
  }
}
