/// What the engine's thread is doing, for whoever brings it something.
///
/// A call crosses two threads: the engine's is woken to send it, the caller's to take its answer. Where it is the only
/// one of the pool, the caller's thread can do both. So while the engine's thread sleeps, somebody has the ear: whom
/// the sockets wake. The thread decides whose it is as it falls asleep, by `Resting.decide`, and nobody else ever
/// changes it.
///
/// | | awake | asleep, ear: thread | ear: a queue | ear: nobody |
/// |---|---|---|---|---|
/// | a lone request of the queue | - | wakes the thread | its caller takes the turn | wakes the thread |
/// | any other message | - | wakes the thread | wakes the thread | wakes the thread |
/// | a socket | the next look | wakes the thread | who waits for the queue takes the turn | waits for the alarm |
/// | the alarm | - | wakes the thread | wakes the thread | wakes the thread |
enum Rest: Equatable {
  /// It looks at the messages before it sleeps: nobody need wake it.
  case awake
  /// Until a message, or the alarm, which is never later than what is due.
  case asleep(Ear, alarm: Int64)

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

/// What there is to know when the engine's thread is about to sleep.
struct Situation {
  var now: Int64 = 0
  /// When the first of everything that has a time is due.
  var due = Int64.max
  /// Connections are being made: libcurl's descriptors are for the thread alone.
  var isDialing = false
  /// Something waits for a socket though nobody need hear of it: a request for a connection, the rest of a request to
  /// be sent.
  var isPressed = false
  /// Requests of the pool that are not over.
  var live = 0
  var streak = Streak()
  /// For how long at the least the wake of every queue with requests is put off; nil: of one it is not.
  var putOff: Int64?
}

/// Decides who has the ear. Remembers how long nothing has happened, and nothing else.
struct Resting {
  /// A queue has the ear after so many lone requests: threads that call by turns would only make it change hands.
  static let loneRequests = 3
  /// The thread looks at everything itself every so often, in nanoseconds, so that nothing depends on what the
  /// application's threads do: they may be stopped, wait for a lock of their language, or never drain. Longer each time
  /// while a request waits for its answer and no other comes.
  static let shortestDoze: Int64 = 10_000_000
  static let longestDoze: Int64 = 40_000_000

  private var seenCount = 0
  private var doze = shortestDoze

  mutating func decide(_ situation: Situation) -> Rest {
    let streak = situation.streak
    let hasNews = streak.count != seenCount
    seenCount = streak.count
    guard !situation.isDialing else { return .asleep(.thread, alarm: situation.due) }
    if let queue = streak.queue, streak.count >= Resting.loneRequests,
      situation.live == 1 || (situation.live == 0 && hasNews)
    {
      doze = hasNews ? Resting.shortestDoze : min(2 * doze, Resting.longestDoze)
      return .asleep(.queue(queue), alarm: min(situation.due, situation.now + doze))
    }
    if let putOff = situation.putOff, putOff > 0, !situation.isPressed {
      return .asleep(.nobody, alarm: min(situation.due, situation.now + min(putOff, Resting.longestDoze)))
    }
    return .asleep(.thread, alarm: situation.due)
  }
}
