import LLMPoolEngine

/// The headers of an answer: names as received, values without the whitespace around them. Kept as they came, and made
/// into text when asked for.
public struct Headers: Sendable, RandomAccessCollection {
  public typealias Element = (name: String, value: String)
  /// A line each, "name: value\r\n".
  private let bytes: [UInt8]

  init(_ block: EventBytes) {
    bytes = Array(UnsafeRawBufferPointer(start: block.base, count: block.count))
  }

  /// The first value of a header, names compared without regard to case.
  public subscript(name: String) -> String? {
    var name = name
    return name.withUTF8 { name in
      bytes.withUnsafeBytes { block in
        headerValue(UnsafeRawBufferPointer(name), in: block).map { String(decoding: $0, as: UTF8.self) }
      }
    }
  }

  public var startIndex: Int { 0 }
  public var endIndex: Int { lines.count }
  public subscript(index: Int) -> Element { element(lines[index]) }
  public func makeIterator() -> some IteratorProtocol<Element> { lines.lazy.map(element).makeIterator() }

  /// Where each lies, without its end.
  private var lines: [Range<Int>] {
    var lines: [Range<Int>] = []
    var start = 0
    while let end = bytes[start...].firstIndex(of: UInt8(ascii: "\r")) {
      lines.append(start..<end)
      start = end + 2
    }
    return lines
  }

  private func element(_ line: Range<Int>) -> Element {
    let colon = bytes[line].firstIndex(of: UInt8(ascii: ":")) ?? line.upperBound
    let value = bytes[colon..<line.upperBound].dropFirst(2)
    return (String(decoding: bytes[line.lowerBound..<colon], as: UTF8.self), String(decoding: value, as: UTF8.self))
  }
}
