// Scanning and comparing bytes, eight at a time where it pays. Nothing here allocates.

@usableFromInline typealias BytePointer = UnsafePointer<UInt8>

enum Byte {
  static let tab: UInt8 = 0x09
  static let lf: UInt8 = 0x0A
  static let cr: UInt8 = 0x0D
  static let space: UInt8 = 0x20
  static let hash: UInt8 = 0x23
  static let percent: UInt8 = 0x25
  static let comma: UInt8 = 0x2C
  static let minus: UInt8 = 0x2D
  static let dot: UInt8 = 0x2E
  static let slash: UInt8 = 0x2F
  static let zero: UInt8 = 0x30
  static let colon: UInt8 = 0x3A
  static let semicolon: UInt8 = 0x3B
  static let equals: UInt8 = 0x3D
  static let question: UInt8 = 0x3F
  static let at: UInt8 = 0x40
  static let leftBracket: UInt8 = 0x5B
  static let rightBracket: UInt8 = 0x5D
  static let delete: UInt8 = 0x7F

  /// A character of a token (RFC 9110 section 5.6.2).
  @inline(__always) static func isToken(_ byte: UInt8) -> Bool {
    let mask: UInt64 = byte & 0x40 == 0 ? 0x3ff_6cfa_0000_0000 : 0x57ff_ffff_c7ff_fffe
    return byte < 0x80 && (mask &>> UInt64(byte & 0x3F)) & 1 == 1
  }

  @inline(__always) static func isDigit(_ byte: UInt8) -> Bool { byte &- zero < 10 }

  @inline(__always) static func isBlank(_ byte: UInt8) -> Bool { byte == space || byte == tab }

  /// A control character that may not stand in a field value: all but HTAB (RFC 9110 section 5.5).
  @inline(__always) static func isForbiddenControl(_ byte: UInt8) -> Bool {
    (byte < space && byte != tab) || byte == delete
  }

  /// What no part of an answer's head may hold: a NUL, CR or LF within a line.
  static func hasLineBreakOrNUL(_ start: BytePointer, from: Int, to: Int) -> Bool {
    for i in from..<to where start[i] == 0 || start[i] == cr || start[i] == lf { return true }
    return false
  }

  @inline(__always) static func lowercased(_ byte: UInt8) -> UInt8 {
    byte &- 0x41 < 26 ? byte | 0x20 : byte
  }

  /// The value of a hexadecimal digit, or 255.
  @inline(__always) static func hexValue(_ byte: UInt8) -> UInt8 {
    if byte &- zero < 10 { return byte &- zero }
    let letter = byte | 0x20
    return letter &- 0x61 < 6 ? letter &- 0x61 &+ 10 : 255
  }
}

/// Eight bytes examined at once. A set high bit in a result marks a byte that was found; the marks below the first
/// one are exact, those above it may be wrong, which is all that a search from the front needs.
enum Word {
  static let ones: UInt64 = 0x0101_0101_0101_0101
  static let highs: UInt64 = 0x8080_8080_8080_8080

  @inline(__always) static func load(_ start: BytePointer, _ offset: Int) -> UInt64 {
    UInt64(littleEndian: UnsafeRawPointer(start).loadUnaligned(fromByteOffset: offset, as: UInt64.self))
  }

  @inline(__always) static func zeroBytes(_ word: UInt64) -> UInt64 { (word &- ones) & ~word & highs }

  @inline(__always) static func bytes(equalTo byte: UInt8, _ word: UInt64) -> UInt64 {
    zeroBytes(word ^ (ones &* UInt64(byte)))
  }

  /// Bytes below 0x20 and DEL. The subtraction is exact below the first mark as in `zeroBytes`.
  @inline(__always) static func controls(_ word: UInt64) -> UInt64 {
    ((word &- (ones &* 0x20)) & ~word & highs) | bytes(equalTo: Byte.delete, word)
  }
}

/// The offset of the first `byte` in `range`, or -1.
@inline(__always)
func firstOffset(of byte: UInt8, in start: BytePointer, from: Int, to: Int) -> Int {
  var i = from
  while i &+ 8 <= to {
    let found = Word.bytes(equalTo: byte, Word.load(start, i))
    if found != 0 { return i &+ found.trailingZeroBitCount &>> 3 }
    i &+= 8
  }
  while i < to {
    if start[i] == byte { return i }
    i &+= 1
  }
  return -1
}

/// The offset of the first CR or LF, or -1.
@inline(__always)
func firstLineEnd(in start: BytePointer, from: Int, to: Int) -> Int {
  var i = from
  while i &+ 8 <= to {
    let word = Word.load(start, i)
    let found = Word.bytes(equalTo: Byte.lf, word) | Word.bytes(equalTo: Byte.cr, word)
    if found != 0 { return i &+ found.trailingZeroBitCount &>> 3 }
    i &+= 8
  }
  while i < to {
    if start[i] == Byte.lf || start[i] == Byte.cr { return i }
    i &+= 1
  }
  return -1
}

/// The offset of the first control character other than HTAB, or `to`.
@inline(__always)
func firstForbiddenControl(in start: BytePointer, from: Int, to: Int) -> Int {
  var i = from
  while i &+ 8 <= to {
    if Word.controls(Word.load(start, i)) != 0 {
      for k in i..<(i &+ 8) where Byte.isForbiddenControl(start[k]) { return k }
    }
    i &+= 8
  }
  while i < to && !Byte.isForbiddenControl(start[i]) { i &+= 1 }
  return i
}

/// Compares without regard to case with a text that is lower-case already and as long.
@inline(__always)
func matches(_ start: BytePointer, _ lowercase: StaticString) -> Bool {
  let expected = lowercase.utf8Start
  for i in 0..<lowercase.utf8CodeUnitCount where Byte.lowercased(start[i]) != expected[i] { return false }
  return true
}

@inline(__always)
func matches(_ start: BytePointer, count: Int, _ lowercase: StaticString) -> Bool {
  count == lowercase.utf8CodeUnitCount && matches(start, lowercase)
}

/// Reads `1*DIGIT`. Nil where a byte is no digit, there is none, or the number is above `limit`.
func parseDecimal(_ start: BytePointer, count: Int, limit: UInt64 = UInt64(Int64.max)) -> UInt64? {
  guard count > 0 else { return nil }
  var value: UInt64 = 0
  for i in 0..<count {
    let digit = start[i] &- Byte.zero
    guard digit < 10 else { return nil }
    let (product, overflow) = value.multipliedReportingOverflow(by: 10)
    let (sum, carry) = product.addingReportingOverflow(UInt64(digit))
    guard !overflow, !carry, sum <= limit else { return nil }
    value = sum
  }
  return value
}

/// Calls for each element of a comma-separated list (RFC 9110 section 5.6.1), whitespace trimmed; empty elements
/// are passed over, as a recipient must.
@inline(__always)
func forEachListElement(_ start: BytePointer, count: Int, _ body: (BytePointer, Int) -> Void) {
  var from = 0
  while from <= count {
    let comma = firstOffset(of: Byte.comma, in: start, from: from, to: count)
    let end = comma < 0 ? count : comma
    let (first, last) = trimBlanks(start, from: from, to: end)
    if first < last { body(start + first, last - first) }
    from = end + 1
  }
}

/// Drops optional whitespace (RFC 9110 section 5.6.3) at both ends.
@inline(__always)
func trimBlanks(_ start: BytePointer, from: Int, to: Int) -> (Int, Int) {
  var first = from
  var last = to
  while first < last && Byte.isBlank(start[first]) { first &+= 1 }
  while last > first && Byte.isBlank(start[last &- 1]) { last &-= 1 }
  return (first, last)
}

extension UnsafeRawBufferPointer {
  /// The first byte; for an empty buffer without memory some address that is never read.
  @inline(__always) var bytePointer: BytePointer {
    if let base = baseAddress { return base.assumingMemoryBound(to: UInt8.self) }
    return BytePointer(bitPattern: 8)!
  }
}
