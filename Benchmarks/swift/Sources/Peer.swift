import AsyncHTTPClient
import NIOCore
import NIOSSL

/// async-http-client with one event loop: it has nothing to gain from more on the cores that it shares with the server.
struct Peer: Client {
  let client: HTTPClient

  init(_ authority: String?) throws {
    var configuration = HTTPClient.Configuration()
    configuration.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = 64
    configuration.decompression = .disabled
    if let authority {
      var tls = TLSConfiguration.makeClientConfiguration()
      tls.trustRoots = .file(authority)
      configuration.tlsConfiguration = tls
    }
    client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
  }

  private func execute(_ request: HTTPClientRequest) async throws -> HTTPClientResponse {
    let response = try await client.execute(request, timeout: .seconds(60))
    guard response.status == .ok else { throw Failed("status \(response.status)") }
    return response
  }

  private func request(_ url: String) -> HTTPClientRequest {
    var request = HTTPClientRequest(url: url)
    for (name, value) in requestHeaders { request.headers.add(name: name, value: value) }
    return request
  }

  func post(_ url: String) async throws {
    var request = request(url)
    request.method = .POST
    request.body = .bytes(ByteBuffer(bytes: requestBody))
    let body = try await execute(request).body.collect(upTo: 64 << 20)
    guard body.readableBytes > 0 else { throw Failed("no body") }
  }

  /// With the least that reads events: split at line feeds; a blank line ends an event.
  func events(_ url: String) async throws -> Int {
    var lines = LineSplitter()
    for try await piece in try await execute(request(url)).body { lines.add(piece) }
    return lines.events
  }

  func close() async throws { try await client.shutdown() }
}

private struct LineSplitter {
  private(set) var events = 0
  private var line: [UInt8] = []
  private var data: String?
  private var bytes = 0

  mutating func add(_ piece: ByteBuffer) {
    piece.withUnsafeReadableBytes { all in
      var rest = all[...]
      while let end = rest.firstIndex(of: 0x0A) {
        line += rest[..<end]
        rest = rest[(end + 1)...]
        take()
        line.removeAll(keepingCapacity: true)
      }
      line += rest
    }
  }

  private mutating func take() {
    if line.isEmpty {
      guard let data else { return }
      bytes += data.utf8.count
      events += 1
      self.data = nil
    } else if line.starts(with: "data: ".utf8) {
      data = String(decoding: line.dropFirst(6), as: UTF8.self)
    }
  }
}
