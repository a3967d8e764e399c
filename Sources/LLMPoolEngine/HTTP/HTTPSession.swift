import LLMPoolCore

/// What speaks HTTP on an open connection (`SessionTransport`). Calls come on the engine's thread; what happens is told
/// to the engine (`SessionHost`), which tells the core. Nothing is sent before `flush`, which the engine calls once a
/// turn.
///
/// A session holds its transport and its host as constants, for it calls them several times a request: what is
/// reached by a constant is not counted at each call, as it is by an `unowned(unsafe)` reference. The transport lets
/// the session go when it is closed.
protocol HTTPSession: AnyObject {
  /// Queues the request for sending.
  func begin(_ request: RequestState)
  /// Bytes from the peer.
  func receive(_ bytes: UnsafeRawBufferPointer)
  /// The peer ended its side (`failure` nil; `clean`: not cut off within TLS), or reading failed.
  func endOfInput(clean: Bool, failure: Fault?)
  /// Gives the request up; nothing is told about it any more.
  func abort(_ request: RequestState)
  /// Writes what there is to write.
  func flush()
  /// False while what was received is held by the application.
  var wantsInput: Bool { get }
  /// The application has released bytes of this answer.
  func credit(_ request: RequestState, _ bytes: Int)
  /// Pieces of an upload are there to be sent.
  func bodyArrived(_ request: RequestState)
  /// Asks the peer for a sign of life.
  func ping()
  /// The answer to a PING has not come in time: what waits for it goes on.
  func releaseResets()
  /// The last words before the stream is closed.
  func sayGoodbye()
}
