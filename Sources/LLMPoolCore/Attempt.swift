/// One sending of a request, from its assignment to a connection on. The next begins with a new one, whole.
struct Attempt {
  /// Each has its own: what the engine says of one that is over does not touch the one that runs.
  var sequence: UInt32 = 0
  /// -1 once it was taken off it.
  var connection: Int32 = -1
  /// Sent on a connection whose SETTINGS had not come, where so many streams ran then, with this one; 0: they had.
  var streamsBeforeSettings = 0
  var clock = Clock.none
  /// When the clock was restarted last.
  var clockSince = Instant.never
  /// Its bytes went out or came in, so that the server may have acted on it.
  var hasProgress = false
  var isSent = false
  /// The first byte of the answer is here, maybe before the last byte of the request went out.
  var hasAnswer = false
  /// The whole head is, too.
  var hasHead = false
  /// Its answer is a stream of events: when the last that says something came, or the head, or the application opened
  /// the window again. `never`: it is none.
  var eventsSince = Instant.never
  /// The application holds the stream's window closed.
  var isHeld = false

  enum Clock: UInt8 { case none, write, firstByte, read }
}
