/// A completion queue as this engine sees it: what will be put in at the end of the turn.
final class QueuePort {
  let queue: CompletionQueue
  var staged: [UnsafeMutablePointer<EventRecord>] = []
  /// Requests in flight.
  var live = 0
  /// An answer waits for the application to take what is here.
  var isPressed = false
  /// When its wake is due, which was put off.
  var wakeDue: Int64?
  init(_ queue: CompletionQueue) { self.queue = queue }
}
