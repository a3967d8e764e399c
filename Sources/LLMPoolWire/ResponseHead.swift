/// The head of an answer. Trivial; its two pointers are valid until the parser's next call and while the input that
/// it was parsed from lies where it lay.
public struct ResponseHead {
  public internal(set) var status: UInt16
  /// 1 for HTTP/1.1, 0 for HTTP/1.0.
  public internal(set) var minorVersion: UInt8
  public internal(set) var framing: BodyFraming
  /// No further request may follow on this connection: `Connection: close`, HTTP/1.0 without keep-alive, or a body
  /// that ends with the connection (RFC 9112 section 9.3).
  public internal(set) var closesConnection: Bool
  /// `Connection: keep-alive` was said, which HTTP/1.1 does without.
  public internal(set) var keepsConnection: Bool
  /// N of `Keep-Alive: timeout=N`: the server closes the idle connection after as many seconds.
  public internal(set) var keepAliveTimeoutSeconds: UInt32?
  /// The reason phrase, perhaps empty.
  public internal(set) var reason: UnsafeRawBufferPointer
  /// "name: value\r\n" lines: names as received, no whitespace around values. See `HeaderBlock.value(of:in:)`.
  public internal(set) var headers: UnsafeRawBufferPointer

  /// What three digits of a status may be, in every version of HTTP: 600 to 999 are no status of any RFC, but are to be
  /// treated as 5xx (RFC 9110, section 15); there is nothing below 100.
  public static func isStatus(_ status: Int) -> Bool { (100...999).contains(status) }
}

/// How much a server may say in interim (1xx) answers before the final one: any number of them (RFC 9110,
/// section 15.2), bounded in bytes together. One for each answer, in every version of HTTP.
public struct InterimAllowance: Sendable {
  /// Of the heads of all 1xx answers before one final answer: ten hours of a bare 102 each second.
  public static let maximumBytes = 1 << 20
  private var bytes = 0

  public init() {}

  /// Counts the head of one; an error, of kind `.tooLarge`, where it was one too many.
  /// - Parameter headBytes: as they came, or the lines "name: value\r\n" of decoded headers. What has no header is
  ///   not free.
  public mutating func take(_ headBytes: Int) -> WireError? {
    bytes += max(headBytes, 16)
    guard bytes > InterimAllowance.maximumBytes else { return nil }
    return WireError(
      .head, "more than {1} bytes of interim answers before the final one", UInt64(InterimAllowance.maximumBytes))
  }
}
