// The Swift interface at work: llmpool-example URL [API_KEY [MODEL]]
// A whole answer, the tokens of another while they arrive, and a third that is cancelled after its first tokens. Needs
// no Foundation. URL is that of chat completions; SSL_CERT_FILE may name a CA to trust.
import Glibc
import LLMPool

struct Chat: Sendable {
  let pool: Pool
  let url: String
  let key: String
  let model: String

  func request(isStreamed: Bool) -> Request {
    let json = #"{"model": "\#(model)", "stream": \#(isStreamed), "messages": [{"role": "user", "content": "Hello"}]}"#
    var request = Request(
      method: "POST", url: url,
      headers: [("content-type", "application/json"), ("authorization", "Bearer \(key)")], body: Array(json.utf8))
    request.timeouts.firstByte = .seconds(60)
    request.timeouts.read = .seconds(10)
    return request
  }

  /// Many tasks may call this at once; they share the connections of the pool.
  func whole() async throws -> Response { try await pool.send(request(isStreamed: false)) }

  /// Gives each event of the answer to `body` until "[DONE]". While `body` works, the server is held back.
  func stream(_ body: (ServerSentEvent) async -> Void) async throws {
    for try await event in pool.events(of: request(isStreamed: true)) {
      switch event {
      case .head(let head): guard head.status == 200 else { throw Refused(status: head.status) }
      case .message(let message) where message.data == "[DONE]": return
      case .message(let message): await body(message)
      case .data: break  // no event stream
      }
    }
  }
}

struct Refused: Error {
  let status: Int
}

/// Cancels a task after the first tokens of its stream, which ends the request: the server stops working on it.
func cancelAfterFirstTokens(_ chat: Chat) async -> String {
  let (tokens, arrived) = AsyncStream.makeStream(of: Void.self)
  let task = Task { try await chat.stream { _ in arrived.yield() } }
  var count = 0
  for await _ in tokens {
    count += 1
    if count == 3 { break }
  }
  task.cancel()
  switch await task.result {
  case .success: return "not cancelled: it had ended"
  case .failure(is CancellationError): return "cancelled after \(count) tokens"
  case .failure(let error): return "not cancelled: \(error)"
  }
}

func run(_ chat: Chat) async throws {
  let clock = ContinuousClock()
  let response = try await chat.whole()
  print("\(response.status) over \(response.httpVersion): \(String(decoding: response.body, as: UTF8.self))")
  let begun = clock.now
  var first: Duration?
  try await chat.stream { event in
    first = first ?? begun.duration(to: clock.now)
    print(event.data)
    fflush(nil)  // each token when it comes, also into a pipe
  }
  print("first token after \(first ?? .zero), the end after \(begun.duration(to: clock.now))")
  print(await cancelAfterFirstTokens(chat))
}

func fail(_ text: String, status: Int32) -> Never {
  let line = text + "\n"
  fflush(nil)
  _ = write(STDERR_FILENO, line, line.utf8.count)
  exit(status)
}

let arguments = CommandLine.arguments
guard arguments.count > 1 else { fail("usage: \(arguments[0]) URL [API_KEY [MODEL]]", status: 2) }
// A program that shares its connections with C and Python code in the same process takes Pool.shared.
let pool = try Pool()
do {
  try await run(
    Chat(
      pool: pool, url: arguments[1], key: arguments.count > 2 ? arguments[2] : "none",
      model: arguments.count > 3 ? arguments[3] : "gpt-4o-mini"))
} catch let refused as Refused {
  fail("HTTP \(refused.status)", status: 1)
} catch {
  fail("\(error)", status: 1)
}
try pool.close()
