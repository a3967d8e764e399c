/// Checks of what stands where a host is expected.
enum IPLiteral {
  /// Checks a host that is not in brackets; true where it is an IPv4 address.
  ///
  /// Letters, digits, "-", "." and "_" only: percent-encoding and the sub-delimiters of RFC 3986 section 3.2.2 are in
  /// no name that DNS resolves. Labels as in RFC 1035 section 2.3.4; one last dot is allowed.
  static func checkName(_ start: BytePointer, _ from: Int, _ to: Int) throws(WireError) -> Bool {
    let end = start[to - 1] == Byte.dot ? to - 1 : to
    guard end - from <= 253 else {
      throw WireError(.url, "the host is {1} bytes long; at most 253 are allowed", UInt64(end - from))
    }
    var label = from
    for i in from...end {
      if i < end, start[i] != Byte.dot {
        guard isHostByte(start[i]) else {
          throw WireError(.url, "bad character in the host at byte {1}; expected letters, digits, - . _", UInt64(i))
        }
        continue
      }
      guard i > label else { throw WireError(.url, "the host has an empty label at byte {1}", UInt64(i)) }
      guard i - label <= 63 else {
        throw WireError(.url, "a label of the host is {1} bytes long; at most 63 are allowed", UInt64(i - label))
      }
      if i < end { label = i + 1 }
    }
    guard isNumber(start, label, end) else { return false }
    // getaddrinfo() reads "127.1", "0x7f000001" and "010.0.0.1" as addresses. Two readers of one URL must not
    // disagree on where it leads, so a host that ends in a number is the plain form or refused, as in WHATWG's URL.
    guard end == to, isIPv4(start, from, to) else {
      throw WireError(.url, "the host ends in a number but is no IPv4 address of the form 192.0.2.1")
    }
    return true
  }

  private static func isHostByte(_ byte: UInt8) -> Bool {
    Byte.isDigit(byte) || Byte.lowercased(byte) &- 0x61 < 26 || byte == Byte.minus || byte == 0x5F
  }

  private static func isNumber(_ start: BytePointer, _ from: Int, _ to: Int) -> Bool {
    if to - from >= 2, start[from] == Byte.zero, start[from + 1] | 0x20 == 0x78 {
      for i in (from + 2)..<to where Byte.hexValue(start[i]) == 255 { return false }
      return true
    }
    for i in from..<to where !Byte.isDigit(start[i]) { return false }
    return true
  }

  /// `dec-octet` four times (RFC 3986 section 3.2.2): no leading zeros, which some read as octal.
  static func isIPv4(_ start: BytePointer, _ from: Int, _ to: Int) -> Bool {
    var octets = 0
    var i = from
    while true {
      let first = i
      while i < to, Byte.isDigit(start[i]) { i += 1 }
      guard i > first, i - first <= 3, i - first == 1 || start[first] != Byte.zero else { return false }
      guard parseDecimal(start + first, count: i - first, limit: 255) != nil else { return false }
      octets += 1
      if i == to { return octets == 4 }
      guard start[i] == Byte.dot, octets < 4 else { return false }
      i += 1
    }
  }

  /// An IPv6 address as in RFC 4291 section 2.2, without brackets.
  static func checkIPv6(_ start: BytePointer, _ from: Int, _ to: Int) throws(WireError) {
    guard firstOffset(of: Byte.percent, in: start, from: from, to: to) < 0 else {
      throw WireError(.url, "IPv6 zone ids are not supported in a URL")
    }
    guard isIPv6(start, from, to) else {
      throw WireError(.url, "malformed IPv6 address; expected a form like [2001:db8::1]")
    }
  }

  private static func isIPv6(_ start: BytePointer, _ from: Int, _ to: Int) -> Bool {
    var groups = 0
    var hasGap = false
    var i = from
    if to - from >= 2, start[from] == Byte.colon {
      guard start[from + 1] == Byte.colon else { return false }
      hasGap = true
      i += 2
    }
    while i < to {
      let first = i
      while i < to, i - first < 4, Byte.hexValue(start[i]) != 255 { i += 1 }
      guard i > first else { return false }
      if i < to, start[i] == Byte.dot {
        groups += 2
        return isIPv4(start, first, to) && (hasGap ? groups < 8 : groups == 8)
      }
      groups += 1
      if i == to { break }
      guard start[i] == Byte.colon, i + 1 < to else { return false }
      i += 1
      if start[i] == Byte.colon {
        guard !hasGap else { return false }
        hasGap = true
        i += 1
      }
    }
    return hasGap ? groups < 8 : groups == 8
  }
}
