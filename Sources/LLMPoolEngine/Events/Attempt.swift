import LLMPoolCore

/// One sending of a request, beside its answer: what the engine knows of it. The next begins with new ones, whole.
struct Attempt {
  /// nil before the first sending, and once the core knows that it is over.
  var id: AttemptID?
  /// Which of the request's it is, from 1; 0 before the first sending.
  var number: UInt32 = 0
  /// Kept until the request ends, for what DONE says of it.
  private(set) var connection: Connection?
  private(set) var isReused = false
  /// Over HTTP/2, while the session has it, which takes it back.
  unowned(unsafe) var stream: Http2Stream?
  /// The engine counts it among those that are being sent.
  var isSending = false
  /// Bytes of the body that were handed to the connection.
  var bodySent = 0
  /// Bytes of the answer's body that have come.
  var bodyReceived = 0
  /// All that the application brought of an upload is on its way: the core was told that its write clock stands.
  var isUploadWaiting = false
  /// When the core was told last that something came.
  var heardAt: Int64 = 0
  var timings = TimingsRecord()
  /// What went wrong, for people; set before the core is told.
  var failureMessage: String?

  /// One that has not begun; `number`: of the one before.
  init(after number: UInt32 = 0) { self.number = number }

  mutating func begin(_ id: AttemptID, on connection: Connection, isReused: Bool) {
    self.id = id
    number += 1
    self.connection = connection
    self.isReused = isReused
  }

  /// The request is over: the connection may go.
  mutating func leave() { connection = nil }
}
