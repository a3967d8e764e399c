/// One "name: value" line without its line end (RFC 9112 section 5).
struct FieldLine {
  var nameCount: Int
  var valueStart: Int
  var valueEnd: Int
  /// Written as "name: value", no more and no less whitespace.
  var isCanonical: Bool

  @inline(__always)
  static func parse(
    _ start: BytePointer, from: Int, to: Int, line: Int, in place: WireError.Field
  ) throws(WireError) -> FieldLine {
    var colon = from
    while colon < to, Byte.isToken(start[colon]) { colon &+= 1 }
    guard colon > from, colon < to, start[colon] == Byte.colon else {
      throw nameError(start, from, to, colon, line, place)
    }
    var first = colon &+ 1
    var last = to
    while first < last, Byte.isBlank(start[first]) { first &+= 1 }
    while last > first, Byte.isBlank(start[last &- 1]) { last &-= 1 }
    if firstForbiddenControl(in: start, from: first, to: last) != last {
      try check(start, first, last, line: line, in: place, name: ShortName(start + from, count: colon - from))
    }
    let isCanonical = first == colon &+ 2 && start[colon &+ 1] == Byte.space && last == to
    return FieldLine(nameCount: colon &- from, valueStart: first, valueEnd: last, isCanonical: isCanonical)
  }

  /// Refuses a value's control characters. Of those in an answer every reader takes all but NUL and CR for what they
  /// are, and RFC 9110, section 5.5, leaves them to the recipient; nobody may send one.
  @inline(never)
  static func check(
    _ start: BytePointer, _ from: Int, _ to: Int, line: Int, in place: WireError.Field, name: ShortName = ShortName()
  ) throws(WireError) {
    if place == .headers {
      guard firstForbiddenControl(in: start, from: from, to: to) == to else {
        throw WireError(
          place, "control character in the value; only visible characters, space and tab are allowed", line: line,
          name: name)
      }
    } else if Byte.hasLineBreakOrNUL(start, from: from, to: to) {
      throw WireError(place, "a NUL or a carriage return in the value", line: line, name: name)
    }
  }

  @inline(never)
  private static func nameError(
    _ start: BytePointer, _ from: Int, _ to: Int, _ stop: Int, _ line: Int, _ place: WireError.Field
  ) -> WireError {
    if from == to { return WireError(place, "the line is empty", line: line) }
    if stop == to { return WireError(place, "no colon; expected \"name: value\"", line: line) }
    if stop == from {
      if Byte.isBlank(start[from]) {
        let reason: StaticString =
          place == .headers ? "begins with whitespace; folded lines are not allowed" : "begins with whitespace"
        return WireError(place, reason, line: line)
      }
      if start[from] == Byte.colon {
        return WireError(place, "the name is empty, or begins with a colon", line: line)
      }
    }
    if stop > from, Byte.isBlank(start[stop]) {
      return WireError(place, "whitespace in or after the name; the colon must follow it at once", line: line)
    }
    return WireError(place, "character {1} of the name is not allowed in a token", UInt64(stop - from + 1), line: line)
  }
}
