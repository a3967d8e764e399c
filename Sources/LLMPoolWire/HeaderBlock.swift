/// What a validated block says that the library must know. Trivial.
public struct HeaderSummary: Equatable, Sendable {
  /// The value of Content-Length; to be compared with the body by the caller.
  public internal(set) var contentLength: UInt64?
  /// Index of the Host field, or -1.
  public internal(set) var hostIndex = -1
  /// `Connection: close`: the HTTP/1.1 connection is closed after the answer.
  public internal(set) var closesConnection = false
  /// `TE: trailers`; needs a connection option of its own in HTTP/1.1 (RFC 9110 section 10.1.4).
  public internal(set) var hasTE = false
  /// The block may be sent as it is: no field in it is dropped or replaced, each reads "name: value\r\n", the last
  /// line's end perhaps excepted.
  public internal(set) var isVerbatim = true

  /// That of an empty block.
  public init() {}
}

/// Blocks of "name: value\r\n" lines: the headers of a request as the application gives them, and those of an answer
/// as it gets them.
public enum HeaderBlock {
  /// Largest block accepted.
  public static let maximumBytes = 65_536
  /// Most fields accepted.
  public static let maximumFields = 1_000

  /// Checks the headers of a request and says where each lies. The end of the last line may lack; the block may be
  /// empty. Names are tokens (RFC 9110 section 5.1), values hold no control character but HTAB (section 5.5).
  ///
  /// - Parameter fields: emptied first; its memory is used again.
  public static func validate(
    _ block: UnsafeRawBufferPointer, into fields: inout [HeaderField]
  ) throws(WireError) -> HeaderSummary {
    fields.removeAll(keepingCapacity: true)
    var summary = HeaderSummary()
    guard block.count <= maximumBytes else {
      throw WireError(
        .headers, "the headers are {1} bytes long; at most {2} are accepted", UInt64(block.count),
        UInt64(maximumBytes))
    }
    if block.count > 0 { fields.reserveCapacity(8) }
    let start = block.bytePointer
    var position = 0
    while position < block.count {
      let line = fields.count + 1
      guard fields.count < maximumFields else {
        throw WireError(.headers, "more than {1} headers", UInt64(maximumFields))
      }
      let lf = firstOffset(of: Byte.lf, in: start, from: position, to: block.count)
      let lineEnd = lf < 0 ? block.count : lf - 1
      guard lf < 0 || (lineEnd >= position && start[lineEnd] == Byte.cr) else {
        throw WireError(.headers, "a line feed without a carriage return; lines end in CR LF", line: line)
      }
      let parsed = try FieldLine.parse(start, from: position, to: lineEnd, line: line, in: .headers)
      var field = HeaderField(
        nameStart: UInt32(position), nameCount: UInt32(parsed.nameCount), valueStart: UInt32(parsed.valueStart),
        valueCount: UInt32(parsed.valueEnd - parsed.valueStart), kind: .other)
      field.kind = kind(of: start + position, count: parsed.nameCount)
      if !parsed.isCanonical { summary.isVerbatim = false }
      if field.kind != .other { try note(field, start, line, fields.count, &summary) }
      fields.append(field)
      position = lf < 0 ? block.count : lf + 1
    }
    return summary
  }

  /// What a field with a name that the library knows means for the request.
  private static func note(
    _ field: HeaderField, _ start: BytePointer, _ line: Int, _ index: Int, _ summary: inout HeaderSummary
  ) throws(WireError) {
    let name = ShortName(start + Int(field.nameStart), count: Int(field.nameCount))
    let value = start + Int(field.valueStart)
    let count = Int(field.valueCount)
    switch field.kind {
    case .host:
      guard summary.hostIndex < 0 else { throw WireError(.headers, "given twice", line: line, name: name) }
      for i in 0..<count where !isAuthorityByte(value[i]) {
        throw WireError(.headers, "expected a host, or host:port", line: line, name: name)
      }
      summary.hostIndex = index
      summary.isVerbatim = false
    case .contentLength:
      guard summary.contentLength == nil else { throw WireError(.headers, "given twice", line: line, name: name) }
      guard let length = parseDecimal(value, count: count) else {
        throw WireError(.headers, "expected a number of bytes in decimal digits", line: line, name: name)
      }
      summary.contentLength = length
      summary.isVerbatim = false
    case .expect:
      // Sent, and the body without waiting for the 100 (RFC 9110 section 10.1.1 leaves that to the client).
      guard matches(value, count: count, "100-continue") else {
        throw WireError(.headers, "only \"100-continue\" is supported", line: line, name: name)
      }
    case .transferEncoding, .upgrade:
      throw WireError(.headers, "set by the library where it is needed; leave it out", line: line, name: name)
    case .te:
      guard matches(value, count: count, "trailers") else {
        throw WireError(.headers, "only \"trailers\" is supported", line: line, name: name)
      }
      summary.hasTE = true
    case .connection:
      if hasToken("close", in: value, count: count) { summary.closesConnection = true }
      summary.isVerbatim = false
    case .keepAlive, .proxyConnection: summary.isVerbatim = false
    case .other, .trailer, .authorization, .proxyAuthorization, .cookie, .apiKey: break
    }
  }

  private static func isAuthorityByte(_ byte: UInt8) -> Bool {
    Byte.isDigit(byte) || Byte.lowercased(byte) &- 0x61 < 26 || byte == Byte.minus || byte == 0x5F
      || byte == Byte.dot || byte == Byte.colon || byte == Byte.leftBracket || byte == Byte.rightBracket
  }

  /// The kind of a header's name, compared without regard to case.
  static func kind(of name: BytePointer, count: Int) -> HeaderField.Kind {
    let kind = knownKind(of: name, count: count)
    return kind == .other && namesSecret(name, count: count) ? .apiKey : kind
  }

  /// Gateways call their keys and tokens whatever they like, but nearly all names end alike.
  private static func namesSecret(_ name: BytePointer, count: Int) -> Bool {
    func ends(_ suffix: StaticString) -> Bool {
      count >= suffix.utf8CodeUnitCount && matches(name + (count - suffix.utf8CodeUnitCount), suffix)
    }
    switch Byte.lowercased(name[count - 1]) {
    case UInt8(ascii: "y"): return ends("-key")
    case UInt8(ascii: "n"): return ends("-token") || ends("authorization")
    case UInt8(ascii: "t"): return ends("-secret")
    case UInt8(ascii: "h"): return ends("-auth")
    case UInt8(ascii: "d"): return ends("-password")
    default: return false
    }
  }

  private static func knownKind(of name: BytePointer, count: Int) -> HeaderField.Kind {
    switch count {
    case 2: return matches(name, "te") ? .te : .other
    case 4: return matches(name, "host") ? .host : .other
    case 6:
      if matches(name, "cookie") { return .cookie }
      return matches(name, "expect") ? .expect : .other
    case 7:
      if matches(name, "upgrade") { return .upgrade }
      if matches(name, "api-key") { return .apiKey }
      return matches(name, "trailer") ? .trailer : .other
    case 9: return matches(name, "x-api-key") ? .apiKey : .other
    case 10:
      if matches(name, "connection") { return .connection }
      return matches(name, "keep-alive") ? .keepAlive : .other
    case 13: return matches(name, "authorization") ? .authorization : .other
    case 14:
      if matches(name, "content-length") { return .contentLength }
      return matches(name, "x-goog-api-key") ? .apiKey : .other
    case 16: return matches(name, "proxy-connection") ? .proxyConnection : .other
    case 17: return matches(name, "transfer-encoding") ? .transferEncoding : .other
    case 19: return matches(name, "proxy-authorization") ? .proxyAuthorization : .other
    default: return .other
    }
  }

  // MARK: Looking things up

  /// The value of the first header of that name in a normalised block, one whose lines all read "name: value\r\n";
  /// nil where there is none. The result points into `block`.
  public static func value(
    of name: UnsafeRawBufferPointer, in block: UnsafeRawBufferPointer
  ) -> UnsafeRawBufferPointer? {
    let wanted = name.bytePointer
    let start = block.bytePointer
    let end = block.count
    var position = 0
    while position < end {
      let lf = firstOffset(of: Byte.lf, in: start, from: position, to: end)
      let next = lf < 0 ? end : lf + 1
      let nameEnd = position + name.count
      if nameEnd < next, start[nameEnd] == Byte.colon, equal(start + position, wanted, name.count) {
        var valueEnd = lf < 0 ? end : lf
        if valueEnd > nameEnd + 1, start[valueEnd - 1] == Byte.cr { valueEnd -= 1 }
        let (first, last) = trimBlanks(start, from: nameEnd + 1, to: valueEnd)
        return UnsafeRawBufferPointer(start: start + first, count: last - first)
      }
      position = next
    }
    return nil
  }

  public static func value(of name: StaticString, in block: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    value(of: UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount), in: block)
  }

  private static func equal(_ left: BytePointer, _ right: BytePointer, _ count: Int) -> Bool {
    for i in 0..<count where Byte.lowercased(left[i]) != Byte.lowercased(right[i]) { return false }
    return true
  }

  /// Whether a comma-separated list holds the token, which is given in lower case: "close" in `Connection`.
  public static func hasToken(_ lowercase: StaticString, in value: UnsafeRawBufferPointer) -> Bool {
    hasToken(lowercase, in: value.bytePointer, count: value.count)
  }

  static func hasToken(_ lowercase: StaticString, in value: BytePointer, count: Int) -> Bool {
    var found = false
    forEachListElement(value, count: count) { element, size in
      if matches(element, count: size, lowercase) { found = true }
    }
    return found
  }

  /// Whether a Content-Type is text/event-stream, with or without parameters (RFC 9110 section 8.3.1).
  public static func isEventStreamType(_ contentType: UnsafeRawBufferPointer) -> Bool {
    isType("text/event-stream", contentType)
  }

  private static func isType(_ lowercase: StaticString, _ contentType: UnsafeRawBufferPointer) -> Bool {
    let start = contentType.bytePointer
    let semicolon = firstOffset(of: Byte.semicolon, in: start, from: 0, to: contentType.count)
    let (first, last) = trimBlanks(start, from: 0, to: semicolon < 0 ? contentType.count : semicolon)
    return matches(start + first, count: last - first, lowercase)
  }

  /// What the body of an answer is for somebody who waits for its events.
  public enum Kind: Sendable {
    /// Server-sent events that can be parsed as they come: text/event-stream, whatever its parameters, and no content
    /// coding.
    case events
    case encodedEvents
    /// One JSON document, which nobody reads as a stream.
    case document
    case other
  }

  public static func kind(_ block: UnsafeRawBufferPointer) -> Kind {
    guard let type = value(of: "content-type", in: block) else { return .other }
    guard isEventStreamType(type) else { return isType("application/json", type) ? .document : .other }
    guard let coding = value(of: "content-encoding", in: block), coding.count > 0 else { return .events }
    return matches(coding.bytePointer, count: coding.count, "identity") ? .events : .encodedEvents
  }

  /// Whether a header of that name is about one connection of HTTP/1: an HTTP/2 answer with it is malformed, whatever
  /// its value (RFC 9113, section 8.2.2).
  public static func isOfConnection(_ name: UnsafeRawBufferPointer) -> Bool {
    guard name.count > 0 else { return false }
    switch knownKind(of: name.bytePointer, count: name.count) {
    case .connection, .keepAlive, .proxyConnection, .transferEncoding, .upgrade: return true
    default: return false
    }
  }

  // MARK: Making a block

  /// Whether a value of an answer may be read: control characters are the application's concern, but nothing in it may
  /// end a line or a text.
  public static func isReadable(_ value: UnsafeRawBufferPointer) -> Bool {
    !Byte.hasLineBreakOrNUL(value.bytePointer, from: 0, to: value.count)
  }

  /// The value without blanks at its ends, which are no part of it (RFC 9110, section 5.5).
  @inline(__always)
  public static func trimmed(_ value: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    guard let first = value.first, Byte.isBlank(first) || Byte.isBlank(value[value.count - 1]) else { return value }
    let (start, end) = trimBlanks(value.bytePointer, from: 0, to: value.count)
    return UnsafeRawBufferPointer(rebasing: value[start..<end])
  }

  /// Appends "name: value\r\n"; the caller has checked both, as an HTTP/2 library does for what it received.
  public static func appendLine(
    name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer, to out: inout ByteBuffer
  ) {
    out.reserve(name.count + value.count + 4)
    out.append(name)
    out.append(": ")
    out.append(value)
    out.append("\r\n")
  }
}
