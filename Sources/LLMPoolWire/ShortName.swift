/// The beginning of a header's name, kept inside an error so that the error stays a trivial value.
struct ShortName: Sendable {
  private static let capacity = 32
  private var bytes: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
  private var count: Int = 0

  init() {}

  init(_ start: UnsafePointer<UInt8>, count: Int) {
    self.count = count
    withUnsafeMutableBytes(of: &bytes) { target in
      for i in 0..<min(count, ShortName.capacity) { target[i] = start[i] }
    }
  }

  var description: String {
    withUnsafeBytes(of: bytes) { source in
      let kept = min(count, ShortName.capacity)
      let text = String(decoding: source[0..<kept], as: UTF8.self)
      return count > kept ? text + "..." : text
    }
  }
}
