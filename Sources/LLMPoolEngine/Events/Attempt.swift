import LLMPoolCore

/// One sending of a request: what the engine knows of it, and what has come of its answer. The next begins with a new
/// one, whole.
struct Attempt {
  /// nil before the first sending, and once the core knows that it is over.
  var id: AttemptID?
  /// Which of the request's it is, from 1; 0 before the first sending.
  var number: UInt32 = 0
  /// Kept until the request ends, for what DONE says of it.
  private(set) var connection: Connection?
  private(set) var isReused = false
  /// Over HTTP/2.
  var streamID: Int32 = 0
  /// The engine counts it among those that are being sent.
  var isSending = false
  /// Bytes of the body that were handed to the connection.
  var bodySent = 0
  /// Bytes of the answer's body that have come.
  var bodyReceived = 0
  /// All that the application brought of an upload is on its way: the core was told that its write clock stands.
  var isUploadWaiting = false
  var timings = TimingsRecord()
  let answer: Answer
  /// What went wrong, for people; set before the core is told.
  var failureMessage: String?

  /// Of a request that was not sent yet.
  init() { answer = Answer() }

  /// `last`: where nothing was ever sent its answer has nothing in it, and is taken.
  init(_ id: AttemptID, on connection: Connection, isReused: Bool, after last: Attempt) {
    self.id = id
    self.connection = connection
    self.isReused = isReused
    number = last.number + 1
    answer = last.connection == nil ? last.answer : Answer()
  }

  /// The request is over: the connection may go.
  mutating func leave() { connection = nil }
}
