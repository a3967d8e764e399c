/// A budget: its limits, who waits for them and who has been admitted.
struct BudgetRecord {
  /// As many limits as can be configured, then those that can be told.
  static var bucketCount: Int { BudgetOptions.limitCount + ToldLimit.allCases.count }

  var isKnown = false
  /// By the application, not only named: it is never forgotten.
  var isConfigured = false
  /// Told apart from a later one in the same slot.
  var generation: UInt32 = 0
  var options = BudgetOptions()
  /// Those that wait, by rank.
  var queue = IndexedHeap()
  /// Requests of it that are not over.
  var requests = 0
  /// Admitted, and waiting for a connection: not debited yet.
  var reserved = Cost()
  /// Admitted, and without a head: what the adaptive limit counts.
  var headless = Cost()
  /// Admitted, and not at the end of their attempt.
  var inFlight = 0
  /// What those that are sent and not over may still bring: some providers take the output as it comes.
  var output: Int64 = 0
  /// Nothing is sent before; in the past where nothing has stopped it.
  var stoppedUntil = Instant(nanoseconds: .min)
  /// It was said that it has stopped, and not yet that it goes on.
  var isStopTold = false
  var isAnswered = false
  /// The first request that it has ever admitted.
  var firstAdmittedAt = Instant.never
  /// How many may be without a head, where answers refuse and tell no limit.
  var adaptive = Double.infinity
  /// Attempts before this one were sent before it was cut last.
  var cutAt: UInt32 = 0
  /// Answers that refused: 429, 503, 529.
  var refusals = 0
  /// Somebody may be admitted: looked at when the event is over.
  var isTouched = false

  static func newBucket(_ index: Int, _ now: Instant) -> Bucket {
    Bucket(told(index)?.unit ?? .requests, now: now)
  }

  /// Which limit that answers tell a bucket is; nil: it is a configured one.
  static func told(_ index: Int) -> ToldLimit? {
    index < BudgetOptions.limitCount ? nil : ToldLimit.allCases[index - BudgetOptions.limitCount]
  }

  static func bucket(_ told: ToldLimit) -> Int { BudgetOptions.limitCount + Int(told.rawValue) }
}

/// Some of the buckets of a budget, by their places.
struct BucketSet {
  private var bits: UInt16 = 0
  var isEmpty: Bool { bits == 0 }
  func contains(_ kind: Int) -> Bool { bits & 1 << UInt16(kind) != 0 }
  mutating func insert(_ kind: Int) { bits |= 1 << UInt16(kind) }
}

/// What a request does with its budget. Kept apart from its record: most requests have none.
struct BudgetUse {
  var cost = Cost()
  /// By how much those that passed it while it was the first have made its wait longer.
  var loss: Nanoseconds = 0
  /// The attempt was debited, and the debit not given back.
  var isDebited = false
  /// Of each bucket when the attempt was sent.
  var held = InlineArray<11, Double>(repeating: 0)
  /// Buckets that its answer has told of: they need no settling.
  var told = BucketSet()
  /// Buckets that were debited.
  var tracked = BucketSet()
}

/// A debit of a request that is over, which may be settled for some time.
struct OpenDebit {
  var request = RequestID(value: 0)
  var budget = BudgetID.none
  var generation: UInt32 = 0
  var cost = Cost()
  var told = BucketSet()
  var tracked = BucketSet()
}
