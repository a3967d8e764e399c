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
  /// Requests have come from applications that are busy, for how long their answers may be put off; 0: of one that is
  /// not. Nil: none have come, or somewhere a queue with requests never puts off a wake.
  var patience: Int64?
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

  /// Who has its answers told together within a time has its requests sent together within this part of it.
  static let napPart: Int64 = 8
  static let longestNap: Int64 = 200_000

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
    if let patience = situation.patience, patience > 0, !situation.isPressed {
      let nap = min(patience / Resting.napPart, Resting.longestNap)
      return .napping(alarm: min(situation.due, situation.now + nap))
    }
    if let putOff = situation.putOff, putOff > 0, !situation.isPressed {
      return .asleep(.nobody, alarm: min(situation.due, situation.now + min(putOff, Resting.longestDoze)))
    }
    return .asleep(.thread, alarm: situation.due)
  }
}
