import Glibc

/// "Connection refused": the text of an errno. `strerror` is not thread-safe, and resolver threads come here too.
func errnoText(_ code: Int32) -> String {
  withUnsafeTemporaryAllocation(of: CChar.self, capacity: 128) { buffer in
    buffer.initialize(repeating: 0)
    // Swift imports the POSIX form, which fills the buffer.
    guard strerror_r(code, buffer.baseAddress!, buffer.count) == 0 else { return "error \(code)" }
    let text = String(cString: buffer.baseAddress!)
    return text.isEmpty ? "error \(code)" : text
  }
}
