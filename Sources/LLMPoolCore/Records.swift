/// A request that is not over yet.
struct RequestRecord {
  enum State: UInt8 {
    /// The slot is unused. Can transition to: pending, active
    case free
    /// In one of its origin's queues. Can transition to: active, backingOff, free
    case pending
    /// On a connection. Can transition to: pending (sent again at once), backingOff, free
    case active
    /// Waits to be tried again. Can transition to: pending, free
    case backingOff
  }
  var id = RequestID(value: 0)
  var state = State.free
  /// Waits for a dial that serves it: its pool clock stands still, its connect clock runs.
  var isCovered = false
  /// Waited for half of its pool timeout since it was queued: ranks before every priority.
  var isAged = false
  /// The head of the answer went to the application: nothing is retried any more.
  var isDelivered = false
  /// Retried after this answer, whose body is dropped meanwhile.
  var isDiscarding = false
  var bodyConsumed = false
  /// Some attempt may have been acted on, so that the request as a whole is not unseen.
  var wasSeen = false
  var origin: Int32 = -1
  /// The sending that runs, or ran last.
  var attempt = Attempt()
  var attempts: UInt32 = 0
  var retries: UInt32 = 0
  /// Sent again because more was sent than the server allowed before it had said so; bounded, so that no server can
  /// keep it going round.
  var freeResends: UInt8 = 0
  /// How often in a row it was refused, since when, and how many requests had succeeded at its origin by the last time.
  var refusals = 0
  var refusedAt = Instant.never
  var successesBefore = 0
  /// Order of arrival; kept over retries, so that a request sent again comes before younger ones.
  var order: UInt64 = 0
  var options = RequestOptions(submittedAt: .never)
  /// pending: when its pool or connect clock was started last.
  var waitsSince = Instant.never
  /// pending: when it was queued last.
  var queuedAt = Instant.never
  /// backingOff, or active and discarding: when it is tried again.
  var retryAt = Instant.never
  var poolTimeUsed: Nanoseconds = 0

  var attemptID: AttemptID { AttemptID(slot: Int32(truncatingIfNeeded: id.slot), sequence: attempt.sequence) }
}

struct ConnectionRecord {
  enum State: UInt8 {
    /// Can transition to: dialing
    case free
    /// Name, TCP, proxy and TLS. Can transition to: open, free
    case dialing
    /// Can transition to: free
    case open
  }
  var state = State.free
  var version = WireVersion.http1
  /// Takes nothing new (`stopUsing`); closed when its last request is over, for this reason.
  var isRetiring = false
  var retireReason = CloseReason.retired
  /// What the server's SETTINGS on this connection allow; nil until they came.
  var streamsAllowed: Int?
  var isPinging = false
  /// The dial waits for its host's addresses.
  var isResolving = false
  var generation: UInt32 = 0
  /// The configuration that it was dialled with.
  var identity: UInt32 = 0
  var origin: Int32 = -1
  var streams = 0
  var streamLimit = 1
  var served: UInt64 = 0
  var requests = SlotList()
  /// dialing: when its connect timeout is over; open: when it is too old.
  var deadline = Instant.never
  var idleSince = Instant.never
  var keepaliveExpiry = Nanoseconds.max
  var lastReceived = Instant.never
  var pingedAt = Instant(nanoseconds: .min)
  var address: AddressID?
  /// Resets that may still be sent before servers take us for an attacker; refilled with time.
  var resetBudget = 0
  var resetBudgetAt = Instant.never
  /// When resets that the engine holds back go out although no answer to its PING came.
  var resetsDueAt = Instant.never

  var isIdle: Bool { state == .open && streams == 0 }
  var isMultiplexed: Bool { version.isMultiplexed }
}

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

  var waiting: Int { covered.count + uncovered.count }
}

struct HostRecord {
  /// Origins that share the name; without any the record is as new.
  var origins = SlotList()
  var isResolving = false
  var addresses = AddressList()
  /// When the addresses must be looked up again.
  var freshUntil = Instant(nanoseconds: .min)
  /// A failed refresh is not repeated before.
  var retryAt = Instant(nanoseconds: .min)
  var rotation: UInt32 = 0
  /// Dials that wait for the answer.
  var dials = SlotList()
}
