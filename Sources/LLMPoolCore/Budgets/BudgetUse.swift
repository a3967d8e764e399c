/// What a request does with its budget. Kept apart from its record: most requests have none.
struct BudgetUse {
  var cost = Cost()
  /// By how much those that passed it while it was the first have made its wait longer.
  var loss: Nanoseconds = 0
  /// It is the first of those that wait; `never`: it was not. Counts while it is that.
  var firstSince = Instant.never
  /// The attempt was debited, and the debit not given back.
  var isDebited = false
  /// When it was.
  var debitedAt = Instant.never
  /// Of each bucket when the attempt was sent.
  var held = InlineArray<11, Double>(repeating: 0)
  /// Buckets that its answer has told of: they need no settling.
  var told = BucketSet()
  /// Buckets that were debited.
  var tracked = BucketSet()

  /// A new request. What `held` says counts of those that are tracked alone.
  mutating func begin(_ cost: Cost) {
    self.cost = cost
    loss = 0
    firstSince = .never
    isDebited = false
    told = BucketSet()
    tracked = BucketSet()
  }
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
