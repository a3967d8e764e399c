/// A line of a stream of events (HTML Living Standard, section 9.2.6): the name is all before the first colon, the
/// value what follows it, without one space.
struct SSEField {
  private let name: UnsafeRawBufferPointer
  let value: UnsafeRawBufferPointer

  @inline(__always)
  init(_ line: BytePointer, _ count: Int) {
    let colon = firstOffset(of: Byte.colon, in: line, from: 0, to: count)
    var first = colon < 0 ? count : colon &+ 1
    if first < count, line[first] == Byte.space { first &+= 1 }
    name = UnsafeRawBufferPointer(start: line, count: colon < 0 ? count : colon)
    value = UnsafeRawBufferPointer(start: line + first, count: count &- first)
  }

  /// Names of fields are compared as they are, case included.
  @inline(__always)
  func isNamed(_ expected: StaticString) -> Bool {
    guard name.count == expected.utf8CodeUnitCount else { return false }
    for i in 0..<name.count where name[i] != expected.utf8Start[i] { return false }
    return true
  }
}
