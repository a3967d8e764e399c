/// What a shared budget was lent, and how it asks for more.
struct Lease {
  var options: ShareOptions
  /// How its buckets fill: never `alone`.
  var filling = Bucket.Filling.safe
  /// Unless the safe share is spent.
  var validUntil = Instant.never
  /// The last, from its ask on.
  var validFor = Nanoseconds.seconds(2)
  /// As the last grant said; 0: none has.
  var members = 0
  var places = Int.max
  /// Of the last ask; those of a pool are all different.
  var sequence: UInt64 = 0
  /// That ask has not been answered yet, and was made then; `never`: it has.
  var askedAt = Instant.never
  var lastAskAt: Instant
  /// It was said that one is wanted, and nobody has asked since.
  var isWantTold = false
  /// At once: it is the first, there is a new limit, or an answer has stopped it.
  var isUrgent = true
  /// Before this, but for the few that may be made at once, no more is asked for because something is lacking.
  var asksAt: Instant
  /// When it was counted last what is spent in a second.
  var countedAt: Instant
  /// The last request that came.
  var usedAt: Instant
  /// Nobody uses it, and so nothing is asked for.
  var isAsleep = false
  /// An answer to a request of this process has stopped it until then.
  var stoppedUntil: Instant
  var lapses = 0

  init(_ options: ShareOptions, now: Instant) {
    self.options = options
    lastAskAt = now
    asksAt = now
    countedAt = now
    usedAt = now
    stoppedUntil = now
  }

  /// Of each limit, what is this process's where nothing is lent.
  var share: Double { members > 0 ? 1 / Double(members) : options.safeShare }

  func isOver(_ now: Instant) -> Bool { filling != .safe && validUntil <= now }
}
