import CLLMPoolSystem
import Glibc
import LLMPoolCore

/// Why a name, a dial, a handshake, a read or a write failed: the status, and a line for the person who reads the
/// log. The message names host, address and the reason that the system, OpenSSL or libcurl gave. It never holds a
/// secret: credentials of a proxy are kept apart from its URL (see `ProxySettings`).
package struct TransportFailure: Error, Equatable, Sendable {
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

/// Monotonic time in nanoseconds, the engine's clock.
package func monotonicNow() -> Int64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
}

enum Libraries {
  /// Initialises OpenSSL and libcurl once per process, in this order: libcurl would initialise OpenSSL with an atexit
  /// handler that frees OpenSSL's state under the feet of the engine thread when a process exits with requests
  /// in flight.
  static let initialized: Bool = {
    let ssl = OPENSSL_init_ssl(UInt64(OPENSSL_INIT_NO_ATEXIT), nil)
    return ssl == 1 && curl_global_init(Int(CURL_GLOBAL_NOTHING)) == CURLE_OK
  }()
}
