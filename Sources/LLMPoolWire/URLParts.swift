/// Where the parts of an absolute `http:` or `https:` URL lie in its bytes (RFC 9110 section 4.2, RFC 3986).
///
/// A trivial value of offsets; it is of use only together with the bytes that were parsed. Nothing is decoded or
/// rewritten: what the application wrote in path and query is what the server gets.
public struct URLParts: Equatable, Sendable {
  /// Longest URL accepted.
  public static let maximumBytes = 65_536

  /// The scheme is https.
  public private(set) var isTLS = false
  /// The host was an IPv6 literal; `hostRange` excludes its brackets.
  public private(set) var hostIsIPv6 = false
  /// The host is an address, IPv4 or IPv6: no name to look up, no server name to send in TLS (RFC 6066 section 3).
  public private(set) var hostIsIPLiteral = false
  /// The URL names a port, the default one perhaps.
  public private(set) var hasExplicitPort = false
  /// The target is empty or begins with "?": a "/" goes before it in a request (RFC 9112 section 3.2.1).
  public private(set) var targetNeedsSlash = false
  public private(set) var port: UInt16 = 0
  private var hostStart: UInt32 = 0
  private var hostCount: UInt32 = 0
  private var targetStart: UInt32 = 0
  private var targetCount: UInt32 = 0

  /// The host in the bytes that were parsed, in the case in which it was written.
  public var hostRange: Range<Int> { Int(hostStart)..<Int(hostStart + hostCount) }
  /// Path and query in the bytes that were parsed, without the fragment.
  public var targetRange: Range<Int> { Int(targetStart)..<Int(targetStart + targetCount) }
  /// Room that `writeAuthority` needs: the host in brackets, a colon, five digits.
  public var authorityRoom: Int { Int(hostCount) + 8 }
  /// Room that `writeOrigin` needs.
  public var originRoom: Int { authorityRoom + 8 }
  /// The port is the one that the scheme implies.
  public var portIsDefault: Bool { port == (isTLS ? 443 : 80) }

  public static func parse(_ url: UnsafeRawBufferPointer) throws(WireError) -> URLParts {
    let start = url.bytePointer
    let count = url.count
    guard count <= maximumBytes else {
      throw WireError(.url, "the URL is {1} bytes long; at most {2} are accepted", UInt64(count), UInt64(maximumBytes))
    }
    var parts = URLParts()
    let authority = try parts.parseScheme(start, count)
    try checkCharacters(start, authority, count)
    var end = authority
    while end < count, start[end] != Byte.slash, start[end] != Byte.question, start[end] != Byte.hash { end += 1 }
    try parts.parseAuthority(start, authority, end)
    let fragment = firstOffset(of: Byte.hash, in: start, from: end, to: count)
    let targetEnd = fragment < 0 ? count : fragment
    parts.targetStart = UInt32(end)
    parts.targetCount = UInt32(targetEnd - end)
    parts.targetNeedsSlash = end == targetEnd || start[end] != Byte.slash
    return parts
  }

  /// Returns the offset behind "scheme://". Schemes are compared without regard to case (RFC 3986 section 3.1).
  private mutating func parseScheme(_ start: BytePointer, _ count: Int) throws(WireError) -> Int {
    if count >= 8, matches(start, "https://") {
      isTLS = true
      port = 443
      return 8
    }
    if count >= 7, matches(start, "http://") {
      port = 80
      return 7
    }
    guard count > 0 else { throw WireError(.url, "the URL is empty") }
    throw WireError(.url, "the URL does not begin with http:// or https://; no other scheme is supported")
  }

  /// RFC 3986 knows visible ASCII only. What lies between its characters (quotes, braces, "|") is let through, as
  /// servers do; a control character or a space would end the request line early.
  private static func checkCharacters(_ start: BytePointer, _ from: Int, _ to: Int) throws(WireError) {
    for i in from..<to where start[i] &- 0x21 > 0x7E - 0x21 {
      if start[i] < 0x80 {
        throw WireError(.url, "control character or space at byte {1}; percent-encode it", UInt64(i))
      }
      throw WireError(
        .url, "non-ASCII character at byte {1}; percent-encode it in path and query, IDNA-encode it in the host",
        UInt64(i))
    }
  }

  private mutating func parseAuthority(_ start: BytePointer, _ from: Int, _ to: Int) throws(WireError) {
    guard firstOffset(of: Byte.at, in: start, from: from, to: to) < 0 else {
      throw WireError(.url, "the URL holds credentials or an @ before the path; send an authorization header instead")
    }
    var end = to
    if from < to, start[from] == Byte.leftBracket {
      let close = firstOffset(of: Byte.rightBracket, in: start, from: from, to: to)
      guard close >= 0 else { throw WireError(.url, "the IPv6 address lacks its closing bracket") }
      try setHost(from + 1, close)
      try IPLiteral.checkIPv6(start, from + 1, close)
      hostIsIPv6 = true
      hostIsIPLiteral = true
      end = close + 1
      guard end == to || start[end] == Byte.colon else {
        throw WireError(.url, "expected a port or a path after the IPv6 address in brackets")
      }
    } else {
      let colon = firstOffset(of: Byte.colon, in: start, from: from, to: to)
      if colon >= 0 { end = colon }
      try setHost(from, end)
      hostIsIPLiteral = try IPLiteral.checkName(start, from, end)
    }
    if end + 1 < to { try parsePort(start, end + 1, to) }  // "host:" means the default port, RFC 3986 section 3.2.3
  }

  /// Whether the text is a host as it may stand in a URL without brackets: a name, or an IPv4 address.
  public static func isHost(_ text: UnsafeRawBufferPointer) -> Bool {
    guard text.count > 0 else { return false }
    return (try? IPLiteral.checkName(text.bytePointer, 0, text.count)) != nil
  }

  private mutating func setHost(_ from: Int, _ to: Int) throws(WireError) {
    guard from < to else { throw WireError(.url, "the URL has no host") }
    hostStart = UInt32(from)
    hostCount = UInt32(to - from)
  }

  private mutating func parsePort(_ start: BytePointer, _ from: Int, _ to: Int) throws(WireError) {
    guard let value = parseDecimal(start + from, count: to - from, limit: 65_535), value > 0 else {
      throw WireError(.url, "bad port; expected a number from 1 to 65535")
    }
    port = UInt16(value)
    hasExplicitPort = true
  }

  // MARK: Writing

  /// Writes the host in lower case and the port unless it is the default: "example.com:8080", "[::1]". This is what
  /// belongs into Host (RFC 9110 section 7.2) and :authority (RFC 9113 section 8.3.1). Needs `authorityRoom`; returns
  /// how many bytes were written.
  public func writeAuthority(of url: UnsafeRawBufferPointer, to target: UnsafeMutableRawBufferPointer) -> Int {
    precondition(target.count >= authorityRoom)
    return write(url, portAlways: false, to: target.baseAddress!)
  }

  /// Writes "scheme://host:port", in lower case and always with the port: the name of an origin (RFC 6454).
  /// Needs `originRoom`; returns how many bytes were written.
  public func writeOrigin(of url: UnsafeRawBufferPointer, to target: UnsafeMutableRawBufferPointer) -> Int {
    precondition(target.count >= originRoom)
    let scheme: StaticString = isTLS ? "https://" : "http://"
    target.baseAddress!.copyMemory(from: scheme.utf8Start, byteCount: scheme.utf8CodeUnitCount)
    let prefix = scheme.utf8CodeUnitCount
    return prefix + write(url, portAlways: true, to: target.baseAddress! + prefix)
  }

  private func write(
    _ url: UnsafeRawBufferPointer, portAlways: Bool, to target: UnsafeMutableRawPointer
  ) -> Int {
    precondition(hostRange.upperBound <= url.count, "not the URL that was parsed")
    let source = url.bytePointer
    let out = target.assumingMemoryBound(to: UInt8.self)
    var count = 0
    if hostIsIPv6 {
      out[0] = Byte.leftBracket
      count = 1
    }
    for i in hostRange {
      out[count] = Byte.lowercased(source[i])
      count += 1
    }
    if hostIsIPv6 {
      out[count] = Byte.rightBracket
      count += 1
    }
    if portAlways || !portIsDefault {
      out[count] = Byte.colon
      count += 1 + writeDecimal(UInt64(port), to: out + count + 1)
    }
    return count
  }
}
