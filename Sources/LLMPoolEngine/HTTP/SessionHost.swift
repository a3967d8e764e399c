import LLMPoolCore

/// Whom a session tells what becomes of the requests on it: the way up, as `HTTPSession` is the way down. The engine is
/// one; a test is another, with neither a thread nor a core.
///
/// Calls come on the engine's thread. They change what is known of a request and tell the core, which decides; what it
/// decides is done later in the turn. No action runs inside a session's call: none of these calls begins, aborts or
/// credits a request, or closes the connection, before the session has returned. Only `answerBody` may give up the
/// request that it is called for, by `abort`, as no more of its body is wanted.
protocol SessionHost: AnyObject {
  /// The window of each HTTP/2 stream: so many bytes of an answer the application may be left to hold.
  var streamWindow: Int { get }
  /// What the HTTP/2 sessions of a thread share.
  var http2Workspace: Http2Workspace { get }

  /// An event of the connection: a GOAWAY, SETTINGS, a sign of life.
  func tell(_ event: Event)
  /// Bytes of the request went out, or its clock changes for another reason.
  func progressed(_ request: RequestState, _ phase: Phase)
  /// Its last byte went out.
  func sent(_ request: RequestState)
  /// Bytes of a piece of an upload were taken: they cannot be sent again.
  func uploadTaken(_ request: RequestState, _ taken: Upload.Taken)
  /// All that came of an upload was sent, and more is to come.
  func uploadWaits(_ request: RequestState)
  /// Bytes of the answer came.
  func received(_ request: RequestState)
  /// The head of the answer is here. `headers` nil: they are in the answer already, and there is no reason phrase.
  func answerHead(
    _ request: RequestState, status: UInt16, version: AnswerVersion, reason: UnsafeRawBufferPointer,
    headers: UnsafeRawBufferPointer?)
  /// Takes bytes of the body; returns how many of them the session may credit at once. `isWhole`: it believes that
  /// nothing came before or comes after them.
  @discardableResult
  func answerBody(_ request: RequestState, _ bytes: UnsafeRawBufferPointer, isWhole: Bool) -> Int
  /// The attempt is over; the session has forgotten it. `reusable`: of HTTP/1, the connection may carry another.
  func finished(_ request: RequestState, _ outcome: Outcome, reusable: Bool)
}
