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
