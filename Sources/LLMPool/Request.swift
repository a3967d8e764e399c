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

  /// The timeouts of one request; nil: as the pool has it; `.zero` or less: none.
  public struct Timeouts: Sendable {
    /// Of a dial that the request waits for: name, TCP, proxy and TLS together.
    public var connect: Duration?
    /// Longest silence while bytes of the answer are awaited.
    public var read: Duration?
    /// Longest time in which no byte of the request could be sent.
    public var write: Duration?
    /// Longest wait for a connection.
    public var pool: Duration?
    /// From the last byte of the request to the first of the answer.
    public var firstByte: Duration?
    /// From submission to the last byte.
    public var total: Duration?
    public init() {}
  }

  public init(
    method: String? = nil, url: String, headers: [(name: String, value: String)] = [], body: [UInt8] = []
  ) {
    self.method = method
    self.url = url
    self.headers = headers
    self.body = body
  }
}

/// An answer, whatever its status: 4xx and 5xx are answers too.
public struct Response: Sendable {
  public let status: Int
  /// Names as received, values without the whitespace around them.
  public let headers: [(name: String, value: String)]
  public let body: [UInt8]
  /// "HTTP/1.1" or "HTTP/2".
  public let httpVersion: String
  /// An open connection carried the request.
  public let isReused: Bool
  /// How often the request was sent, at least 1.
  public let attempts: Int
  /// "192.0.2.1:443"
  public let peer: String

  /// The first value of a header, names compared without regard to case.
  public func header(_ name: String) -> String? {
    headers.first { $0.name.lowercased() == name.lowercased() }?.value
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
