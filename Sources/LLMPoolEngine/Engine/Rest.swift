/// What the engine's thread is doing, for whoever brings it something.
///
/// A call crosses two threads: the engine's is woken to send it, the caller's to take its answer. Where it is the only
/// one of the pool, the caller's thread can do both. So while the engine's thread sleeps, somebody has the ear: whom
/// the sockets wake. The thread decides whose it is as it falls asleep, by `Resting.decide`, and nobody else ever
/// changes it.
///
/// | | awake | asleep, ear: thread | ear: a queue | ear: nobody | a nap |
/// |---|---|---|---|---|---|
/// | a lone request of the queue | - | wakes | its caller takes the turn | wakes | wakes |
/// | one of a busy application whose wakes are put off | - | wakes | wakes | wakes | waits for the alarm |
/// | any other message | - | wakes | wakes | wakes | wakes |
/// | a socket | the next look | wakes | who waits for the queue takes the turn | waits for the alarm | the same |
/// | the alarm | - | wakes | wakes | wakes | wakes |
enum Rest: Equatable {
  /// It looks at the messages before it sleeps: nobody need wake it.
  case awake
  /// Until a message, or the alarm, which is never later than what is due.
  case asleep(Ear, alarm: Int64)
  /// For a moment after requests of applications that are busy with what they took: others follow, and to be waked for
  /// each costs more than to send it.
  case napping(alarm: Int64)

  var isNap: Bool { if case .napping = self { true } else { false } }

  func isHeard(by queue: ObjectIdentifier) -> Bool {
    if case .asleep(.queue(queue), _) = self { return true }
    return false
  }
}

/// Whom the sockets wake.
enum Ear: Equatable {
  /// The engine's own, in epoll.
  case thread
  /// The engine's epoll hangs in the descriptor of the queue: whoever waits for that takes the turns.
  case queue(ObjectIdentifier)
  /// The wake of every queue is put off: what comes would be told to no one.
  case nobody
}

/// Requests that were each the only one of the pool, one after the other by the same queue.
struct Streak: Equatable {
  private(set) var queue: ObjectIdentifier?
  private(set) var count = 0

  /// Counts a request; `isLone`: it is the only one, and its queue's threads can take turns.
  mutating func note(_ queue: ObjectIdentifier, isLone: Bool) {
    guard isLone else { return end() }
    if self.queue != queue { (self.queue, count) = (queue, 0) }
    count += 1
  }
  mutating func end() { (queue, count) = (nil, 0) }
}
