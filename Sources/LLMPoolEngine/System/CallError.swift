import Glibc
import LLMPoolCore

/// A call of the application that is refused at once: which status, and what was wrong with which field.
package struct CallError: Error, Equatable, Sendable {
  package let failure: Failure
  package let message: String
  package init(_ failure: Failure, _ message: String) {
    self.failure = failure
    self.message = message
  }
}

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
