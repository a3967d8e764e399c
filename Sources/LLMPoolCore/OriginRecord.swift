struct OriginRecord {
  var isKnown = false
  var isTLS = false
  /// What its connections speak; nil while only ALPN could tell.
  var version: WireVersion?
  var host: Int32 = -1
  /// Requests that are not over yet.
  var requests = 0
  /// Waiters that count on a dial, and those that do not.
  var covered = IndexedHeap()
  var uncovered = IndexedHeap()
  var connections = SlotList()
  /// Idle h1 connections, the most recently used last.
  var idle = SlotList()
  /// h2 connections with room, the fullest first.
  var room = IndexedHeap()
  var dialing = 0
  /// Open connections that take new requests.
  var usable = 0
  /// What the server's SETTINGS allowed last.
  var streamsAllowed: Int?
  /// Consecutive dials that failed, how the last of them did, and until when no other is begun.
  var dialFailures = 0
  var dialFailure: Failure?
  var redialAt = Instant(nanoseconds: .min)
  var breaker = Breaker()
  /// When bytes of an answer came last.
  var heardAt = Instant(nanoseconds: .min)
  /// Since when it waits at the total limit; `never` while it does not.
  var blockedSince = Instant.never
  /// In which of the two lists it waits: it had no connection when it came.
  var isBlockedWithout = false
  /// When another origin has to give a connection up for it; `never` once one has.
  var reliefAt = Instant.never
  /// How many connections `warm` asked for while it was unknown whether one will do.
  var warmTarget = 0
  var lastUsed = Instant.never
  /// Its counts have changed since somebody asked.
  var isTouched = false
  var counters = Counters()
  var reasons = ReasonCounts()
  /// They have changed since somebody asked.
  var hasNewReasons = false

  var waiting: Int { covered.count + uncovered.count }
}
