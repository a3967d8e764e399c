import LLMPoolCore

/// What breakers may do: open after enough failures and not before, end whoever waits, let one out at a time, dial, and
/// close with the first answer.
extension Model {
  struct BreakerBook {
    /// At most, and at least, so many failures in a row.
    var most = 0
    var least = 0
    var isOpen = false
    var cause = Failure.connect
    var trial: RequestID?
    /// When it last ended a call, and when a dial may have been kept from it.
    var calledAt = Instant(nanoseconds: .min)
    var hinderedAt = Instant(nanoseconds: .min)
    /// With this event.
    var isAnswered = false
  }

  private var threshold: Int { options.breakerFailures }

  // MARK: What goes in

  func breakerCounts(_ origin: OriginID) {
    guard threshold > 0 else { return }
    breakers[origin, default: BreakerBook()].most += 1
  }

  func breakerDialFailed(_ origin: OriginID, _ core: borrowing PoolStateMachine) {
    guard threshold > 0 else { return }
    breakerCounts(origin)
    breakers[origin]!.hinderedAt = now
    if !isUsable(origins[origin]!, core) { breakers[origin]!.least += 1 }
  }

  func breakerAnswered(_ origin: OriginID, _ status: Int) {
    guard threshold > 0 else { return }
    guard !options.breakerStatuses.contains(status) else { return breakerCounts(origin) }
    breakers[origin, default: BreakerBook()].most = 0
    breakers[origin]!.least = 0
    breakers[origin]!.isAnswered = true
  }

  func forgetBreakers() { for id in breakers.keys where !breakers[id]!.isOpen { breakers[id] = nil } }

  // MARK: What comes out

  func breakerOpened(_ origin: OriginID, _ cause: Failure, _ failures: Int) {
    let book = breakers[origin, default: BreakerBook()]
    // A lookup hides a dial from this model.
    let isSeen = origins[origin]?.host == nil
    if book.isOpen { fail("a breaker opens twice") }
    if failures < threshold { fail("a breaker opens after \(failures) failures of \(threshold)") }
    if isSeen, book.most < threshold { fail("a breaker opens after \(book.most) failures, seen from outside") }
    breakers[origin] = book
    breakers[origin]!.isOpen = true
    breakers[origin]!.cause = cause
    breakers[origin]!.calledAt = now
    breakers[origin]!.hinderedAt = now
  }

  func breakerClosed(_ origin: OriginID) {
    guard let book = breakers[origin], book.isOpen else { return fail("a breaker closes that is not open") }
    var new = BreakerBook()
    if !book.isAnswered { new.most = max(0, threshold - 1) }
    breakers[origin] = new
  }

  func sentWhileOpen(_ id: RequestID, _ origin: OriginID) {
    guard let book = breakers[origin], book.isOpen else { return }
    // One that takes longer than the pool is patient leaves the next.
    let patience = options.timeouts.read == .max ? .seconds(60) : options.timeouts.read
    if let trial = book.trial, trial != id, let other = requests[trial], now - other.knownSince < patience {
      fail("two go out while a breaker is open")
    }
    breakers[origin]!.trial = id
  }

  func brokenOff(_ request: Request, _ failure: Failure?) {
    guard let book = breakers[request.origin], book.isOpen else { return fail("ended by a breaker that is closed") }
    if failure == nil { fail("ended by a breaker, with success") }
    breakers[request.origin]!.calledAt = now
  }

  // MARK: After each event

  func checkBreakers(_ core: borrowing PoolStateMachine) {
    for (id, book) in breakers {
      breakers[id]!.isAnswered = false
      guard origins[id] != nil else {
        if book.isOpen { fail("an origin is forgotten while its breaker is open") }
        breakers[id] = nil
        continue
      }
      if book.isAnswered, book.isOpen { fail("the breaker of origin \(id.slot) stays open after an answer") }
      if book.least >= threshold, threshold > 0, !book.isOpen { fail("\(book.least) failures, and no breaker opens") }
      guard book.isOpen, let counters = core.counters(of: id) else { continue }
      let waiting = counters.pending + counters.backingOff
      if waiting > (book.trial == nil && counters.pending == 0 ? 0 : 1) {
        fail("\(waiting) wait at origin \(id.slot), whose breaker is open")
      }
      if counters.connecting > 0 || counters.active > 0 || core.counters.connections >= options.maxConnections
        || counters.connections >= options.maxConnectionsPerOrigin || waiting > 0
      {
        breakers[id]!.hinderedAt = now
      }
    }
  }

  /// Who calls a server that is down must not wait long for it once it is back. A lookup hides a dial from this model.
  func scanBreakers() {
    for (id, book) in breakers where book.isOpen && origins[id]?.host == nil && closeDeadline == nil {
      guard [.connect, .connectTimeout, .tls, .proxy].contains(book.cause), book.calledAt + .seconds(50) > now else {
        continue
      }
      if book.hinderedAt + .seconds(3) < now { fail("nobody dials origin \(id.slot), whose breaker is open") }
    }
  }
}
