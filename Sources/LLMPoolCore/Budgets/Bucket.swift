/// One limit of a budget: what is left of it, and how it comes back. Debited when a request is sent, filled with time,
/// corrected by what answers say.
struct Bucket {
  var unit = BudgetUnit.requests
  /// As it was configured or told last; 0: there is none, or not yet. Then only the debits are counted.
  var limit: Int64 = 0
  /// Most that can be spent at once.
  var capacity = Double.infinity
  /// What comes back in a nanosecond.
  var rate = 0.0
  private var level = 0.0
  private var levelAt: Instant
  /// More than is wanted must be there: what is known of the provider is older than what it knows when the request
  /// comes, and requests overtake each other on their way.
  private var slack = 0.0
  /// By how much answers have moved the level in all. Who compares an answer with what was held when its request was
  /// sent must not correct again what others have corrected meanwhile.
  private(set) var correction = 0.0
  /// What was missing in the answers lately, and how long it was to take to come back: their ratio is the rate.
  private var missing = 0.0
  private var missingTime = 0.0

  init(_ unit: BudgetUnit, now: Instant) {
    self.unit = unit
    levelAt = now
  }

  /// It limits something.
  var holds: Bool { rate > 0 }

  func level(_ now: Instant) -> Double {
    holds ? min(capacity, level + rate * Double(now - levelAt)) : level
  }

  private mutating func move(to new: Double, _ now: Instant) {
    level = min(capacity, new)
    levelAt = now
  }

  mutating func debit(_ amount: Int64, _ now: Instant) { move(to: level(now) - Double(amount), now) }

  mutating func credit(_ amount: Int64, _ now: Instant) { debit(-amount, now) }

  /// When so much is there, or, of more than there can be, all; `never` by time alone where with what is set aside it
  /// is more than there can be: then it is there once that has been sent, or given back.
  func ready(_ amount: Int64, reserved: Int64, _ now: Instant) -> Instant {
    guard holds else { return now }
    let wanted = min(Double(amount) + slack, capacity) + Double(reserved)
    guard wanted <= capacity + Bucket.tolerance || reserved == 0 else { return .never }
    let missing = wanted - level(now)
    return missing <= Bucket.tolerance ? now : now + Nanoseconds((missing / rate).rounded(.up).clamped(to: 1...9e18))
  }

  /// Of sums of fractions.
  static var tolerance: Double { 1e-6 }

  /// Nothing is left at that time, and from then on it comes back as ever.
  mutating func drain(until end: Instant, _ now: Instant) {
    guard holds, capacity / rate <= Bucket.longestDrained else { return }
    move(to: min(level(now), -rate * Double(end - now)), now)
  }
  /// A limit of a day is not what a server means that wants to be left alone for a while.
  static var longestDrained: Double { 61e9 }

  // MARK: Configured

  /// It is what this limit was before, though perhaps of another amount.
  func isOf(_ new: BudgetLimit) -> Bool {
    unit == new.unit && new.exists && abs(Double(limit) / rate - Double(new.window)) < 1
  }

  /// A new one is full. One that changes keeps what was spent.
  mutating func configure(_ new: BudgetLimit, burst: Nanoseconds, _ now: Instant) {
    guard new.exists else {
      self = Bucket(new.unit, now: now)
      return
    }
    let spent = holds && unit == new.unit ? capacity - level(now) : 0
    unit = new.unit
    limit = new.amount
    rate = Double(new.amount) / Double(new.window)
    capacity = rate * Double(min(new.window, burst))
    move(to: capacity - spent, now)
  }

  // MARK: Told

  /// What an answer says. `held` is what `held(_:)` gave when its request was sent.
  mutating func told(_ entry: RateReport.Entry, held: Double, burst: Nanoseconds, _ now: Instant) {
    if entry.limit != limit {
      missing = 0
      missingTime = 0
    }
    limit = entry.limit
    let before = level(now)
    learnRate(entry)
    guard holds else { return }
    capacity = burst == .max ? Double(limit) : min(Double(limit), rate * Double(burst))
    let after = min(capacity, before + Double(entry.remaining) - (held + correction))
    correction += after - before
    move(to: after, now)
    slack = min(rate * Bucket.spread, capacity / 10)
  }

  /// By so much the times differ that requests take to come to the provider.
  private static var spread: Double { 50e6 }

  private mutating func learnRate(_ entry: RateReport.Entry) {
    if let window = entry.window {
      rate = Double(entry.limit) / Double(window)
    } else if let time = entry.untilFull, entry.remaining < entry.limit {
      missing = missing * Bucket.memory + Double(entry.limit - max(0, entry.remaining))
      missingTime = missingTime * Bucket.memory + Double(max(0, time))
      if missingTime > 0 { rate = missing / missingTime }
    }
  }
  /// How much of the answers before counts still; times are told in whole seconds by some.
  private static var memory: Double { 0.95 }

  /// The level, to be compared with an answer that comes later.
  func held(_ now: Instant) -> Double { level(now) - correction }
}

extension Double {
  func clamped(to range: ClosedRange<Double>) -> Double {
    Swift.min(Swift.max(self, range.lowerBound), range.upperBound)
  }
}
