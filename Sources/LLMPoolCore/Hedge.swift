/// Where a request stands with its hedge: a second attempt that goes out while the first is silent.
enum HedgeStep: UInt8 {
  /// None is asked for.
  case none
  /// One may go out, when its time has come.
  case wanted
  /// It waits for the connection that is dialled for it.
  case dialing
  /// Two attempts run.
  case sent
  /// The first attempt is over, and the hedge goes on in its place.
  case promoted
  /// It has lost, or its answer was taken: a request has one.
  case over
}

/// What belongs to the second attempt. Kept apart from the record of the request: most ask for none.
struct Hedge {
  /// That of the first is the record's.
  var attempt = Attempt()
  /// Of the first.
  var firstSentAt = Instant.never
  var goesOutAt = Instant.never
  /// The connection that is dialled for it.
  var dial: Int32 = -1
  /// For one attempt no more than once.
  var hasDialled = false
  /// With the request's budget.
  var budgetStep = RequestRecord.BudgetStep.none
  var use = BudgetUse()
}

/// How many hedges may go out: so many percent of the requests that ask for them, of which a hundred can be saved, and
/// ten before there are any, so that a server which is slow with every request does not get each of them twice.
struct HedgeShare: Sendable {
  private static let unit = 100
  private static let capacity = 100 * unit
  private var tokens = 10 * unit

  mutating func requestArrived(_ percent: Int) { tokens = min(HedgeShare.capacity, tokens + percent) }

  func allowsOne(_ percent: Int) -> Bool { percent > 0 && tokens >= HedgeShare.unit }

  mutating func take() { tokens -= HedgeShare.unit }

  mutating func giveBack() { tokens = min(HedgeShare.capacity, tokens + HedgeShare.unit) }
}
