/// A request method (RFC 9110 section 9), as far as the library must tell methods apart.
public enum RequestMethod: UInt8, Sendable {
  case get, head, post, put, patch, delete, options, trace, other

  /// The answer to HEAD has no body whatever its headers say (RFC 9112 section 6.3).
  public var isHEAD: Bool { self == .head }

  /// A request without a body says `Content-Length: 0`, because the method gives a meaning to one
  /// (RFC 9110 section 8.6).
  public var expectsContent: Bool { self == .post || self == .put || self == .patch }
}

/// How the end of a message's body is marked (RFC 9112 section 6).
public enum BodyFraming: Equatable, Sendable {
  case none
  case length(UInt64)
  case chunked
  /// Answers only: the body lasts until the connection ends.
  case untilClose
}

/// Writes the head and the chunks of an HTTP/1.1 request (RFC 9112).
public enum RequestWriter {
  public static let maximumMethodBytes = 32

  /// Checks a method: a token (RFC 9110 section 9.1), case-sensitive. CONNECT is refused: it makes a tunnel, not a
  /// request, and is the library's own business.
  @discardableResult
  public static func validateMethod(_ method: UnsafeRawBufferPointer) throws(WireError) -> RequestMethod {
    let start = method.bytePointer
    let count = method.count
    guard count > 0 else { throw WireError(.method, "the method is empty") }
    guard count <= maximumMethodBytes else {
      throw WireError(.method, "the method is {1} bytes long; at most 32 are accepted", UInt64(count))
    }
    for i in 0..<count where !Byte.isToken(start[i]) {
      throw WireError(.method, "character {1} of the method is not allowed in a token", UInt64(i + 1))
    }
    if matches(start, count: count, "connect") { throw WireError(.method, "CONNECT is not supported") }
    return kind(of: start, count: count)
  }

  private static func kind(of start: BytePointer, count: Int) -> RequestMethod {
    switch count {
    case 3:
      if isExactly(start, "GET") { return .get }
      return isExactly(start, "PUT") ? .put : .other
    case 4:
      if isExactly(start, "POST") { return .post }
      return isExactly(start, "HEAD") ? .head : .other
    case 5:
      if isExactly(start, "PATCH") { return .patch }
      return isExactly(start, "TRACE") ? .trace : .other
    case 6: return isExactly(start, "DELETE") ? .delete : .other
    case 7: return isExactly(start, "OPTIONS") ? .options : .other
    default: return .other
    }
  }

  @inline(__always)
  private static func isExactly(_ start: BytePointer, _ text: StaticString) -> Bool {
    for i in 0..<text.utf8CodeUnitCount where start[i] != text.utf8Start[i] { return false }
    return true
  }

  /// Appends the head of a request, the empty line included. Host comes first (RFC 9110 section 7.2), the
  /// application's where it gave one; then its other fields in their order; then what frames the body.
  public static func appendHead(_ head: borrowing RequestHead, to out: inout ByteBuffer) {
    // No field grows by more than a space and a line end, so this is room enough for everything below.
    let size =
      head.method.count + head.target.count + head.authority.count * 2 + head.block.count + head.fields.count * 3
      + head.extraLines.count + 256
    // Without memory for it the buffer is short, which the caller looks at.
    let room = out.writable(size)
    guard let start = room.baseAddress else { return }
    var pen = Pen(start)
    pen.write(head.method)
    pen.write(head.usesAbsoluteForm ? " http://" : " ")
    if head.usesAbsoluteForm { pen.write(head.authority) }
    if head.targetNeedsSlash { pen.write("/") }
    pen.write(head.target)
    pen.write(" HTTP/1.1\r\nHost: ")
    if head.summary.hostIndex >= 0 {
      pen.write(head.block, head.fields[head.summary.hostIndex].valueRange)
    } else {
      pen.write(head.authority)
    }
    pen.write("\r\n")
    pen.write(head.extraLines)
    writeFields(head, &pen)
    writeConnection(head.summary, &pen)
    writeFraming(head, &pen)
    pen.write("\r\n")
    let written = pen.position - start
    precondition(written <= size)
    out.didWrite(written)
  }

  @inline(__always)
  private static func writeFields(_ head: borrowing RequestHead, _ pen: inout Pen) {
    guard !head.summary.isVerbatim else {
      pen.write(head.block)
      // Only the last line's end may lack; a line feed never stands inside a value.
      if head.block.count > 0, head.block[head.block.count - 1] != Byte.lf { pen.write("\r\n") }
      return
    }
    for field in head.fields {
      if field.kind.isDropped || field.kind == .host || field.kind == .contentLength { continue }
      pen.write(head.block, field.nameRange)
      pen.write(": ")
      pen.write(head.block, field.valueRange)
      pen.write("\r\n")
    }
  }

  private static func writeConnection(_ summary: HeaderSummary, _ pen: inout Pen) {
    switch (summary.closesConnection, summary.hasTE) {
    case (false, false): break
    case (true, false): pen.write("Connection: close\r\n")
    case (false, true): pen.write("Connection: TE\r\n")
    case (true, true): pen.write("Connection: close, TE\r\n")
    }
  }

  private static func writeFraming(_ head: borrowing RequestHead, _ pen: inout Pen) {
    switch head.framing {
    case .length(let bytes):
      pen.write("Content-Length: ")
      pen.position += writeDecimal(bytes, to: pen.position)
      pen.write("\r\n")
    case .chunked:
      pen.write("Transfer-Encoding: chunked\r\n")
    case .none, .untilClose:
      guard kind(of: head.method.bytePointer, count: head.method.count).expectsContent else { return }
      pen.write("Content-Length: 0\r\n")
    }
  }

  // MARK: Chunks (RFC 9112 section 7.1)

  /// Appends what goes before a chunk's bytes. A chunk is never empty: that would end the body.
  public static func appendChunkHeader(bytes: Int, to out: inout ByteBuffer) {
    precondition(bytes > 0)
    out.appendHexadecimal(UInt64(bytes))
    out.append("\r\n")
  }

  /// Appends what goes behind a chunk's bytes.
  public static func appendChunkEnd(to out: inout ByteBuffer) { out.append("\r\n") }

  /// Appends a whole chunk; nothing for no bytes.
  public static func appendChunk(_ bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer) {
    guard bytes.count > 0 else { return }
    out.reserve(bytes.count + 20)
    appendChunkHeader(bytes: bytes.count, to: &out)
    out.append(bytes)
    appendChunkEnd(to: &out)
  }

  /// Appends the end of a chunked body.
  public static func appendLastChunk(to out: inout ByteBuffer) { out.append("0\r\n\r\n") }
}

/// Writes on into memory whose size was computed before.
private struct Pen {
  var position: UnsafeMutableRawPointer

  @inline(__always) init(_ position: UnsafeMutableRawPointer) { self.position = position }

  @inline(__always) mutating func write(_ bytes: UnsafeRawBufferPointer) {
    guard let base = bytes.baseAddress else { return }
    position.copyMemory(from: base, byteCount: bytes.count)
    position += bytes.count
  }

  @inline(__always) mutating func write(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) {
    guard let base = bytes.baseAddress else { return }
    position.copyMemory(from: base + range.lowerBound, byteCount: range.count)
    position += range.count
  }

  @inline(__always) mutating func write(_ text: StaticString) {
    position.copyMemory(from: text.utf8Start, byteCount: text.utf8CodeUnitCount)
    position += text.utf8CodeUnitCount
  }
}
