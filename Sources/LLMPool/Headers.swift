import LLMPoolEngine

/// The headers of a request or an answer, in their order; a name may come several times. Kept as lines, as they go over
/// the wire, and made into text when asked for.
public struct Headers: Sendable, Collection {
  public typealias Element = (name: String, value: String)
  public struct Index: Comparable, Sendable {
    /// Where the line begins among the bytes.
    fileprivate let start: Int
    public static func < (one: Index, other: Index) -> Bool { one.start < other.start }
  }
  /// A line each, "name: value\r\n".
  private(set) var bytes: [UInt8] = []

  public init() {}

  public init(_ fields: some Sequence<(name: String, value: String)>) {
    for (name, value) in fields { append(name, value) }
  }

  init(_ block: EventBytes) {
    bytes = Array(UnsafeRawBufferPointer(start: block.base, count: block.count))
  }

  /// The first value of a header, names compared without regard to case. Set, it takes the place of all there are, at
  /// the end; nil removes them.
  public subscript(name: String) -> String? {
    get {
      var name = name
      return name.withUTF8 { name in
        bytes.withUnsafeBytes { block in
          headerValue(UnsafeRawBufferPointer(name), in: block).map { String(decoding: $0, as: UTF8.self) }
        }
      }
    }
    set {
      removeAll(named: name)
      if let newValue { append(name, newValue) }
    }
  }

  /// All values of a header, in their order.
  public func values(of name: String) -> [String] {
    let wanted = name.lowercased()
    return filter { $0.name.lowercased() == wanted }.map(\.value)
  }

  /// Adds one, also where there are some of that name. What no header can have, a line break, or a colon in its name,
  /// becomes a NUL, with which no request is sent: `Pool.send` throws `E_INVALID_ARGUMENT`.
  public mutating func append(_ name: String, _ value: String) {
    bytes.append(name) { $0 == 0x0D || $0 == 0x0A || $0 == 0x3A }
    bytes += [0x3A, 0x20]
    bytes.append(value) { $0 == 0x0D || $0 == 0x0A }
    bytes += [0x0D, 0x0A]
  }

  /// Removes all of that name, compared without regard to case.
  public mutating func removeAll(named name: String) {
    let wanted = name.lowercased()
    var index = startIndex
    while index < endIndex {
      let next = self.index(after: index)
      if self[index].name.lowercased() == wanted {
        bytes.removeSubrange(index.start..<next.start)
      } else {
        index = next
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

extension Headers: ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral {
  public init(arrayLiteral fields: Element...) { self.init(fields) }
  public init(dictionaryLiteral fields: (String, String)...) { self.init(fields.map { (name: $0, value: $1) }) }
}

extension Headers: Equatable {
  /// The same names, whatever their case, with the same values in the same order.
  public static func == (one: Headers, other: Headers) -> Bool {
    one.elementsEqual(other) { $0.name.lowercased() == $1.name.lowercased() && $0.value == $1.value }
  }
}

/// The names alone: a value may be a key, and whatever is printed ends in a log.
extension Headers: CustomStringConvertible, CustomReflectable {
  public var description: String { "\(map(\.name))" }
  public var customMirror: Mirror { Mirror(self, unlabeledChildren: map(\.name), displayStyle: .collection) }
}

extension [UInt8] {
  fileprivate mutating func append(_ text: String, refusing isRefused: (UInt8) -> Bool) {
    let start = count
    append(contentsOf: text.utf8)
    for index in start..<count where isRefused(self[index]) { self[index] = 0 }
  }
}
