import LLMPoolEngine

/// The headers of an answer: names as received, values without the whitespace around them. Kept as they came, and made
/// into text when asked for.
public struct Headers: Sendable, Collection {
  public typealias Element = (name: String, value: String)
  public struct Index: Comparable, Sendable {
    /// Where the line begins among the bytes.
    fileprivate let start: Int
    public static func < (one: Index, other: Index) -> Bool { one.start < other.start }
  }
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

  public var startIndex: Index { Index(start: 0) }
  public var endIndex: Index { Index(start: bytes.count) }
  public func index(after index: Index) -> Index { Index(start: Swift.min(end(of: index) + 2, bytes.count)) }

  public subscript(index: Index) -> Element {
    let line = index.start..<end(of: index)
    let colon = bytes[line].firstIndex(of: UInt8(ascii: ":")) ?? line.upperBound
    let value = bytes[colon..<line.upperBound].dropFirst(2)
    return (String(decoding: bytes[line.lowerBound..<colon], as: UTF8.self), String(decoding: value, as: UTF8.self))
  }

  /// Of the line, without what ends it.
  private func end(of index: Index) -> Int {
    bytes[index.start...].firstIndex(of: UInt8(ascii: "\r")) ?? bytes.count
  }
}
