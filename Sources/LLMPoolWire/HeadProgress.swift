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
  /// A header about the framing is not plainly right, or a line was folded: see `lookAgain`.
  var needsAnotherLook = false
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
    guard ResponseHead.isStatus(Int(status)) else {
      throw WireError(.statusLine, "the status is {1}; expected 100 to 999", status)
    }
    self.status = UInt16(status)
    minorVersion = start[7] &- Byte.zero
    reasonStart = min(13, count)
    reasonCount = count - reasonStart
    guard
      firstForbiddenControl(in: start, from: reasonStart, to: count) == count
        || !Byte.hasLineBreakOrNUL(start, from: reasonStart, to: count)
    else { throw WireError(.statusLine, "a NUL or a carriage return in the reason phrase") }
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
  mutating func noteField(_ start: BytePointer, _ from: Int, _ field: FieldLine) {
    switch field.nameCount {
    case 10, 14, 17: noteFraming(start + from, start + field.valueStart, field)
    default: break
    }
  }

  private mutating func noteFraming(_ name: BytePointer, _ value: BytePointer, _ field: FieldLine) {
    let count = field.valueEnd - field.valueStart
    switch HeaderBlock.kind(of: name, count: field.nameCount) {
    case .contentLength:
      if !hasContentLength, let length = parseDecimal(value, count: count) {
        hasContentLength = true
        contentLength = length
      } else {
        needsAnotherLook = true
      }
    case .transferEncoding:
      if !hasTransferEncoding, matches(value, count: count, "chunked") {
        hasTransferEncoding = true
      } else {
        needsAnotherLook = true
      }
    case .connection:
      if HeaderBlock.hasToken("close", in: value, count: count) { optionClose = true }
      if HeaderBlock.hasToken("keep-alive", in: value, count: count) { optionKeepAlive = true }
    case .keepAlive:
      noteKeepAlive(value, count)
    default: break
    }
  }

  /// Reads what the headers of a complete head say about framing and reuse once more, folds joined, and refuses what
  /// has no single meaning. Returns whether a length was repeated (RFC 9110, section 8.6, lets equal ones count as
  /// one).
  mutating func lookAgain(_ block: UnsafeRawBufferPointer) throws(WireError) -> Bool {
    (hasContentLength, hasTransferEncoding, optionClose, optionKeepAlive) = (false, false, false, false)
    var isRepeated = false
    let start = block.bytePointer
    var position = 0
    while position < block.count {
      let lf = firstOffset(of: Byte.lf, in: start, from: position, to: block.count)
      let field = try FieldLine.parse(start, from: position, to: lf - 1, line: 0, in: .head)
      let value = start + field.valueStart
      let count = field.valueEnd - field.valueStart
      switch HeaderBlock.kind(of: start + position, count: field.nameCount) {
      case .contentLength: if try takeLengths(value, count) { isRepeated = true }
      case .transferEncoding:
        guard !hasTransferEncoding, matches(value, count: count, "chunked") else {
          throw WireError(.transferEncoding, "Transfer-Encoding is not exactly \"chunked\"")
        }
        hasTransferEncoding = true
      default: noteField(start, position, field)
      }
      position = lf + 1
    }
    return isRepeated
  }

  /// One number, or a list of equal ones; true if it is not the only one.
  private mutating func takeLengths(_ value: BytePointer, _ count: Int) throws(WireError) -> Bool {
    var isRepeated = hasContentLength
    var from = 0
    while true {
      let comma = firstOffset(of: Byte.comma, in: value, from: from, to: count)
      let (first, last) = trimBlanks(value, from: from, to: comma < 0 ? count : comma)
      guard let length = parseDecimal(value + first, count: last - first) else {
        throw WireError(.contentLength, "Content-Length is not a number below 2^63 in decimal digits")
      }
      guard !hasContentLength || length == contentLength else {
        throw WireError(
          .contentLength, "Content-Length was sent twice, as {1} and as {2} bytes", contentLength, length)
      }
      hasContentLength = true
      contentLength = length
      guard comma >= 0 else { return isRepeated }
      isRepeated = true
      from = comma + 1
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

  /// RFC 9112 section 9.3; a body in chunks that HTTP/1.0 does not know ends the connection too (section 6.1), as
  /// does all that is doubtful.
  func closesConnection(_ framing: BodyFraming) -> Bool {
    optionClose || framing == .untilClose || (minorVersion == 0 && !optionKeepAlive)
  }
}
