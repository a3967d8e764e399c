import LLMPoolCore
import LLMPoolEngine

/// An HTTP request to an LLM API, or to anything else.
public struct Request: Sendable {
  /// A token (RFC 9110, section 9.1). Default: POST with a body, else GET.
  public var method: String?
  /// An absolute http or https URL (RFC 9110, section 4.2).
  public var url: String
  /// Content-Length, Host and Transfer-Encoding are set by the library.
  public var headers: Headers
  public var body: [UInt8]
  public var timeouts = Timeouts()
  /// Higher goes first among those that wait for a connection; 0 is normal.
  public var priority: Int32 = 0
  /// Largest body of an answer. Default: 64 MiB.
  public var maxResponseBytes = 64 << 20
  /// Largest server-sent event, 1,024 to 2^30; nil: as the pool has it.
  public var maxEventBytes: Int?
  /// When it may be sent again; nil: where the server provably has not acted on it, as often as the pool allows.
  public var retry: Retry?
  /// For TLS (RFC 6066, section 3), where it is not the URL's host.
  public var serverName: String?
  /// Whose limits it shares; it waits until there is room.
  public var spending: Spending?

  /// The timeouts of one request; nil: as the pool has it; `.zero` or less: none.
  public typealias Timeouts = LLMPoolCore.Timeouts<Duration?>

  public init(method: String? = nil, url: String, headers: Headers = [], body: [UInt8] = []) {
    self.method = method
    self.url = url
    self.headers = headers
    self.body = body
  }

  /// With headers that are at hand as pairs.
  public init(method: String? = nil, url: String, headers: [(name: String, value: String)], body: [UInt8] = []) {
    self.init(method: method, url: url, headers: Headers(headers), body: body)
  }
}

extension Request {
  static func milliseconds(_ duration: Duration) -> UInt32 {
    let (seconds, attoseconds) = duration.components
    return UInt32(clamping: seconds * 1_000 + attoseconds / 1_000_000_000_000_000)
  }

  /// Of a time that something may take; `.zero` or less: for ever.
  static func nanoseconds(_ duration: Duration) -> Nanoseconds {
    duration <= .zero ? .max : .milliseconds(max(1, milliseconds(duration)))
  }

  /// The request in the engine's form, valid within the call.
  func withInput(_ body: (RequestInput) throws(Fault) -> Void) throws(Fault) {
    var input = RequestInput()
    input.options.priority = priority
    input.maxResponseBytes = maxResponseBytes
    if let maxEventBytes {
      guard 1_024...1 << 30 ~= maxEventBytes else {
        throw Fault(.invalidArgument, "maxEventBytes: expected 1,024 to 2^30, or nil, got \(maxEventBytes)")
      }
      input.maxEventBytes = maxEventBytes
    }
    input.options.timeouts = timeouts.map { $0.map(Request.nanoseconds) ?? RequestOptions.asPool }
    try retry?.set(&input)
    if let spending {
      input.options.inputCost = spending.inputTokens
      input.options.outputCost = spending.outputTokens
      if spending.isEstimated { input.flags.insert(.estimatedCost) }
    }
    // All texts in one piece of memory, which the engine copies from within the call.
    var bytes: [UInt8] = []
    bytes.reserveCapacity(256)
    let url = bytes.append(self.url)
    let method = self.method.map { bytes.append($0) }
    let name = serverName.map { bytes.append($0) }
    let budget = spending.map { bytes.append($0.budget) }
    let block = bytes.count..<bytes.count + headers.bytes.count
    bytes += headers.bytes
    let result: Result<Void, Fault> = bytes.withUnsafeBytes { texts in
      self.body.withUnsafeBytes { content in
        input.url = UnsafeRawBufferPointer(rebasing: texts[url])
        input.headers = UnsafeRawBufferPointer(rebasing: texts[block])
        input.body = content
        if let method { input.method = UnsafeRawBufferPointer(rebasing: texts[method]) }
        if let name { input.serverName = UnsafeRawBufferPointer(rebasing: texts[name]) }
        if let budget { input.budget = UnsafeRawBufferPointer(rebasing: texts[budget]) }
        do throws(Fault) { return .success(try body(input)) } catch { return .failure(error) }
      }
    }
    try result.get()
  }
}

extension [UInt8] {
  /// Appends a text; where it lies.
  fileprivate mutating func append(_ text: String) -> Range<Int> {
    let start = count
    append(contentsOf: text.utf8)
    return start..<count
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
