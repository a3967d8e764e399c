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
}

/// What the lines of a head said so far.
struct HeadProgress {
  /// Where the next line begins, from the beginning of the head.
  var lineStart = 0
  /// How many lines were taken; 0: the status line is next.
  var lines = 0
  /// Where the headers begin.
  var fieldsStart = 0
  var reasonStart = 0
  var reasonCount = 0
  var status: UInt16 = 0
  var minorVersion: UInt8 = 0
  /// A line was not written as "name: value": the normalised text is in a buffer of its own.
  var isRewritten = false
  var hasContentLength = false
  var hasTransferEncoding = false
  var optionClose = false
  var optionKeepAlive = false
  var contentLength: UInt64 = 0
  var keepAliveTimeout: UInt32?

  /// `HTTP/1.x SP 3DIGIT [SP reason]` (RFC 9112 section 4), where the reason and the space before it may lack.
  mutating func takeStatusLine(_ start: BytePointer, _ count: Int) throws(WireError) {
    // `hasWrongPrefix` was asked before, so the line begins with HTTP/1.
    guard count >= 8, start[7] &- Byte.zero < 2 else { throw HeadProgress.versionError(start, count) }
    guard count >= 12, start[8] == Byte.space else {
      throw WireError(.statusLine, "expected HTTP/1.1, a space and three digits of status")
    }
    guard let status = parseDecimal(start + 9, count: 3), count == 12 || start[12] == Byte.space else {
      throw WireError(.statusLine, "the status is not three digits followed by a space")
    }
    guard status >= 100, status <= 599 else {
      throw WireError(.statusLine, "the status is {1}; expected 100 to 599", status)
    }
    self.status = UInt16(status)
    minorVersion = start[7] &- Byte.zero
    reasonStart = min(13, count)
    reasonCount = count - reasonStart
    guard firstForbiddenControl(in: start, from: reasonStart, to: count) == count else {
      throw WireError(.statusLine, "control character in the reason phrase")
    }
  }

  /// Whether bytes that lie `offset` bytes behind the beginning of the answer contradict "HTTP/1.".
  static func hasWrongPrefix(_ start: BytePointer, _ count: Int, offset: Int) -> Bool {
    let prefix: StaticString = "HTTP/1."
    var i = offset
    while i < prefix.utf8CodeUnitCount, i - offset < count {
      if start[i - offset] != prefix.utf8Start[i] { return true }
      i += 1
    }
    return false
  }

  /// Only the very first byte says more than that it is no HTTP/1: the same bytes give the same error however they
  /// are split.
  static func versionError(_ start: BytePointer, _ count: Int) -> WireError {
    if count > 0, start[0] == 0x15 || start[0] == 0x16 {
      return WireError(.statusLine, "the server answered in TLS to a plain request; is the URL's scheme https?")
    }
    if count > 0, start[0] == 0 {
      return WireError(.statusLine, "the server seems to speak HTTP/2 where HTTP/1.1 was expected")
    }
    return WireError(.statusLine, "the answer does not begin with HTTP/1.1 or HTTP/1.0")
  }

  /// Notes what a header says about framing and reuse. Names of other lengths are of no interest here.
  @inline(__always)
  mutating func noteField(_ start: BytePointer, _ from: Int, _ field: FieldLine) throws(WireError) {
    switch field.nameCount {
    case 10, 14, 17: try noteFraming(start + from, start + field.valueStart, field)
    default: break
    }
  }

  private mutating func noteFraming(
    _ name: BytePointer, _ value: BytePointer, _ field: FieldLine
  ) throws(WireError) {
    let count = field.valueEnd - field.valueStart
    switch HeaderBlock.kind(of: name, count: field.nameCount) {
    case .contentLength:
      guard !hasContentLength else { throw WireError(.contentLength, "Content-Length was sent twice") }
      guard let length = parseDecimal(value, count: count) else {
        throw WireError(.contentLength, "Content-Length is not one number below 2^63 in decimal digits")
      }
      hasContentLength = true
      contentLength = length
    case .transferEncoding:
      guard !hasTransferEncoding, matches(value, count: count, "chunked") else {
        throw WireError(.transferEncoding, "Transfer-Encoding is not exactly \"chunked\"")
      }
      hasTransferEncoding = true
    case .connection:
      if HeaderBlock.hasToken("close", in: value, count: count) { optionClose = true }
      if HeaderBlock.hasToken("keep-alive", in: value, count: count) { optionKeepAlive = true }
    case .keepAlive:
      noteKeepAlive(value, count)
    default: break
    }
  }

  /// `Keep-Alive: timeout=5, max=100`: no standard, but widely sent. What cannot be read is passed over.
  private mutating func noteKeepAlive(_ value: BytePointer, _ count: Int) {
    var timeout = keepAliveTimeout
    forEachListElement(value, count: count) { element, size in
      let name: StaticString = "timeout"
      let nameCount = name.utf8CodeUnitCount
      guard size > nameCount, matches(element, name) else { return }
      var (first, last) = trimBlanks(element, from: nameCount, to: size)
      guard first < last, element[first] == Byte.equals else { return }
      (first, last) = trimBlanks(element, from: first + 1, to: last)
      guard let seconds = parseDecimal(element + first, count: last - first) else { return }
      timeout = UInt32(min(seconds, UInt64(UInt32.max)))
    }
    keepAliveTimeout = timeout
  }

  /// How the body ends (RFC 9112 section 6.3), once every header is known.
  func framing(requestMethodIsHEAD: Bool) throws(WireError) -> BodyFraming {
    if hasTransferEncoding {
      guard !hasContentLength else {
        throw WireError(.transferEncoding, "both Content-Length and Transfer-Encoding were sent")
      }
      guard minorVersion >= 1 else {
        throw WireError(.transferEncoding, "Transfer-Encoding was sent with HTTP/1.0, which does not know it")
      }
    }
    if status < 200 {
      guard !hasTransferEncoding, contentLength == 0 else {
        throw WireError(.head, "an interim answer with a body")
      }
      return .none
    }
    if requestMethodIsHEAD || status == 204 || status == 304 { return .none }
    if hasTransferEncoding { return .chunked }
    return hasContentLength ? .length(contentLength) : .untilClose
  }

  /// RFC 9112 section 9.3.
  func closesConnection(_ framing: BodyFraming) -> Bool {
    optionClose || framing == .untilClose || (minorVersion == 0 && !optionKeepAlive)
  }
}
