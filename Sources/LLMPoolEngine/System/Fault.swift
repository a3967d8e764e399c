import LLMPoolCore

/// What went wrong: the status, and a line for the person who reads the log. Of a call that is refused it names the
/// field and what was expected; of a lookup, a dial, a handshake, a read or a write the reason that the system, OpenSSL
/// or libcurl gave. It never holds a secret: credentials of a proxy are kept apart from its URL (see `ProxySettings`).
package struct Fault: Error, Equatable, Sendable {
  package let failure: Failure
  package let message: String
  package init(_ failure: Failure, _ message: String) {
    self.failure = failure
    self.message = message
  }
}
