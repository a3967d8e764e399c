/// Tells when an event of a stream of events (HTML Living Standard, section 9.2.6) ends that says something, without
/// keeping the stream: for answers that somebody else parses. It sees the same events as `SSEParser`.
public struct EventWatch: Sendable {
  /// Types of events by which a server only says that it is there, if nothing else is said. Anthropic sends `ping`.
  public static let usualQuietNames = "ping,keepalive"

  /// The names in a list with commas, blanks around them left out.
  public static func names(_ list: String) -> [[UInt8]] {
    var names: [[UInt8]] = []
    Array(list.utf8).withUnsafeBytes { bytes in
      forEachListElement(bytes.bytePointer, count: bytes.count) { start, count in
        names.append(Array(UnsafeRawBufferPointer(start: start, count: count)))
      }
    }
    return names
  }

  /// Events of these types say nothing.
  private let quietNames: [[UInt8]]
  /// So do those without a name, whose type is "message".
  private let unnamedIsQuiet: Bool
  /// The beginning of the line at hand where it came in pieces, as much of it as a quiet event's name may take.
  private var beginning: [UInt8] = []
  private let kept: Int
  private var isFirstLine = true
  /// The last byte was a CR that ended a line: a LF belongs to it.
  private var skipsLF = false
  private var hasData = false
  private var isQuiet: Bool

  public init(quietNames: [[UInt8]]) {
    self.quietNames = quietNames
    unnamedIsQuiet = quietNames.contains { $0.elementsEqual("message".utf8) }
    isQuiet = unnamedIsQuiet
    // A byte order mark, "event: ", the longest name, and one that it would be too long by.
    kept = 3 + 7 + (quietNames.map(\.count).max() ?? 0) + 1
  }

  /// Takes the next bytes; true where an event that says something ends in them.
  public mutating func take(_ input: UnsafeRawBufferPointer) -> Bool {
    let start = input.bytePointer
    let count = input.count
    var isHeard = false
    var position = 0
    if skipsLF, count > 0 {
      skipsLF = false
      if start[0] == Byte.lf { position = 1 }
    }
    while position < count {
      let lineEnd = firstLineEnd(in: start, from: position, to: count)
      guard lineEnd >= 0 else {
        keep(start + position, count &- position)
        break
      }
      if beginning.isEmpty {
        if takeLine(start + position, lineEnd &- position) { isHeard = true }
      } else {
        keep(start + position, lineEnd &- position)
        let line = beginning
        beginning.removeAll(keepingCapacity: true)
        if line.withUnsafeBytes({ takeLine($0.bytePointer, $0.count) }) { isHeard = true }
      }
      position = lineEnd &+ 1
      if start[lineEnd] == Byte.cr {
        if position == count { skipsLF = true } else if start[position] == Byte.lf { position &+= 1 }
      }
    }
    return isHeard
  }

  private mutating func keep(_ start: BytePointer, _ count: Int) {
    let room = min(count, kept - beginning.count)
    if room > 0 { beginning.append(contentsOf: UnsafeRawBufferPointer(start: start, count: room)) }
  }

  /// A line, or its beginning where it is long. True: it ended an event that says something.
  private mutating func takeLine(_ start: BytePointer, _ count: Int) -> Bool {
    var line = UnsafeRawBufferPointer(start: start, count: count)
    if isFirstLine {
      isFirstLine = false
      if line.starts(with: "\u{FEFF}".utf8) { line = UnsafeRawBufferPointer(rebasing: line[3...]) }
    }
    guard line.count > 0 else {
      defer { (hasData, isQuiet) = (false, unnamedIsQuiet) }
      return hasData && !isQuiet
    }
    let field = SSEField(line.bytePointer, line.count)
    if field.isNamed("data") {
      hasData = true
    } else if field.isNamed("event") {
      let name = field.value
      isQuiet = name.count == 0 ? unnamedIsQuiet : quietNames.contains { $0.elementsEqual(name) }
    }
    return false
  }
}
