import LLMPool

struct Ours: Client {
  let pool: Pool

  init(_ authority: String?) throws {
    var options = Pool.Options()
    options.maxKeepaliveConnections = nil
    options.caFile = authority
    pool = try Pool(options)
  }

  func post(_ url: String) async throws {
    let response = try await pool.send(Request(url: url, headers: requestHeaders, body: requestBody))
    guard response.status == 200, response.body.count > 0 else { throw Failed("status \(response.status)") }
  }

  func events(_ url: String) async throws -> Int {
    var count = 0
    var bytes = 0
    for try await event in pool.events(of: Request(url: url, headers: requestHeaders)) {
      switch event {
      case .head(let head): guard head.status == 200 else { throw Failed("status \(head.status)") }
      case .message(let message):
        bytes += message.data.utf8.count
        count += 1
      case .data: throw Failed("no event stream")
      }
    }
    return count
  }

  func close() async throws { try pool.close() }
}
