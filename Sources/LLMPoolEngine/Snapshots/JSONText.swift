/// A JSON text while it is written (RFC 8259).
struct JSONText {
  private(set) var bytes: [UInt8] = []

  mutating func object(_ body: (inout JSONText) -> Void) { enclosed("{", "}", body) }
  mutating func array(_ body: (inout JSONText) -> Void) { enclosed("[", "]", body) }

  /// What is written next is the value of this name.
  mutating func name(_ name: String) {
    string(name)
    put(":")
  }

  mutating func object(_ name: String, _ body: (inout JSONText) -> Void) {
    self.name(name)
    object(body)
  }
  mutating func array(_ name: String, _ body: (inout JSONText) -> Void) {
    self.name(name)
    array(body)
  }
  mutating func field(_ name: String, _ value: some BinaryInteger) {
    self.name(name)
    number(value)
  }
  /// Of a finite one.
  mutating func field(_ name: String, _ value: Double) {
    self.name(name)
    put("\(value)")
  }
  mutating func field(_ name: String, _ value: String) {
    self.name(name)
    string(value)
  }

  mutating func number(_ value: some BinaryInteger) {
    separate()
    put("\(value)")
  }

  private mutating func string(_ text: String) {
    separate()
    put("\"")
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"):
        bytes.append(UInt8(ascii: "\\"))
        bytes.append(byte)
      case 0..<0x20:
        put("\\u00")
        bytes.append(contentsOf: [byte >> 4, byte & 15].map { $0 < 10 ? 0x30 + $0 : 0x57 + $0 })
      default: bytes.append(byte)
      }
    }
    put("\"")
  }

  private mutating func enclosed(_ start: String, _ end: String, _ body: (inout JSONText) -> Void) {
    separate()
    put(start)
    body(&self)
    put(end)
  }

  /// From what stands before it in the same object or array.
  private mutating func separate() {
    guard let last = bytes.last, !"{[:".utf8.contains(last) else { return }
    put(",")
  }

  private mutating func put(_ text: String) { bytes.append(contentsOf: text.utf8) }
}
