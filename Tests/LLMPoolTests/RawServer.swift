import Glibc
import LLMPoolTestSupport

/// A server of one connection, which sends what `answer` makes of all that it has received since it last answered,
/// asked after each piece; nil: it reads on.
struct RawServer {
  let url: String
  private let thread: TestThread

  /// - Parameter closes: the connection, after the first answer.
  init(closes: Bool = false, _ answer: @escaping @Sendable (String) -> String?) {
    let listener = Listener()
    url = "http://127.0.0.1:\(listener.port)/"
    thread = TestThread {
      let peer = listener.acceptOne()
      defer {
        close(peer)
        listener.close()
      }
      var received = ""
      while case let piece = receiveSome(peer), !piece.isEmpty {
        received += piece
        guard let text = answer(received) else { continue }
        sendAll(peer, text)
        received = ""
        if closes { return }
      }
    }
  }

  /// Until the client has closed the connection.
  func waitForEnd() { thread.join() }
}
