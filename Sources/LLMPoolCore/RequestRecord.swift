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
  /// Where an attempt stands with its budget.
  enum BudgetStep: UInt8 {
    /// It has none, or no attempt is under way.
    case none
    /// pending: the budget has no room yet.
    case waiting
    /// pending: it has, and a connection is sought.
    case reserved
    /// active: debited, and no head of an answer yet.
    case sent
    case answered

    var isInFlight: Bool { self == .reserved || self == .sent || self == .answered }
  }
  var id = RequestID(value: 0)
  var state = State.free
  var budgetStep = BudgetStep.none
  var hedging = HedgeStep.none
  /// Waits for a dial that serves it: its pool clock stands still, its connect clock runs.
  var isCovered = false
  /// Waited for half of its pool timeout, or of its budget timeout, since it was queued: ranks before every priority.
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
