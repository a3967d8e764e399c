/// A budget: its limits, who waits for them and who has been admitted.
struct BudgetRecord {
  /// As many limits as can be configured, then those that can be told.
  static var bucketCount: Int { BudgetOptions.limitCount + ToldLimit.allCases.count }

  var isKnown = false
  /// By the application, not only named: it is never forgotten.
  var isConfigured = false
  /// Others spend of it, too: it has a lease.
  var isShared = false
  /// Told apart from a later one in the same slot.
  var generation: UInt32 = 0
  var options = BudgetOptions()
  /// Buckets that limit something.
  var limiting = BucketSet()
  /// Those that wait, by rank.
  var queue = IndexedHeap()
  /// The slot of the first of them when that was looked at last.
  var first: Int32 = -1
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

  /// Where nobody waits, no end of a stop is to be told, and no lease is to be asked for, there is nothing to look at.
  var isToBeTouched: Bool { !isTouched && (!queue.isEmpty || isStopTold || isShared) }

  /// One more is admitted.
  mutating func setAside(_ cost: Cost, _ now: Instant) {
    reserved += cost
    headless += cost
    inFlight += 1
    if firstAdmittedAt == .never { firstAdmittedAt = now }
  }

  /// It is sent.
  mutating func send(_ cost: Cost) {
    reserved -= cost
    output += cost.output
  }

  /// One that was admitted has ended, or will not be sent.
  mutating func giveBack(_ cost: Cost, _ step: RequestRecord.BudgetStep) {
    if step == .reserved { reserved -= cost } else { output -= cost.output }
    if step != .answered { headless -= cost }
    inFlight -= 1
  }

  /// What a bucket counts before it is known.
  static func unit(_ index: Int) -> BudgetUnit { told(index)?.unit ?? .requests }

  /// Which limit that answers tell a bucket is; nil: it is a configured one.
  static func told(_ index: Int) -> ToldLimit? {
    index < BudgetOptions.limitCount ? nil : ToldLimit.allCases[index - BudgetOptions.limitCount]
  }

  static func bucket(_ told: ToldLimit) -> Int { BudgetOptions.limitCount + Int(told.rawValue) }
}
