import LLMPoolCore

/// What goes wrong how often, in a thousand. Each seed draws its own mix, with many of them zero: rare combinations
/// come up that an even mix never shows.
package struct Faults {
  package var dialFails = 0
  package var dialHangs = 0
  package var lookupFails = 0
  package var lookupHangs = 0
  package var connectionDies = 0
  package var goesAway = 0
  package var refuses = 0
  package var stalls = 0
  package var temporaryStatus = 0
  package var changesSettings = 0
  package var ignoresPing = 0
  package var stray = 0
  package var reconfigures = 0

  package init() {}
  init(using random: inout RandomSource) {
    func draw(_ most: Int) -> Int {
      Int.random(in: 0..<3, using: &random) == 0 ? 0 : Int.random(in: 0...most, using: &random)
    }
    dialFails = draw(200)
    dialHangs = draw(50)
    lookupFails = draw(200)
    lookupHangs = draw(50)
    connectionDies = draw(30)
    goesAway = draw(20)
    refuses = draw(50)
    stalls = draw(30)
    temporaryStatus = draw(200)
    changesSettings = draw(50)
    ignoresPing = draw(300)
    stray = draw(50)
    reconfigures = draw(1_000)
    // Servers that refuse nearly everything, and servers that are down.
    if Int.random(in: 0..<6, using: &random) == 0 { refuses = 900 }
    if Int.random(in: 0..<6, using: &random) == 0 { dialFails = 950 }
  }
}

package struct SimulationOptions {
  package var seed: UInt64 = 1
  package var steps = 20_000
  package var origins = 1_000
  package var pool = PoolOptions()
  package var faults = Faults()
  package var budgets: [BudgetOptions] = []
  /// Callers reconfigure, close and cancel, too.
  package var isUnruly = true
  /// In how many events one looks at everything; each event looks at the origin that it concerns.
  package var fullCheckEvery = 512
  /// The connection step that fails, for "fail the k-th step, for every k".
  package var failingStep: Int?
  package var mutant: Mutant?

  package init() {}

  /// A mix that only the seed decides.
  package init(seed: UInt64, steps: Int, origins: Int = 1_000) {
    self.seed = seed
    self.steps = steps
    self.origins = origins
    var random = RandomSource(seed: seed ^ 0xFA07)
    faults = Faults(using: &random)
    func pick<Value>(_ values: Value...) -> Value { values.randomElement(using: &random)! }
    pool.maxConnections = pick(1, 5, 20, 100, 500)
    pool.maxConnectionsPerOrigin = pick(1, 2, 10, .max, .max)
    pool.maxKeepaliveConnections = pick(0, 1, 20, 200)
    pool.maxStreamsPerConnection = pick(1, 3, 10, 100)
    pool.maxPendingRequests = pick(3, 50, 10_000)
    pool.keepaliveExpiry = pick(.milliseconds(200), .seconds(5), .seconds(30))
    pool.maxConnectionAge = pick(.max, .seconds(3), .seconds(60))
    pool.timeouts.connect = pick(.seconds(1), .seconds(5), .seconds(20))
    pool.timeouts.pool = pick(.milliseconds(300), .seconds(10), .seconds(60))
    pool.timeouts.read = pick(.seconds(1), .seconds(60))
    pool.timeouts.firstByte = pick(.max, .seconds(2))
    pool.timeouts.event = pick(.max, .seconds(1))
    pool.timeouts.write = pick(.seconds(1), .seconds(10))
    pool.timeouts.total = pick(.max, .max, .seconds(3))
    pool.pingInterval = pick(.max, .seconds(1), .seconds(30))
    pool.retryBackoff = pick(0, .milliseconds(500))
    pool.dnsCacheTTL = pick(0, .seconds(2), .seconds(300))
    pool.maxRetries = pick(0, 2, 5)
    pool.timeouts.budget = pick(.seconds(2), .seconds(60))
    var breaking = RandomSource(seed: seed ^ 0xB4EA4)
    pool.breakerFailures = [0, 0, 0, 1, 3].randomElement(using: &breaking)!
    if Bool.random(using: &breaking) { for status in [500, 503] { pool.breakerStatuses.insert(status) } }
    var hedging = RandomSource(seed: seed ^ 0x4ED6E)
    pool.hedgePercent = [5, 0, 100, 100].randomElement(using: &hedging)!
    for _ in 0..<pick(0, 1, 1, 4) { budgets.append(SimulationOptions.budget(using: &random)) }
    // Providers that refuse nearly everything.
    if Int.random(in: 0..<4, using: &random) == 0 { faults.temporaryStatus = 600 }
  }
}

extension SimulationOptions {
  /// It learns, and is told all that there is to know of a provider's one limit; or is configured, and learns nothing.
  fileprivate static func budget(using random: inout RandomSource) -> BudgetOptions {
    func pick<Value>(_ values: Value...) -> Value { values.randomElement(using: &random)! }
    var budget = BudgetOptions()
    budget.learns = Bool.random(using: &random)
    budget.maxConcurrent = pick(.max, .max, 1, 5)
    guard !budget.learns else { return budget }
    budget.burst = pick(.max, .max, .milliseconds(500))
    for index in 0..<pick(0, 1, 2, 3) {
      let unit = BudgetUnit.allCases.randomElement(using: &random)!
      let amount: Int64 = unit == .requests ? pick(5, 100, 1_000) : pick(100, 1_000, 100_000)
      budget.limits[index] = BudgetLimit(unit, amount, per: pick(.seconds(1), .seconds(10), .seconds(3_600)))
    }
    return budget
  }
}

/// What a provider has left of a limit of tokens, by its own books. It is never full: what a full one does not take
/// back an answer that was under way cannot tell.
struct Provider {
  var limit = 1_000_000.0
  /// A nanosecond's.
  var rate = 500.0 / 1e9
  var level = 300_000.0
  var at = Instant(nanoseconds: 0)

  mutating func take(_ amount: Int64, _ now: Instant) -> RateReport {
    level = level(now) - Double(amount)
    at = now
    var report = RateReport()
    let left = level.rounded(.down)
    report[.tokens].limit = Int64(limit)
    report[.tokens].remaining = Int64(left)
    report[.tokens].untilFull = Nanoseconds((limit - left) / rate)
    return report
  }

  func level(_ now: Instant) -> Double { min(limit, level + rate * Double(now - at)) }
}

/// One thing that the core was told, for the record: an event, or nil for the time alone.
package struct Step {
  package var at: Instant
  package var event: Event?
  package init(at: Instant, event: Event?) {
    self.at = at
    self.event = event
  }
}

package struct Violation: CustomStringConvertible {
  package var seed: UInt64
  package var what: String
  package var trace: [Step]
  package var description: String {
    let lines = trace.suffix(60).map { step in
      let event = step.event.map { "\($0)" } ?? "advance"
      return "  \(step.at.nanoseconds / 1_000) us  \(event.split(separator: "LLMPoolCore.").joined())"
    }
    return "seed \(seed): \(what); \(trace.count) steps lead there:\n" + lines.joined(separator: "\n")
  }
}

/// The core between a simulated network and random callers. Everything follows from the seed.
package final class Simulation {
  enum Work {
    case event(Event)
    case attempt(AttemptID)
    case caller
    case ping(ConnectionID)
  }
  struct Peer {
    var origin: OriginID
    var version = WireVersion.http1
    var isOpen = false
    var limit = 100
    var attempts: [AttemptID] = []
  }
  struct Attempt {
    var request: RequestID
    var connection: ConnectionID
    var phase = 0
    var pieces: Int
    var isHedge = false
    var hasEvents = false
    /// What its answer will tell of the provider's limit.
    var report = RateReport()
    var cost: Int64 = 0
    var budget = BudgetID.none
  }

  package let options: SimulationOptions
  package private(set) var core: PoolStateMachine
  package let model: Model
  package private(set) var steps: [Step] = []
  package private(set) var stepsTaken = 0
  package private(set) var connectionSteps = 0
  var random: RandomSource
  /// Of its own, so that runs without hedges are what they were.
  private var hedging: RandomSource
  var now = Instant(nanoseconds: 1_000_000_000)
  private var agenda = Agenda()
  private var actions: [Action] = []
  private var sideEvents: [Event] = []
  var peers: [ConnectionID: Peer] = [:]
  private var attempts: [AttemptID: Attempt] = [:]
  var live: [RequestID] = []
  private var livePosition: [RequestID: Int] = [:]
  private var freeSlots: [Int] = []
  private var slots = 0
  private var serial: UInt64 = 0
  private var isClosing = false
  private var graveyard: [Event] = []
  private var providers: [Int32: Provider] = [:]
  private var budgetOf: [RequestID: (BudgetID, Int64)] = [:]

  package init(_ options: SimulationOptions) {
    self.options = options
    core = PoolStateMachine(options: options.pool, seed: options.seed)
    if let mutant = options.mutant { core.activate(mutant) }
    model = Model(options: options.pool)
    random = RandomSource(seed: options.seed)
    hedging = RandomSource(seed: options.seed ^ 0x4ED6E)
  }

  func chance(_ perMille: Int) -> Bool { perMille > 0 && Int.random(in: 0..<1_000, using: &random) < perMille }
  func below(_ count: Int) -> Int { Int.random(in: 0..<count, using: &random) }
  func delay(_ milliseconds: ClosedRange<Int>) -> Nanoseconds {
    Nanoseconds(Int.random(in: milliseconds.lowerBound * 1_000...milliseconds.upperBound * 1_000, using: &random))
      * 1_000
  }

  // MARK: The loop

  /// Runs to the end, which closes the pool; nil if all was well.
  package func run() -> Violation? {
    tell(
      .watching([
        .retry, .connectionOpened, .connectionClosed, .utilizationHigh, .utilizationNormal, .breakerOpened,
        .breakerClosed,
      ]))
    for (slot, budget) in options.budgets.enumerated() {
      tell(.budgetConfigured(BudgetID(slot: Int32(slot)), budget))
      // Others learn, and are told nothing.
      if budget.learns, chance(500) { providers[Int32(slot)] = Provider(at: now) }
    }
    agenda.add(now, .caller)
    while stepsTaken < options.steps, model.violation == nil, step() {}
    if !isClosing, model.violation == nil { tell(.closing(deadline: now + .seconds(below(3)))) }
    isClosing = true
    // Every request ends by the deadline, whatever the network does.
    while !model.isStopped, model.violation == nil, let due = core.nextDeadline { advance(to: due) }
    if model.violation == nil, !model.isStopped { model.fail("never stopped") }
    if model.violation == nil, !live.isEmpty { model.fail("\(live.count) requests never ended") }
    return model.violation.map { Violation(seed: options.seed, what: $0, trace: steps) }
  }

  private func step() -> Bool {
    let next = agenda.first ?? .never
    if let due = core.nextDeadline, due <= next {
      advance(to: max(due, now))
      return true
    }
    guard next != .never else { return false }
    now = next
    let work = agenda.removeFirst()
    switch work {
    case .event(let event): if isCurrent(event) || chance(200) { tell(event) }
    case .attempt(let id): attemptStep(id)
    case .caller: callerStep()
    case .ping(let id): if peers[id] != nil { tell(.received(id)) }
    }
    if chance(options.faults.stray), let event = graveyard.randomElement(using: &random) { tell(event) }
    return !model.isStopped
  }

  private func advance(to instant: Instant) {
    now = max(now, instant)
    tell(nil)
  }

  func tell(_ event: Event?) {
    stepsTaken += 1
    steps.append(Step(at: now, event: event))
    model.observe(event, at: now, core)
    actions.removeAll(keepingCapacity: true)
    if let event { core.handle(event, now: now, into: &actions) } else { core.advance(to: now, into: &actions) }
    for action in actions { model.observe(action, core) }
    model.settle(core)
    checkInvariants(event)
    let todo = actions
    for action in todo { react(action) }
    while let side = sideEvents.popLast() { tell(side) }
  }

  private func checkInvariants(_ event: Event?) {
    if let broken = core.checkCounts() { model.fail(broken) }
    if let origin = origin(of: event), let broken = core.checkOrigin(origin) { model.fail(broken) }
    if stepsTaken % options.fullCheckEvery == 0 {
      if let broken = core.checkInvariants() { model.fail(broken) }
    }
    let isDue = core.nextDeadline.map { $0 <= now } ?? false
    if stepsTaken % 64 == 0, !isDue { model.scan(core) }
  }

  private func origin(of event: Event?) -> OriginID? {
    switch event {
    case .submitted(_, let origin, _): return origin
    case .dialed(let id, _, _), .dialFailed(let id, _), .settings(let id, _), .goAway(let id),
      .connectionClosed(let id, _):
      return peers[id]?.origin
    case .finished(let id, _, _): return attempts[id].flatMap { peers[$0.connection]?.origin }
    default: return nil
    }
  }

  // MARK: The network

  private func react(_ action: Action) {
    switch action {
    case .resolve(let host): lookUp(host)
    case .dial(let id, let origin, _, _): dial(id, origin)
    case .send(let attempt, let request, let connection, _): begin(attempt, request, connection, isHedge: false)
    case .hedge(let attempt, let request, let connection, _): begin(attempt, request, connection, isHedge: true)
    case .abort(let attempt, _): remove(attempt)
    case .close(let id, _):
      peers[id] = nil
      bury(.connectionClosed(id, .closedByPeer))
    case .ping(let id): if !chance(options.faults.ignoresPing) { agenda.add(now + delay(1...900), .ping(id)) }
    case .complete(let id, _): completed(id)
    default: break
    }
  }

  private func begin(_ attempt: AttemptID, _ request: RequestID, _ connection: ConnectionID, isHedge: Bool) {
    attempts[attempt] = Attempt(request: request, connection: connection, pieces: below(4), isHedge: isHedge)
    take(attempt, request)
    peers[connection]!.attempts.append(attempt)
    agenda.add(now + delay(0...5), .attempt(attempt))
  }

  /// The provider debits when the request comes to it, and tells what was left then when it answers.
  private func take(_ attempt: AttemptID, _ request: RequestID) {
    guard let (budget, cost) = budgetOf[request], providers[budget.slot] != nil else { return }
    attempts[attempt]!.budget = budget
    attempts[attempt]!.cost = cost
    attempts[attempt]!.report = providers[budget.slot]!.take(cost, now)
    model.provided(budget, providers[budget.slot]!)
  }

  /// It has not seen it.
  private func giveBack(_ attempt: Attempt) {
    guard providers[attempt.budget.slot] != nil else { return }
    _ = providers[attempt.budget.slot]!.take(-attempt.cost, now)
    model.provided(attempt.budget, providers[attempt.budget.slot]!)
  }

  /// Events for what is over may still come.
  private func bury(_ event: Event) {
    if graveyard.count < 64 { graveyard.append(event) } else { graveyard[below(64)] = event }
  }

  private func isCurrent(_ event: Event) -> Bool {
    switch event {
    case .dialed(let id, _, _), .dialFailed(let id, _), .settings(let id, _): return peers[id] != nil
    default: return true
    }
  }

  private func fails(_ perMille: Int) -> Bool {
    connectionSteps += 1
    return connectionSteps == options.failingStep || chance(perMille)
  }

  private func lookUp(_ host: HostID) {
    if fails(options.faults.lookupFails) { return agenda.add(now + delay(1...300), .event(.resolveFailed(host))) }
    if chance(options.faults.lookupHangs) {
      return agenda.add(now + .seconds(below(100)), .event(.resolveFailed(host)))
    }
    var list = AddressList()
    let count = 1 + below(3)
    for index in 0..<count { list.append(AddressID(value: UInt32(Int(host.slot) * 8 + index + (chance(100) ? 1 : 0)))) }
    agenda.add(now + delay(1...50), .event(.resolved(host, list)))
  }

  private func isTLS(_ origin: OriginID) -> Bool { origin.slot % 3 != 0 }

  private func dial(_ id: ConnectionID, _ origin: OriginID) {
    peers[id] = Peer(origin: origin)
    if fails(options.faults.dialFails) {
      let failure = [Failure.connect, .connect, .tls, .proxy].randomElement(using: &random)!
      return agenda.add(now + delay(1...200), .event(.dialFailed(id, failure)))
    }
    if chance(options.faults.dialHangs) { return }
    let took = chance(20) ? delay(500...10_000) : delay(1...100)
    let isHTTP2 =
      core.options.httpVersions == .http2
      || (isTLS(origin) && origin.slot % 3 == 1 && core.options.httpVersions == .automatic)
    let version = isHTTP2 ? WireVersion.http2 : .http1
    let address = AddressID(value: UInt32(origin.slot % 50) * 8 + UInt32(below(3)))
    peers[id]!.version = version
    peers[id]!.limit = isHTTP2 ? [1, 2, 5, 100, 100].randomElement(using: &random)! : 1
    agenda.add(now + took, .event(.dialed(id, version, origin.slot % 2 == 0 ? nil : address)))
    if isHTTP2 {
      agenda.add(now + took + delay(0...20), .event(.settings(id, maxStreams: peers[id]!.limit)))
    } else if chance(100) {
      agenda.add(now + took + delay(1...50), .event(.keepAlive(id, .seconds(below(6)))))
    }
  }

  private func remove(_ attempt: AttemptID) {
    guard let known = attempts.removeValue(forKey: attempt) else { return }
    bury(.finished(attempt, .success, reusable: true))
    guard let index = peers[known.connection]?.attempts.firstIndex(of: attempt) else { return }
    peers[known.connection]!.attempts.remove(at: index)
  }

  /// A request on its way, step by step; at each the network may fail it.
  private func attemptStep(_ id: AttemptID) {
    guard let attempt = attempts[id], let peer = peers[attempt.connection] else { return }
    if fails(options.faults.connectionDies) { return die(attempt.connection) }
    if chance(options.faults.stalls) { return }
    // While the first attempt is slow, too.
    if attempt.isHedge, attempt.phase < 3, Int.random(in: 0..<8, using: &hedging) == 0 { return }
    if peer.version == .http2 {
      if chance(options.faults.goesAway) { tell(.goAway(attempt.connection)) }
      if chance(options.faults.changesSettings) {
        let limit = [0, 1, 3, 50].randomElement(using: &random)!
        peers[attempt.connection]?.limit = limit
        tell(.settings(attempt.connection, maxStreams: limit))
      }
      guard attempts[id] != nil else { return }
      let isOver = attempt.phase == 0 && peer.attempts.count > peer.limit
      if attempt.phase < 3, chance(40) { tell(.resetsHeld(attempt.connection)) }
      // Some refuse what they have begun to answer.
      if isOver || (attempt.phase < (chance(100) ? 5 : 2) && chance(options.faults.refuses)) {
        return finish(id, Outcome(failure: .refused, unseen: true), reusable: false)
      }
      tell(.received(attempt.connection))
    }
    attempts[id]?.phase += 1
    switch attempt.phase {
    case 0: wrote(id, attempt)
    case 1:
      tell(.progressed(id, .sent))
      // An interim answer, long before the head.
      if Int.random(in: 0..<10, using: &hedging) == 0, attempts[id] != nil { tell(.progressed(id, .received)) }
      agenda.add(now + delay(chance(100) ? 0...3_000 : 1...50), .attempt(id))
    case 2: answer(id)
    case 3..<(3 + attempt.pieces): piece(id)
    default: finish(id, .success, reusable: !chance(50))
    }
  }

  private func wrote(_ id: AttemptID, _ attempt: Attempt) {
    tell(.progressed(id, .wrote))
    // An upload is never hedged: no second attempt takes anything from one.
    if chance(50), attempts[id] != nil, model.hedge(of: attempt.request, id) == nil {
      tell(.bodyConsumed(attempt.request))
    }
    if chance(50), attempts[id] != nil { tell(.progressed(id, .waitingForApplication)) }
    agenda.add(now + delay(0...20), .attempt(id))
  }

  private func answer(_ id: AttemptID) {
    tell(.progressed(id, .received))
    guard attempts[id] != nil else { return }
    var status = 200
    var advice = RetryAdvice.none
    if chance(options.faults.temporaryStatus) {
      status = [429, 500, 503, 404].randomElement(using: &random)!
      if chance(300) { advice.retryAfter = delay(0...90_000) }
      if chance(200) { advice.shouldRetry = chance(500) }
    }
    if let report = attempts[id]?.report { tell(.limitsTold(id, report)) }
    guard attempts[id] != nil else { return }
    tell(.answered(id, httpStatus: status, advice))
    if status == 200, chance(500), attempts[id] != nil {
      attempts[id]!.hasEvents = true
      tell(.progressed(id, .beganEvents))
    }
    agenda.add(now + delay(1...30), .attempt(id))
  }

  private func piece(_ id: AttemptID) {
    tell(.progressed(id, .received))
    if attempts[id]?.hasEvents == true, chance(300) { tell(.progressed(id, .receivedEvent)) }
    if chance(50), attempts[id] != nil {
      tell(.progressed(id, .heldByApplication))
      agenda.add(now + delay(1...2_000), .event(.progressed(id, .releasedByApplication)))
      return agenda.add(now + delay(2_000...2_100), .attempt(id))
    }
    agenda.add(now + delay(1...30), .attempt(id))
  }

  private func finish(_ id: AttemptID, _ outcome: Outcome, reusable: Bool) {
    guard let attempt = attempts[id] else { return }
    attempts[id] = nil
    if model.isUnseen(id, outcome) { giveBack(attempt) }
    bury(.progressed(id, .received))
    if let index = peers[attempt.connection]?.attempts.firstIndex(of: id) {
      peers[attempt.connection]!.attempts.remove(at: index)
    }
    tell(.finished(id, outcome, reusable: reusable))
  }

  /// As the engine announces it: nothing new, then each attempt, then the connection.
  func die(_ id: ConnectionID) {
    guard peers[id] != nil else { return }
    tell(.goAway(id))
    let isUnseen = chance(300)
    while let attempt = peers[id]?.attempts.first {
      // Sometimes the engine had not even begun.
      if attempts[attempt]?.phase == 0, chance(500) { break }
      let failure = [Failure.read, .write, .protocolViolation, .refused].randomElement(using: &random)!
      let unseen = isUnseen && (failure == .refused || attempts[attempt]?.phase == 0)
      finish(attempt, Outcome(failure: failure, unseen: unseen), reusable: false)
    }
    guard let peer = peers[id] else { return }
    for attempt in peer.attempts where attempts[attempt]?.phase != 0 {
      finish(attempt, Outcome(failure: .read), reusable: false)
    }
    guard let peer = peers.removeValue(forKey: id) else { return }
    for attempt in peer.attempts { if let unsent = attempts.removeValue(forKey: attempt) { giveBack(unsent) } }
    bury(.goAway(id))
    tell(.connectionClosed(id, .error))
  }

  // MARK: The callers

  private func completed(_ id: RequestID) {
    if let (budget, cost) = budgetOf.removeValue(forKey: id), providers[budget.slot] == nil, chance(500) {
      sideEvents.append(.settled(id, input: Int64(below(Int(cost) + 1)), output: Int64(below(100))))
    }
    guard let index = livePosition.removeValue(forKey: id) else { return }
    let last = live.removeLast()
    if last != id {
      live[index] = last
      livePosition[last] = index
    }
    freeSlots.append(id.slot)
    bury(.cancelled(id))
  }

  private func callerStep() {
    agenda.add(now + (chance(50) ? delay(100...3_000) : delay(0...20)), .caller)
    switch below(100) {
    case 0..<70: submit(to: Int(pickOrigin()))
    case 70..<76: for _ in 0..<below(60) { submit(to: Int(pickOrigin())) }
    case 76..<80:
      let origin = Int(pickOrigin())
      let budget = chance(500) ? pickBudget() : nil
      for _ in 0..<below(100) { submit(to: origin, budget) }
    case 80..<94 where options.isUnruly: if let id = live.randomElement(using: &random) { tell(.cancelled(id)) }
    case 94..<96: warm()
    case 96 where options.isUnruly: if chance(options.faults.reconfigures) { reconfigure() }
    case 97 where options.isUnruly: if chance(3) { close() }
    case 98: if let id = first(of: peers.keys), peers[id]?.attempts.isEmpty == false { die(id) }
    default: idleDeath()
    }
  }

  /// A few are called often, most now and then.
  private func pickOrigin() -> Int32 {
    let exponent = below(4)
    return Int32(below(max(1, options.origins >> (exponent * 3))))
  }

  private func know(_ origin: OriginID) {
    guard !model.knows(origin) else { return }
    let host = origin.slot % 2 == 0 ? nil : HostID(slot: origin.slot % 50)
    tell(.originAdded(origin, host, isTLS: isTLS(origin)))
  }

  private func pickBudget() -> BudgetID? {
    options.budgets.isEmpty ? nil : BudgetID(slot: Int32(below(options.budgets.count)))
  }

  private func submit(to slot: Int, _ chosen: BudgetID? = nil) {
    let origin = OriginID(slot: Int32(slot))
    know(origin)
    let requestSlot: Int
    if let free = freeSlots.popLast() {
      requestSlot = free
    } else {
      requestSlot = slots
      slots += 1
    }
    serial += 1
    let id = RequestID(serial: serial, slot: requestSlot)
    var request = RequestOptions(submittedAt: Instant(nanoseconds: now.nanoseconds - Int64(below(1_000))))
    request.priority = [0, 0, 0, -3, 5].randomElement(using: &random)!
    request.flags = RequestOptions.Flags(rawValue: UInt8(below(32)))
    if chance(100) { request.timeouts.total = delay(1...5_000) }
    if chance(100) { request.timeouts.pool = delay(1...5_000) }
    if chance(50) { request.timeouts.connect = delay(1...2_000) }
    if chance(50) { request.timeouts.firstByte = delay(1...2_000) }
    if chance(50) { request.timeouts.event = delay(1...2_000) }
    if let budget = chosen ?? (chance(500) ? pickBudget() : nil) {
      request.budget = budget
      request.inputCost = Int64(chance(100) ? below(2_000) : below(50))
      request.outputCost = Int64(below(50))
      if chance(500) { request.flags.insert(.estimatedCost) }
      if chance(50) { request.timeouts.budget = delay(1...2_000) }
      budgetOf[id] = (request.budget, request.inputCost + request.outputCost)
    }
    askForHedge(&request)
    livePosition[id] = live.count
    live.append(id)
    tell(.submitted(id, origin, request))
  }

  private func askForHedge(_ request: inout RequestOptions) {
    guard Bool.random(using: &hedging) else { return }
    request.hedgeAfter = .milliseconds(Int.random(in: 0..<80, using: &hedging))
    guard Int.random(in: 0..<4, using: &hedging) > 0 else { return }
    request.flags.insert(.retrySent)
    request.flags.remove(.noRetry)
  }

  private func warm() {
    let origin = OriginID(slot: pickOrigin())
    know(origin)
    tell(.warm(origin, connections: 1 + below(5)))
  }

  private func reconfigure() {
    var new = core.options
    switch below(7) {
    case 0: new.maxConnections = 1 + below(200)
    case 1: new.maxKeepaliveConnections = below(50)
    case 2: new.maxStreamsPerConnection = 1 + below(100)
    case 3: new.keepaliveExpiry = delay(100...30_000)
    case 4: new.httpVersions = [.automatic, .http1, .http2].randomElement(using: &random)!
    case 5: new.breakerFailures = below(4)
    default: new.maxConnectionsPerOrigin = 1 + below(20)
    }
    tell(.reconfigured(new, identityChanged: chance(300)))
  }

  private func close() {
    isClosing = true
    tell(.closing(deadline: now + delay(0...3_000)))
  }

  /// The same in every run of a seed: those that failed to be dialled may share a slot with others.
  private func first(of ids: some Sequence<ConnectionID>) -> ConnectionID? {
    ids.min { ($0.slot, $0.generation) < ($1.slot, $1.generation) }
  }

  /// A server closes a connection that carries nothing.
  private func idleDeath() {
    let open = peers.keys.filter { peers[$0]!.attempts.isEmpty && core.isIdle($0) }
    guard let id = first(of: open) else { return }
    peers[id] = nil
    tell(.connectionClosed(id, .closedByPeer))
  }
}

/// What is going to happen when: a binary heap, first come first served within an instant.
struct Agenda {
  private var entries: [(at: Instant, order: UInt64, work: Simulation.Work)] = []
  private var order: UInt64 = 0

  var first: Instant? { entries.first?.at }

  mutating func add(_ at: Instant, _ work: Simulation.Work) {
    order += 1
    entries.append((at, order, work))
    var index = entries.count - 1
    while index > 0, isBefore(index, (index - 1) / 2) {
      entries.swapAt(index, (index - 1) / 2)
      index = (index - 1) / 2
    }
  }

  mutating func removeFirst() -> Simulation.Work {
    entries.swapAt(0, entries.count - 1)
    let work = entries.removeLast().work
    var index = 0
    while true {
      var child = 2 * index + 1
      guard child < entries.count else { return work }
      if child + 1 < entries.count, isBefore(child + 1, child) { child += 1 }
      guard isBefore(child, index) else { return work }
      entries.swapAt(index, child)
      index = child
    }
  }

  private func isBefore(_ left: Int, _ right: Int) -> Bool {
    entries[left].at != entries[right].at
      ? entries[left].at < entries[right].at : entries[left].order < entries[right].order
  }
}
