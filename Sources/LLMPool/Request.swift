import LLMPoolCore
import LLMPoolEngine

/// An HTTP request to an LLM API, or to anything else.
public struct Request: Sendable {
  /// A token (RFC 9110, section 9.1). Default: POST with a body, else GET.
  public var method: String?
  /// An absolute http or https URL (RFC 9110, section 4.2).
  public var url: String
  /// Name and value. Content-Length, Host and Transfer-Encoding are set by the library.
  public var headers: [(name: String, value: String)]
  public var body: [UInt8]
  public var timeouts = Timeouts()
  /// Higher goes first among those that wait for a connection; 0 is normal.
  public var priority: Int32 = 0
  /// Largest body of an answer. Default: 64 MiB.
  public var maxResponseBytes = 64 << 20
  /// When it may be sent again; nil: where the server provably has not acted on it, as often as the pool allows.
  public var retry: Retry?
  /// For TLS (RFC 6066, section 3), where it is not the URL's host.
  public var serverName: String?
  /// Whose limits it shares; it waits until there is room.
  public var spending: Spending?

  /// The timeouts of one request; nil: as the pool has it; `.zero` or less: none.
  public typealias Timeouts = LLMPoolCore.Timeouts<Duration?>

  public init(
    method: String? = nil, url: String, headers: [(name: String, value: String)] = [], body: [UInt8] = []
  ) {
    self.method = method
    self.url = url
    self.headers = headers
    self.body = body
  }
}

extension Request {
  static func milliseconds(_ duration: Duration) -> UInt32 {
    let (seconds, attoseconds) = duration.components
    return UInt32(clamping: seconds * 1_000 + attoseconds / 1_000_000_000_000_000)
  }

  private static func timeout(_ duration: Duration?) -> Nanoseconds {
    guard let duration else { return RequestOptions.asPool }
    return duration <= .zero ? .max : .milliseconds(max(1, milliseconds(duration)))
  }

  /// The request in the engine's form, valid within the call.
  func withInput(_ body: (RequestInput) throws(Fault) -> Void) throws(Fault) {
    var block: [UInt8] = []
    for (name, value) in headers {
      guard !value.utf8.contains(0x0A), !value.utf8.contains(0x0D), !name.utf8.contains(0x0A) else {
        throw Fault(.invalidArgument, "headers: the value of \(name) holds a line break")
      }
      block += Array(name.utf8) + [0x3A, 0x20] + Array(value.utf8) + [0x0D, 0x0A]
    }
    var input = RequestInput()
    input.options.priority = priority
    input.maxResponseBytes = maxResponseBytes
    input.options.timeouts = timeouts.map(Request.timeout)
    try retry?.set(&input)
    if let spending {
      input.options.inputCost = spending.inputTokens
      input.options.outputCost = spending.outputTokens
      if spending.isEstimated { input.flags.insert(.estimatedCost) }
    }
    let parts = (method: Array((method ?? "").utf8), url: Array(url.utf8), name: Array((serverName ?? "").utf8))
    let budget = Array((spending?.budget ?? "").utf8)
    let result: Result<Void, Fault> = parts.method.withUnsafeBytes { method in
      parts.url.withUnsafeBytes { url in
        parts.name.withUnsafeBytes { name in
          block.withUnsafeBytes { headers in
            budget.withUnsafeBytes { budget in
              self.body.withUnsafeBytes { content in
                if self.method != nil { input.method = method }
                if serverName != nil { input.serverName = name }
                if spending != nil { input.budget = budget }
                input.url = url
                input.headers = headers
                input.body = content
                do throws(Fault) { return .success(try body(input)) } catch { return .failure(error) }
              }
            }
          }
        }
      }
    }
    try result.get()
  }
}

/// Why a request has no answer.
public struct PoolError: Error, Sendable, CustomStringConvertible {
  /// The status of `llmpool.h`: its name without `LLMPOOL_`, like "E_POOL_TIMEOUT".
  public let name: String
  /// Its number there.
  public let code: Int32
  /// What helps to find out why.
  public let message: String
  /// The server provably acted on nothing: trying again is safe.
  public let isUnseen: Bool
  public var description: String { "\(name): \(message)" }
}
