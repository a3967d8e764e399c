/// One limit of a budget: what is left of it, and how it comes back. Debited when a request is sent, filled with time
/// or by what is lent, corrected by what answers say.
struct Bucket {
  /// How it comes back.
  enum Filling: UInt8 {
    /// With time, all of it.
    case alone
    /// With time, a share of it, and no more than that share of it can be there.
    case safe
    /// By what is lent.
    case lent
    /// By what is lent and, as that is late, a share of it with time.
    case late
  }
  var unit = BudgetUnit.requests
  /// As it was configured or told last; 0: there is none, or not yet. Then only the debits are counted.
  var limit: Int64 = 0
  /// Most that can be spent at once.
  var capacity = Double.infinity
  /// What comes back in a nanosecond.
  var rate = 0.0
  private(set) var filling = Filling.alone
  /// Of what comes back, what is this process's.
  private(set) var share = 1.0
  /// Most that can be there, and what comes by time in a nanosecond.
  private(set) var most = Double.infinity
  private var gain = 0.0
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

  init(_ unit: BudgetUnit, _ filling: Filling = .alone, share: Double = 1, now: Instant) {
    self.unit = unit
    self.filling = filling
    self.share = share
    levelAt = now
  }

  /// It limits something.
  var holds: Bool { rate > 0 }

  /// What is to be counted on in a nanosecond, be it lent.
  var pace: Double { rate * share }

  func level(_ now: Instant) -> Double {
    holds ? min(most, level + gain * Double(now - levelAt)) : level
  }

  /// The rate, the capacity, or how much of them is here has changed.
  private mutating func recount() {
    most = filling == .safe ? capacity * share : capacity
    gain = filling == .lent ? 0 : pace
  }

  private mutating func move(to new: Double, _ now: Instant) {
    level = min(most, new)
    levelAt = now
  }

  mutating func debit(_ amount: Int64, _ now: Instant) { move(to: level(now) - Double(amount), now) }

  mutating func credit(_ amount: Int64, _ now: Instant) { debit(-amount, now) }

  /// When so much is there, or, of more than there can be, all; `never` by time alone where it is lent, or with what is
  /// set aside is more than there can be: then it is there once that has been sent, or given back.
  func ready(_ amount: Int64, reserved: Int64, _ now: Instant) -> Instant {
    let likely = likely(amount, reserved: reserved, now)
    return filling == .lent && likely > now ? .never : likely
  }

  /// The same, where what is lent is taken to come as evenly as time.
  func likely(_ amount: Int64, reserved: Int64, _ now: Instant) -> Instant {
    guard holds else { return now }
    let wanted = min(Double(amount) + (filling == .lent ? 0 : slack * share), most) + Double(reserved)
    guard wanted <= most + Bucket.tolerance || reserved == 0 else { return .never }
    let missing = wanted - level(now)
    return missing <= Bucket.tolerance ? now : now + Nanoseconds((missing / pace).rounded(.up).clamped(to: 1...9e18))
  }

  /// Of sums of fractions.
  static var tolerance: Double { 1e-6 }

  /// Nothing is left at that time, and from then on it comes back as ever.
  mutating func drain(until end: Instant, _ now: Instant) {
    guard holds, capacity / rate <= Bucket.longestDrained else { return }
    move(to: min(level(now), filling == .lent ? 0 : -pace * Double(end - now)), now)
  }
  /// A limit of a day is not what a server means that wants to be left alone for a while.
  static var longestDrained: Double { 61e9 }

  // MARK: Shared

  /// From now on it comes back in another way. What is there stays, as far as there is room.
  mutating func fill(_ new: Filling, share newShare: Double, _ now: Instant) {
    let before = level(now)
    filling = new
    share = newShare
    recount()
    move(to: before, now)
  }

  /// No more than that is there from now on.
  mutating func fall(to most: Double, _ now: Instant) { move(to: min(level(now), most), now) }

  /// Others know another amount of it, which holds here, too.
  mutating func resize(to amount: Int64, _ now: Instant) {
    guard holds, amount > 0, amount != limit else { return }
    let before = level(now)
    let factor = Double(amount) / Double(limit)
    limit = amount
    rate *= factor
    capacity *= factor
    recount()
    move(to: before, now)
  }

  // MARK: Configured

  /// It is what this limit was before, though perhaps of another amount.
  func isOf(_ new: BudgetLimit) -> Bool {
    unit == new.unit && new.exists && abs(Double(limit) / rate - Double(new.window)) < 1
  }

  /// A new one is full. One that changes keeps what was spent; one that is shared what is there, a new one nothing.
  mutating func configure(_ new: BudgetLimit, burst: Nanoseconds, _ now: Instant) {
    guard new.exists else {
      self = Bucket(new.unit, filling, share: share, now: now)
      return
    }
    let isKept = holds && unit == new.unit
    let held = isKept ? level(now) : 0
    let spent = isKept ? capacity - held : 0
    unit = new.unit
    limit = new.amount
    rate = Double(new.amount) / Double(new.window)
    capacity = rate * Double(min(new.window, burst))
    recount()
    move(to: filling == .alone ? capacity - spent : held, now)
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
    let isNew = !holds
    learnRate(entry)
    guard holds else { return }
    capacity = burst == .max ? Double(limit) : min(Double(limit), rate * Double(burst))
    recount()
    var after = before + Double(entry.remaining) - (held + correction)
    if filling != .alone { after = ofShare(entry, before, since: before - (held + correction), isNew) }
    after = min(most, after)
    correction += after - before
    move(to: after, now)
    slack = min(rate * Bucket.spread, capacity / 10)
  }

  /// What is left is everybody's: no more than a share of it is there. Where it is lent the store is told, and lends.
  private func ofShare(_ entry: RateReport.Entry, _ before: Double, since: Double, _ isNew: Bool) -> Double {
    let fair = filling == .safe ? Double(max(0, entry.remaining)) * share : 0
    if isNew { return fair + min(0, since) }
    return filling == .safe ? min(before, fair) : before
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
