/// How a limit of a shared budget is used here: what its store is told of it. By the places of the buckets.
struct Loan {
  /// Since it is shared, in all.
  private(set) var spent: Int64 = 0
  /// What requests were taken to cost lately.
  private(set) var mean = 0.0
  /// What was spent in a second lately.
  private var rate = 0.0
  private var counted: Int64 = 0
  /// What an answer said last is left of it, until the store has been told; and when its request was sent.
  private var remaining: Int64?
  private var remainingAt = Instant.never

  /// A request is sent.
  mutating func take(_ amount: Int64) {
    spent &+= amount
    mean += (Double(amount) - mean) / (mean == 0 ? 1 : 8)
  }

  /// What was taken for it was not, or not all.
  mutating func giveBack(_ amount: Int64) { spent &-= amount }

  /// An answer says what was left when its request came. What was left long ago is no news.
  mutating func told(_ remaining: Int64, _ sentAt: Instant, _ now: Instant) {
    guard sentAt + Loan.newsAge >= now, self.remaining == nil || sentAt >= remainingAt else { return }
    self.remaining = remaining
    remainingAt = sentAt
  }

  private static var newsAge: Nanoseconds { .seconds(30) }

  /// What would be left if nothing had been spent since then, though it has come back. Told once.
  mutating func takeRemaining(_ bucket: Bucket, _ now: Instant) -> Int64? {
    guard let left = remaining else { return nil }
    remaining = nil
    let back = bucket.rate * Double(max(remainingAt, now) - remainingAt)
    return Int64(min(Double(left) + back, max(bucket.capacity, Double(left))).clamped(to: -9e18...9e18))
  }

  /// So much time has passed since the last call. More is believed at once, less by and by.
  mutating func count(_ time: Nanoseconds) {
    let new = Double(max(0, spent &- counted)) / Double(time) * 1e9
    rate = max(new, (rate + new) / 2)
    counted = spent
  }

  /// What will probably be spent in a second, one request at least.
  var expected: Double { max(rate, mean) }
}
