import LLMPoolCore

/// What a bystander who knows the rules, but not how the core follows them, sees: the events that go in and the
/// actions that come out. Keeps its own books and stops at the first thing that must not be.
package final class Model {
  enum End {
    case unsent
    case failed(unseen: Bool, beyondLimit: Bool)
    case silent, dropped
  }
  enum Clock { case none, write, firstByte, read }
  enum State { case waiting, active, between }

  struct Request {
    var origin: OriginID
    var options: RequestOptions
    var order: Int
    var state = State.waiting
    /// Never on a connection, never retried: its place in the queue is known exactly.
    var isFresh = true
    var waitsSince: Instant
    /// When the core was told of it.
    var knownSince: Instant
    /// How long its origin had dialled for in all when it began to wait.
    var dialTimeBefore: Nanoseconds = 0
    var attempt: AttemptID?
    var connection: ConnectionID?
    var attempts: UInt32 = 0
    var retries = 0
    var freeResends = 0
    /// In a row, since the first of them, and all of them.
    var refusals = 0
    var refusedAt: Instant?
    /// How long it has waited for its budget since, pauses before included: that is nobody's refusal.
    var budgetWait: Nanoseconds = 0
    var resends = 0
    var successesBefore = 0
    var end: End?
    var wasSeen = false
    var isDelivered = false
    var isConsumed = false
    var isDropping = false
    var backsOffUntil: Instant?
    var clock = Clock.none
    /// The clock that ran when the last attempt ended.
    var lastClock = Clock.none
    var clockSince: Instant
    var isSent = false
    var isHeld = false
    /// When its event clock began last; nil: it has none.
    var eventsSince: Instant?
    /// The same of the attempt that ended last, where it ran.
    var lastEventsSince: Instant?
    var hasAnswer = false
    var hasProgress = false
    /// Waits for its budget, or has been admitted and not sent.
    var awaitsBudget = false
    var isAdmitted = false
    var isDebited = false
    var cost = Cost()
    var loss = 0.0
    var sentAs = 0
    /// Streams on its connection with this one, where the SETTINGS had not come.
    var streamsBeforeSettings = 0
    /// When its attempt began.
    var sentAt = Instant.never
    var hedge: Hedge?
    /// Once a request.
    var isHedged = false
    /// Hedges that met a closed connection, and count as if they had not been.
    var lostHedges = 0
  }

  struct Connection {
    var origin: OriginID
    var isOpen = false
    var version = WireVersion.http1
    var isRetiring = false
    var limit = 1
    var settings: Int?
    var active: Set<AttemptID> = []
    var served = 0
    var idleSince: Instant
    var expiry = Nanoseconds.max
    var pingedAt: Instant?
    var lastPing: Instant?
    var resetsHeldAt: Instant?
    var lastReceived: Instant
    var openedAt: Instant
  }

  struct Origin {
    var host: HostID?
    var isTLS: Bool
    var version: WireVersion?
    var allowed: Int?
    var dialing = 0
    var dialingSince: Instant?
    var dialTime: Nanoseconds = 0
    /// Dials in a row that failed, the last of them, and when.
    var dialFailures = 0
    var dialFailure: Failure?
    var dialFailedAt = Instant(nanoseconds: .min)
    var succeeded = 0
    var connections: Set<ConnectionID> = []
    var fresh: [RequestID] = []
  }

  /// What is left of the limits of a budget, and who has it.
  struct Budget {
    var options: BudgetOptions
    var levels: [Double] = []
    var at: Instant
    var reserved = Cost()
    var inFlight: Set<RequestID> = []
    var waiting: Set<RequestID> = []
    /// Those in flight whose second attempt is, too.
    var hedged: Set<RequestID> = []
    var places: Int { inFlight.count + hedged.count }
    var stoppedUntil = Instant(nanoseconds: .min)
    var provider: Provider?
    var cutAt = 0
    var limits: [BudgetLimit] { options.limits.indices.map { options.limits[$0] }.filter(\.exists) }
    func rate(_ limit: BudgetLimit) -> Double { Double(limit.amount) / Double(limit.window) }
    func capacity(_ limit: BudgetLimit) -> Double { rate(limit) * Double(min(limit.window, options.burst)) }
  }

  private(set) var options: PoolOptions
  var breakers: [OriginID: BreakerBook] = [:]
  var hedges = 0
  var hedgesAllowed = 10.0
  var refusedHead: RefusedHead?
  var budgets: [BudgetID: Budget] = [:]
  var sends = 0
  /// With this event.
  var admittedNow: [RequestID] = []
  var eventsSeen = 0
  /// Of requests that are over.
  var debits: [RequestID: (BudgetID, Cost)] = [:]
  /// Of the budget whose answer is told of, before it is.
  var adaptiveBefore: (budget: BudgetID, limit: Int, isOld: Bool)?
  private(set) var now = Instant(nanoseconds: 0)
  private(set) var violation: String?
  var requests: [RequestID: Request] = [:]
  private(set) var connections: [ConnectionID: Connection] = [:]
  private(set) var origins: [OriginID: Origin] = [:]
  private(set) var attempts: [AttemptID: RequestID] = [:]
  private var lookups: Set<HostID> = []
  private var lookupFailedAt: [HostID: Instant] = [:]
  private(set) var closeDeadline: Instant?
  private(set) var isStopped = false
  private var nextOrder = 0
  private(set) var event: Event?
  private var submitted = 0
  private var done = 0
  private var active = 0
  private var inUse = 0
  private var connectionsBefore = 0
  private var mustEnd: RequestID?
  /// The origin of the dial that failed with this event.
  private var originOfFailedDial: OriginID?

  /// A recorded core hears of time once a turn, later than its deadlines: what fell due since then may count either
  /// way.
  package var isRecorded = false
  private var advancedTo = Instant(nanoseconds: .min)

  package init(options: PoolOptions) { self.options = options }

  func fail(_ what: @autoclosure () -> String) { if violation == nil { violation = what() } }

  package func knows(_ origin: OriginID) -> Bool { origins[origin] != nil }
  package func knows(_ budget: BudgetID) -> Bool { !budget.exists || budgets[budget] != nil }
  package func hasLive(slot: Int) -> Bool { slotsInUse.contains(slot) }
  private var slotsInUse: Set<Int> = []

  // MARK: What goes in

  package func observe(_ event: Event?, at now: Instant, _ core: borrowing PoolStateMachine) {
    if self.event == nil { advancedTo = self.now }
    self.now = now
    self.event = event
    refusedHead = nil
    admittedNow.removeAll()
    connectionsBefore = core.counters.connections
    guard let event else { return }
    switch event {
    case .submitted(let id, let origin, let options): submit(id, origin, options)
    case .bodyConsumed(let id): requests[id]?.isConsumed = true
    case .reconfigured(let new, let identityChanged): reconfigure(new, identityChanged)
    case .closing(let deadline): closeDeadline = min(closeDeadline ?? .never, deadline)
    case .originAdded(let id, let host, let isTLS):
      if origins[id] == nil { origins[id] = Origin(host: host, isTLS: isTLS) }
      origins[id]!.host = host
    case .resolved(let host, let list):
      if lookups.remove(host) != nil, list.isEmpty { lookupFailed(host) }
    case .resolveFailed(let host): if lookups.remove(host) != nil { lookupFailed(host) }
    case .dialed(let id, let version, _): dialed(id, version)
    case .dialFailed(let id, let failure): if connections[id]?.isOpen == false { dialFailed(id, failure, core) }
    case .settings(let id, let streams): settings(id, streams)
    case .goAway(let id): if connections[id]?.isOpen == true { connections[id]!.isRetiring = true }
    case .received(let id):
      connections[id]?.lastReceived = now
      connections[id]?.pingedAt = nil
    case .keepAlive(let id, let limit): connections[id]?.expiry = max(0, limit - .seconds(1))
    case .resetsHeld(let id): if connections[id]?.isOpen == true { connections[id]!.resetsHeldAt = now }
    case .connectionClosed(let id, _): connectionClosed(id, core)
    case .progressed(let id, let phase):
      if let request = attempts[id] {
        if hedge(of: request, id) != nil { progressHedge(request, phase) } else { progress(request, phase) }
      }
    case .answered(let id, let status, let advice):
      if let request = attempts[id] {
        let hedge = hedge(of: request, id)
        refused(request, status, advice, sentAs: hedge?.sentAs ?? requests[request]!.sentAs, core)
        noteHead(request, id, status, advice)
        if hedge == nil { answered(request) } else { requests[request]!.hedge!.hasProgress = true }
        requests[request]!.wasSeen = true
        breakerAnswered(requests[request]!.origin, status)
      }
    case .limitsTold: break
    case .budgetNamed(let id): if budgets[id] == nil { budgets[id] = Budget(options: BudgetOptions(), at: now) }
    case .budgetConfigured(let id, let options):
      budgets[id] = Budget(options: options, at: now)
      budgets[id]!.levels = budgets[id]!.limits.map { budgets[id]!.capacity($0) }
    case .settled(let id, let input, let output): settled(id, Cost(requests: 1, input: input, output: output))
    case .finished(let id, let outcome, _): finished(id, outcome, core)
    case .cancelled, .warm, .watching: break
    // Shares have a simulation of their own.
    case .budgetShared, .leaseGranted, .clockLeapt: break
    }
  }

  private func submit(_ id: RequestID, _ origin: OriginID, _ asked: RequestOptions) {
    submitted += 1
    countHedging(asked)
    slotsInUse.insert(id.slot)
    var request = Request(
      origin: origin, options: fill(asked), order: nextOrder, waitsSince: asked.submittedAt, knownSince: now,
      clockSince: now)
    request.dialTimeBefore = dialTime(origin)
    nextOrder += 1
    if asked.budget.exists {
      request.awaitsBudget = true
      request.isFresh = false
      request.cost = Cost(requests: 1, input: asked.inputCost, output: asked.outputCost)
      budgets[asked.budget]!.waiting.insert(id)
    }
    requests[id] = request
    if !request.awaitsBudget { origins[origin]!.fresh.append(id) }
  }

  private func fill(_ asked: RequestOptions) -> RequestOptions {
    var result = asked
    func fill(_ path: WritableKeyPath<Timeouts<Nanoseconds>, Nanoseconds>) {
      if result.timeouts[keyPath: path] == 0 { result.timeouts[keyPath: path] = options.timeouts[keyPath: path] }
    }
    for field in Timeouts<Nanoseconds>.fields { fill(field.path) }
    return result
  }

  private func lookupFailed(_ host: HostID) {
    lookupFailedAt[host] = now
    for id in origins.keys where origins[id]!.host == host { breakerCounts(id) }
  }

  private func reconfigure(_ new: PoolOptions, _ identityChanged: Bool) {
    let isOther = identityChanged || new.httpVersions != options.httpVersions
    if isOther || new.breakerFailures != options.breakerFailures { forgetBreakers() }
    options = new
    if isOther {
      for id in connections.keys { connections[id]!.isRetiring = true }
      for id in origins.keys {
        origins[id]!.version = nil
        origins[id]!.dialFailures = 0
        origins[id]!.dialFailure = nil
      }
    }
    for id in connections.keys where connections[id]!.isOpen { connections[id]!.limit = limit(of: id) }
  }

  private func limit(of id: ConnectionID) -> Int {
    let connection = connections[id]!
    guard connection.version == .http2 else { return 1 }
    if let settings = connection.settings { return min(settings, options.maxStreamsPerConnection) }
    return min(max(1, origins[connection.origin]?.allowed ?? .max), options.maxStreamsPerConnection)
  }

  private func dialed(_ id: ConnectionID, _ version: WireVersion) {
    guard let connection = connections[id], !connection.isOpen else { return }
    connections[id]!.isOpen = true
    connections[id]!.version = version
    connections[id]!.idleSince = now
    connections[id]!.lastReceived = now
    connections[id]!.openedAt = now
    connections[id]!.limit = limit(of: id)
    origins[connection.origin]!.version = version
    origins[connection.origin]!.dialFailures = 0
    origins[connection.origin]!.dialFailure = nil
    dialEnded(connection.origin)
  }

  private func settings(_ id: ConnectionID, _ streams: Int) {
    guard let connection = connections[id], connection.isOpen else { return }
    connections[id]!.settings = streams
    origins[connection.origin]!.allowed = streams
    connections[id]!.limit = limit(of: id)
  }

  private func dialFailed(_ id: ConnectionID, _ failure: Failure, _ core: borrowing PoolStateMachine) {
    let origin = connections[id]!.origin
    breakerDialFailed(origin, core)
    origins[origin]!.dialFailures += 1
    origins[origin]!.dialFailure = failure
    origins[origin]!.dialFailedAt = now
    originOfFailedDial = origin
    gone(id)
  }

  private func dialEnded(_ origin: OriginID) {
    origins[origin]!.dialing -= 1
    guard origins[origin]!.dialing == 0, let since = origins[origin]!.dialingSince else { return }
    origins[origin]!.dialTime += now - since
    origins[origin]!.dialingSince = nil
  }

  func dialTime(_ id: OriginID) -> Nanoseconds {
    guard let origin = origins[id] else { return 0 }
    return origin.dialTime + (origin.dialingSince.map { now - $0 } ?? 0)
  }

  private func connectionClosed(_ id: ConnectionID, _ core: borrowing PoolStateMachine) {
    guard let connection = connections[id] else { return }
    guard connection.isOpen else { return dialFailed(id, .connect, core) }
    for attempt in connection.active {
      guard let request = attempts[attempt], let hedge = hedge(of: request, attempt) else { continue }
      hedgeEnded(request, hedge.hasProgress ? .silent : .unsent)
    }
    for attempt in connections[id]!.active {
      let request = attempts[attempt]!
      if requests[request]!.hasProgress {
        ended(request, .failed(unseen: false, beyondLimit: false))
      } else {
        let isHedged = requests[request]!.hedge != nil
        ended(request, .unsent)
        if !isHedged { refused(request, isOfStream: false) }
      }
    }
    gone(id)
  }

  private func gone(_ id: ConnectionID) {
    guard let connection = connections.removeValue(forKey: id) else { return }
    if !connection.active.isEmpty { fail("\(name(id)) is gone with \(connection.active.count) attempts on it") }
    origins[connection.origin]?.connections.remove(id)
    if !connection.isOpen { dialEnded(connection.origin) }
  }

  private func progress(_ id: RequestID, _ phase: Phase) {
    func restart(_ clock: Clock) {
      requests[id]!.clock = clock
      requests[id]!.clockSince = now
    }
    func awaitAnswer() {
      let request = requests[id]!
      guard !request.isHeld else {
        requests[id]!.clock = .none
        return
      }
      restart(request.hasAnswer || request.options.timeouts.firstByte == .max ? .read : .firstByte)
    }
    let isSent = requests[id]!.isSent
    switch phase {
    case .wrote:
      requests[id]!.hasProgress = true
      if !isSent { restart(.write) }
    case .sent:
      requests[id]!.hasProgress = true
      requests[id]!.isSent = true
      if !isSent { awaitAnswer() }
    case .waitingForApplication: if !isSent { requests[id]!.clock = .none }
    case .received:
      requests[id]!.hasProgress = true
      requests[id]!.hasAnswer = true
      if isSent { awaitAnswer() }
    case .beganEvents, .receivedEvent: requests[id]!.eventsSince = now
    case .heldByApplication:
      requests[id]!.isHeld = true
      if isSent { requests[id]!.clock = .none }
    case .releasedByApplication:
      requests[id]!.isHeld = false
      if requests[id]!.eventsSince != nil { requests[id]!.eventsSince = now }
      if isSent { awaitAnswer() }
    }
  }

  private func answered(_ id: RequestID) {
    requests[id]!.wasSeen = true
    requests[id]!.hasProgress = true
    forgetRefusals(id)
  }

  private func finished(_ attempt: AttemptID, _ outcome: Outcome, _ core: borrowing PoolStateMachine) {
    guard let id = attempts[attempt] else { return }
    if let hedge = hedge(of: id, attempt) { return hedgeFinished(id, hedge, outcome) }
    let request = requests[id]!
    guard let failure = outcome.failure else {
      if !request.isDropping { mustEnd = id }
      return ended(id, .dropped)
    }
    // Who has answered has seen it.
    let unseen = outcome.unseen && (!request.hasAnswer || failure == .proxy)
    let connection = request.connection!
    let isBeyond =
      request.streamsBeforeSettings > 0 && request.streamsBeforeSettings > connections[connection]!.settings ?? 0
    let isOfStream = !isBeyond && !core.isRetiring(connection)
    let isFree = unseen && isBeyond && failure == .refused && request.freeResends < 3
    ended(id, .failed(unseen: unseen, beyondLimit: isFree))
    if unseen, !isFree, !request.isDropping, request.hedge == nil { refused(id, isOfStream: isOfStream) }
  }

  /// Nobody has acted on it: it is sent again, and not counted.
  private func refused(_ id: RequestID, isOfStream: Bool) {
    let successes = origins[requests[id]!.origin]!.succeeded
    if !isOfStream, requests[id]!.successesBefore != successes { requests[id]!.refusals = 0 }
    requests[id]!.successesBefore = successes
    requests[id]!.refusals += 1
    requests[id]!.resends += 1
    if requests[id]!.refusedAt == nil { requests[id]!.refusedAt = now }
  }

  private func forgetRefusals(_ id: RequestID) {
    requests[id]!.refusals = 0
    requests[id]!.refusedAt = nil
    requests[id]!.budgetWait = 0
  }

  /// Until when it may be sent again.
  private func resendsUntil(_ request: Request) -> Instant {
    let patience = request.options.timeouts.pool == .max ? .seconds(10) : request.options.timeouts.pool
    return min(request.refusedAt! + patience, request.options.submittedAt + request.options.timeouts.total)
  }

  /// The attempt is over; the request may be.
  private func ended(_ id: RequestID, _ end: End) {
    let request = requests[id]!
    vacate(request.connection!, request.attempt!)
    active -= 1
    if case .dropped = end {} else { breakerCounts(request.origin) }
    if case .failed(let unseen, _) = end, !unseen { requests[id]!.wasSeen = true }
    if case .silent = end { requests[id]!.wasSeen = true }
    requests[id]!.end = request.isDropping ? .dropped : end
    requests[id]!.state = .between
    requests[id]!.attempt = nil
    requests[id]!.connection = nil
    leaveBudget(id, end)
    requests[id]!.lastClock = request.clock
    requests[id]!.lastEventsSince = request.isHeld ? nil : request.eventsSince
    requests[id]!.clock = .none
    requests[id]!.waitsSince = now
    requests[id]!.dialTimeBefore = dialTime(request.origin)
  }

  func vacate(_ connection: ConnectionID, _ attempt: AttemptID) {
    attempts[attempt] = nil
    connections[connection]!.active.remove(attempt)
    guard connections[connection]!.active.isEmpty else { return }
    inUse -= 1
    connections[connection]!.idleSince = now
  }

  func occupy(_ connection: ConnectionID, _ attempt: AttemptID, _ id: RequestID) {
    if connections[connection]!.active.isEmpty { inUse += 1 }
    attempts[attempt] = id
    connections[connection]!.active.insert(attempt)
    connections[connection]!.served += 1
  }

  func resumed(_ id: RequestID, _ hedge: Hedge) {
    active += 1
    resumedInBudget(id, hedge)
  }

  // MARK: What comes out

  package func observe(_ action: Action, _ core: borrowing PoolStateMachine) {
    if isStopped, case .complete = action {} else if isStopped { fail("\(action) after the end") }
    switch action {
    case .resolve(let host):
      if !lookups.insert(host).inserted { fail("a second lookup of host \(host.slot)") }
    case .dial(let id, let origin, _, _): dial(id, origin)
    case .send(let attempt, let request, let connection, let reused): send(attempt, request, connection, reused, core)
    case .hedge(let attempt, let request, let connection, let reused):
      hedge(attempt, request, connection, reused, core)
    case .promoted(let attempt): promoted(attempt)
    case .abort(let attempt, let connection):
      guard let id = attempts[attempt] else { return fail("abort of an attempt that is over") }
      if let hedge = hedge(of: id, attempt) {
        if hedge.connection != connection { fail("abort of a hedge on another connection") }
        return hedgeEnded(id, .silent)
      }
      if requests[id]!.connection != connection { fail("abort on another connection") }
      ended(id, .silent)
    case .deliver(let attempt):
      guard let id = attempts[attempt] else { return fail("delivery of an attempt that is over") }
      if requests[id]!.isDropping { fail("delivery of a dropped answer") }
      checkDelivered(id, attempt)
      if requests[id]!.options.flags.contains(.streamed) { requests[id]!.isDelivered = true }
    case .discard(let attempt): discard(attempt)
    case .ping(let id): ping(id)
    case .releaseResets(let id): releaseResets(id)
    case .close(let id, let reason): close(id, reason, core)
    case .complete(let id, let completion): complete(id, completion, core)
    case .forget(let origin): forget(origin)
    case .forgetBudget(let id, _):
      if budgets.removeValue(forKey: id).map({ !$0.waiting.isEmpty || !$0.inFlight.isEmpty }) ?? true {
        fail("a budget is forgotten that is in use")
      }
    case .admitted(let id): admitted(id, core)
    case .leaseWanted: break
    case .notice(.retry(let id, _, let failure, _, let delay, _)): retried(id, failure, delay)
    case .notice(.breakerOpened(let origin, let cause, _, let failures)): breakerOpened(origin, cause, failures)
    case .notice(.breakerClosed(let origin, _, _)): breakerClosed(origin)
    case .notice: break
    case .stopped:
      if closeDeadline == nil { fail("stopped without a close") }
      if !requests.isEmpty || !connections.isEmpty { fail("stopped with \(requests.count) requests") }
      isStopped = true
    }
  }

  private func dial(_ id: ConnectionID, _ origin: OriginID) {
    guard let known = origins[origin] else { return fail("dial to an unknown origin") }
    if connections[id] != nil { fail("\(name(id)) is dialled twice") }
    // A dial that waited for its name has been counted since; the limits may have been lowered meanwhile.
    var wasCounted = false
    if case .resolved = event { wasCounted = true }
    if !wasCounted, connections.count >= options.maxConnections {
      fail("connection \(connections.count + 1) is dialled")
    }
    if !wasCounted, known.connections.count >= options.maxConnectionsPerOrigin {
      fail("connection \(known.connections.count + 1) to origin \(origin.slot) is dialled")
    }
    if known.isTLS, known.version == nil, options.httpVersions == .automatic, known.dialing > 0 {
      fail("a second dial to origin \(origin.slot), whose version is unknown")
    }
    connections[id] = Connection(origin: origin, idleSince: now, lastReceived: now, openedAt: now)
    origins[origin]!.connections.insert(id)
    origins[origin]!.dialing += 1
    if origins[origin]!.dialingSince == nil { origins[origin]!.dialingSince = now }
  }

  private func send(
    _ attempt: AttemptID, _ id: RequestID, _ on: ConnectionID, _ reused: Bool,
    _ core: borrowing PoolStateMachine
  ) {
    guard let request = requests[id] else { return fail("a request that is over is sent") }
    guard let connection = connections[on], connection.isOpen else { return fail("sent on no connection") }
    if request.state == .active { fail("sent twice at once") }
    checkPlace(request, on, connection, reused)
    checkChoice(on, connection, core)
    checkRetry(id, request)
    sentWhileOpen(id, request.origin)
    debit(id)
    checkOrder(id, request)
    active += 1
    occupy(on, attempt, id)
    requests[id]!.sentAt = now
    if request.isFresh { removeFresh(id) }
    requests[id]!.isFresh = false
    requests[id]!.backsOffUntil = nil
    requests[id]!.state = .active
    requests[id]!.isDropping = false
    requests[id]!.attempt = attempt
    requests[id]!.connection = on
    requests[id]!.attempts += 1
    requests[id]!.clock = .write
    requests[id]!.clockSince = now
    requests[id]!.isSent = false
    requests[id]!.isHeld = false
    requests[id]!.eventsSince = nil
    requests[id]!.hasAnswer = false
    requests[id]!.hasProgress = false
    let knowsLimit = connection.version == .http1 || connection.settings != nil
    requests[id]!.streamsBeforeSettings = knowsLimit ? 0 : connection.active.count + 1
  }

  func checkPlace(_ request: Request, _ on: ConnectionID, _ connection: Connection, _ reused: Bool) {
    if connection.origin != request.origin { fail("sent to another origin") }
    if connection.isRetiring { fail("sent on a connection that takes nothing new") }
    if connection.active.count >= connection.limit {
      fail("stream \(connection.active.count + 1) of \(connection.limit)")
    }
    // Unused it was open already only where somebody had it opened ahead of need.
    if reused ? connection.served == 0 && connection.openedAt >= now : connection.served > 0 {
      fail("reused is \(reused) after \(connection.served)")
    }
  }

  private func removeFresh(_ id: RequestID) {
    requests[id]!.isFresh = false
    let origin = requests[id]!.origin
    if let index = origins[origin]?.fresh.firstIndex(of: id) { origins[origin]!.fresh.remove(at: index) }
  }

  /// The fullest h2 connection with room, else the h1 connection used last.
  func checkChoice(
    _ id: ConnectionID, _ chosen: Connection, except own: ConnectionID? = nil, _ core: borrowing PoolStateMachine
  ) {
    // Some are retired for a reason that only the core knows.
    for other in origins[chosen.origin]!.connections where other != id && other != own && hasRoom(other, core) {
      let connection = connections[other]!
      if chosen.version == .http1 {
        if connection.version == .http2 { fail("h1 is used although h2 has room") }
        if connection.idleSince > chosen.idleSince { fail("another h1 connection was used later") }
      } else if connection.version == .http2 {
        let isFuller = connection.limit - connection.active.count < chosen.limit - chosen.active.count
        if isFuller { fail("another h2 connection is fuller") }
      }
    }
  }

  private func checkRetry(_ id: RequestID, _ request: Request) {
    guard let end = request.end else { return }
    if request.isDelivered { fail("sent again after its answer was delivered") }
    if request.isConsumed { fail("sent again after its upload was consumed") }
    let flags = request.options.flags
    switch end {
    case .unsent: break
    case .dropped: if !flags.contains(.retryStatus) { fail("its answer was dropped without asking") }
    case .silent: if !flags.contains(.retrySent) { fail("sent again after a timeout") }
    case .failed(let unseen, let beyondLimit):
      if !unseen, !flags.contains(.retrySent) { fail("sent again although it may have been seen") }
      if beyondLimit { requests[id]!.freeResends += 1 }
      if flags.contains(.noRetry) { fail("sent again although it must not be") }
    }
    let free = min(requests[id]!.freeResends, 3)
    let hedges = request.lostHedges + (request.isHedged ? 1 : 0)
    if Int(request.attempts) - hedges > free + request.resends + options.maxRetries {
      fail("sent \(request.attempts + 1) times")
    }
  }

  /// Within an origin and a priority first come first served; whoever waited for half of its time before everybody.
  private func checkOrder(_ id: RequestID, _ request: Request) {
    guard request.isFresh, let origin = origins[request.origin] else { return }
    let mine = rank(request, agedNow: true)
    for other in origin.fresh.prefix(200) where other != id {
      if rank(requests[other]!, agedNow: false) < mine { return fail("\(id.value) is sent before \(other.value)") }
    }
  }

  /// Whoever ages in this very moment may count either way.
  private func rank(_ request: Request, agedNow: Bool) -> (Int64, Int) {
    let patience = request.options.timeouts.pool == .max ? .seconds(5) : request.options.timeouts.pool / 2
    let agesAt = request.waitsSince + patience
    let isCertain = agesAt < now && (!isRecorded || max(agesAt, request.knownSince) <= advancedTo)
    let isAged = isCertain || (agesAt <= now && agedNow)
    return (isAged ? .min : -Int64(request.options.priority), request.order)
  }

  private func discard(_ attempt: AttemptID) {
    guard let id = attempts[attempt] else { return fail("an answer is dropped that is over") }
    checkDelivered(id, attempt)
    let request = requests[id]!
    if !request.options.flags.contains(.retryStatus) { fail("an answer is dropped without asking") }
    if request.isDelivered || request.isConsumed { fail("an answer is dropped that cannot be had again") }
    guard case .answered(_, let status, let advice) = event, status >= 400 else {
      return fail("a good answer is dropped")
    }
    if advice.shouldRetry == false { fail("an answer is dropped against the server's word") }
    if let wish = advice.retryAfter, wish > options.retryAfterMax { fail("a wait beyond the limit") }
    requests[id]!.isDropping = true
  }

  private func retried(_ id: RequestID, _ failure: Failure?, _ delay: Nanoseconds) {
    guard let request = requests[id] else { return fail("a retry of a request that is over") }
    if failure == .connect, request.options.flags.contains(.noRedial) { fail("another dial for who wants none") }
    if isResend(request) {
      let isLate = now + delay >= resendsUntil(request) + request.budgetWait
      if isLate { fail("sent again long after it was refused first") }
      if request.refusals > 2, delay < .milliseconds(10) { fail("refusal \(request.refusals), and no pause") }
      if request.refusals <= 2, delay > 0 { fail("refusal \(request.refusals), and a pause") }
    } else {
      requests[id]!.retries += 1
      if requests[id]!.retries > options.maxRetries { fail("retry \(requests[id]!.retries)") }
      let end = request.options.submittedAt + request.options.timeouts.total
      if now + delay >= end { fail("a pause beyond the end of the request") }
      forgetRefusals(id)
    }
    if closeDeadline != nil { fail("a retry while closing") }
    if let book = breakers[request.origin], book.isOpen, book.trial != id { fail("a retry while the breaker is open") }
    // It was to go onto a connection that could not be made.
    if request.isAdmitted, request.attempt == nil { leaveBudget(id, nil) }
    if requests[id]!.isFresh { removeFresh(id) }
    requests[id]!.backsOffUntil = now + delay
    requests[id]!.state = requests[id]!.state == .active ? .active : .between
  }

  /// Did this event end an attempt of it that nobody had acted on?
  private func isResend(_ request: Request) -> Bool {
    guard case .finished? = event, case .failed(unseen: true, _)? = request.end else { return false }
    return request.state == .between && request.waitsSince == now && request.refusedAt != nil
  }

  private func releaseResets(_ id: ConnectionID) {
    guard let since = connections[id]?.resetsHeldAt else { return fail("resets go out that nobody held") }
    if now - since < .seconds(1) { fail("resets go out too early") }
    connections[id]!.resetsHeldAt = nil
  }

  private func ping(_ id: ConnectionID) {
    guard let connection = connections[id], connection.isOpen else { return fail("a ping on no connection") }
    if connection.version != .http2 { fail("a ping on h1") }
    if connection.pingedAt != nil { fail("a ping before the answer to the last") }
    if now - max(connection.lastReceived, connection.lastPing ?? connection.openedAt) < options.pingInterval {
      fail("a ping too soon")
    }
    connections[id]!.pingedAt = now
    connections[id]!.lastPing = now
  }

  private func close(_ id: ConnectionID, _ reason: CloseReason, _ core: borrowing PoolStateMachine) {
    guard let connection = connections[id] else { return fail("close of \(name(id)), which is not open") }
    let isBusy = !connection.active.isEmpty
    if isBusy { fail("close of a connection in use, \(reason)") }
    switch reason {
    case .expired:
      if now - connection.idleSince < min(options.keepaliveExpiry, connection.expiry) { fail("expired too early") }
    case .evicted, .keepaliveLimit:
      for other in connections.values where other.isOpen && other.active.isEmpty && !other.isRetiring {
        if other.idleSince < connection.idleSince { fail("\(reason), but another was used earlier") }
      }
    case .pingTimeout: if connection.pingedAt == nil { fail("a ping timeout without a ping") }
    case .connectTimeout:
      if now - connection.openedAt > 1 << 60 || connection.isOpen { fail("a connect timeout of an open connection") }
      if !connection.isOpen { return dialFailed(id, .connectTimeout, core) }
    case .aged:
      if now - connection.openedAt < options.maxConnectionAge / 10 * 9 { fail("aged too early") }
    default: break
    }
    gone(id)
  }

  private func complete(_ id: RequestID, _ completion: Completion, _ core: borrowing PoolStateMachine) {
    guard let request = requests[id] else { return fail("request \(id.value) completes twice") }
    if request.state == .active { fail("request \(id.value) completes on a connection") }
    if request.hedge != nil { fail("request \(id.value) completes while its hedge runs") }
    if completion.attempts != request.attempts { fail("\(completion.attempts) attempts, seen \(request.attempts)") }
    if completion.unseen, request.wasSeen { fail("unseen, but the server may have acted") }
    if completion.unseen, completion.failure == nil { fail("unseen success") }
    if request.options.budget.exists { overOfBudget(id) }
    if completion.isBroken {
      brokenOff(request, completion.failure)
    } else {
      checkFailure(id, request, completion.failure, core)
      if let failure = completion.failure { checkGivenUp(request, failure) }
    }
    if completion.failure == nil { origins[request.origin]!.succeeded += 1 }
    if request.isFresh { removeFresh(id) }
    requests[id] = nil
    slotsInUse.remove(id.slot)
    done += 1
  }

  private func checkFailure(
    _ id: RequestID, _ request: Request, _ failure: Failure?, _ core: borrowing PoolStateMachine
  ) {
    let options = request.options
    func isDue(_ clock: Clock, _ limit: Nanoseconds) {
      guard case .silent? = request.end, request.waitsSince == now, request.lastClock == clock else {
        return fail("\(failure!) of no attempt")
      }
      if now - request.clockSince < limit { fail("\(failure!) after \(now - request.clockSince) ns of \(limit)") }
    }
    switch failure {
    case nil:
      guard case .finished(_, let outcome, _) = event, outcome.failure == nil else { return fail("success of nothing") }
    case .cancelled:
      guard case .cancelled(let asked) = event, asked == id else { return fail("cancelled by nobody") }
    case .queueFull:
      guard case .submitted(let asked, _, _) = event, asked == id else {
        return fail("the queue is full for an old one")
      }
      if requests.count - 1 - active < self.options.maxPendingRequests { fail("the queue was not full") }
    case .budget: checkBeyond(id, request)
    case .budgetTimeout: checkBudgetTimeout(id, request)
    case .closed: if closeDeadline == nil { fail("closed while open") }
    case .poolTimeout: checkPoolTimeout(request, core)
    case .totalTimeout: if now < options.submittedAt + options.timeouts.total { fail("total timeout too early") }
    case .writeTimeout: isDue(.write, options.timeouts.write)
    case .firstByteTimeout: isDue(.firstByte, options.timeouts.firstByte)
    case .readTimeout: isDue(.read, options.timeouts.read)
    case .eventTimeout:
      guard case .silent? = request.end, request.waitsSince == now, let since = request.lastEventsSince else {
        return fail("an event timeout of no stream that runs")
      }
      if now - since < options.timeouts.event { fail("an event timeout after \(now - since) ns") }
    case .resolve: checkResolve(request)
    case .connectTimeout, .read, .write: break
    default: checkReported(failure!, request)
    }
  }

  /// What nobody has acted on is given up when its time is over, and not before.
  private func checkGivenUp(_ request: Request, _ failure: Failure) {
    guard case .finished(_, let outcome, _) = event, outcome.failure == failure, isResend(request),
      [.refused, .read, .write, .protocolViolation].contains(failure), !request.isDelivered, !request.isConsumed,
      !request.options.flags.contains(.noRetry), closeDeadline == nil
    else { return }
    let pause = request.refusals > 2 ? max(.milliseconds(10), options.retryBackoffMax) : 0
    if now + pause < resendsUntil(request) { fail("given up after refusal \(request.refusals), with time left") }
  }

  /// Is a connection open that takes new requests?
  func isUsable(_ origin: Origin, _ core: borrowing PoolStateMachine) -> Bool {
    for id in origin.connections where connections[id]!.isOpen && !connections[id]!.isRetiring {
      if !core.isRetiring(id) { return true }
    }
    return false
  }

  private func checkPoolTimeout(_ request: Request, _ core: borrowing PoolStateMachine) {
    let since = min(request.waitsSince, request.refusedAt ?? request.waitsSince)
    if now - since < request.options.timeouts.pool { fail("pool timeout too early") }
    if let origin = origins[request.origin], origin.dialFailure != nil, !isUsable(origin, core),
      origin.dialFailedAt >= request.options.submittedAt
    {
      fail("a pool timeout although a dial had failed meanwhile")
    }
    guard request.isFresh, let origin = origins[request.origin] else { return }
    if let since = origin.dialingSince, since <= request.waitsSince, origin.isTLS, origin.version == nil,
      options.httpVersions == .automatic
    {
      fail("pool timeout of a request that a dial served all the time")
    }
  }

  private func checkResolve(_ request: Request) {
    guard let host = origins[request.origin]?.host else { return fail("a name fails that is not looked up") }
    guard let at = lookupFailedAt[host], now - at <= .seconds(1) else { return fail("a name fails long after") }
  }

  private func checkReported(_ failure: Failure, _ request: Request) {
    // Instead of a pool timeout, or of a total one.
    let since = min(request.waitsSince, request.refusedAt ?? request.waitsSince)
    let end = request.options.submittedAt + request.options.timeouts.total
    let isOutOfPatience = now - since >= request.options.timeouts.pool || now >= end
    if isOutOfPatience, origins[request.origin]?.dialFailure == failure { return }
    switch event {
    case .finished(_, let outcome, _): if outcome.failure != failure { fail("\(failure) was not reported") }
    case .dialFailed(_, let reported): if reported != failure { fail("\(failure) was not reported") }
    case .connectionClosed: if failure != .connect { fail("\(failure) was not reported") }
    default: fail("\(failure) out of nothing")
    }
  }

  private func forget(_ origin: OriginID) {
    if origins[origin]?.connections.isEmpty != true { fail("an origin with connections is forgotten") }
    origins[origin] = nil
  }

  // MARK: After each event

  package func settle(_ core: borrowing PoolStateMachine) {
    let counters = core.counters
    if counters.active != active { fail("\(counters.active) active, seen \(active)") }
    if counters.inUse != inUse { fail("\(counters.inUse) in use, seen \(inUse)") }
    if counters.hedges != hedges { fail("\(counters.hedges) hedges, seen \(hedges)") }
    if counters.submitted != submitted { fail("\(counters.submitted) submitted, seen \(submitted)") }
    if counters.succeeded + counters.failed + counters.cancelled != done { fail("\(done) seen done, \(counters)") }
    if counters.connections > max(options.maxConnections, connectionsBefore) { fail("more connections than allowed") }
    if counters.connections < connections.count {
      fail("\(counters.connections) connections, \(connections.count) open")
    }
    checkBudgets(core)
    checkBreakers(core)
    if let origin = originOfFailedDial { checkOutage(origin, core) }
    originOfFailedDial = nil
    if let id = mustEnd, requests[id] != nil { fail("request \(id.value) goes on after its success") }
    mustEnd = nil
    if let deadline = closeDeadline, deadline <= now, !isStopped, event == nil { fail("not stopped in time") }
  }

  /// After three dials in a row that failed nobody waits any more, but for those whom a dial under way serves. Where
  /// time has failed the dial, a request may have come back from its backoff at the same moment, and waits for
  /// another; and so may one whom its budget had room for when these had left.
  private func checkOutage(_ id: OriginID, _ core: borrowing PoolStateMachine) {
    guard event != nil, let origin = origins[id], origin.dialFailures >= 3 else { return }
    guard let counters = core.counters(of: id), counters.connecting == 0 else { return }
    let waiting = counters.pending - counters.awaitingBudget - admittedNow.filter { requests[$0]?.origin == id }.count
    if waiting > 0, !isUsable(origin, core) { fail("\(waiting) wait at origin \(id.slot), which is down") }
  }

  /// Looks at everything that runs, for what should have ended by now. Called now and then.
  package func scan(_ core: borrowing PoolStateMachine) {
    var backingOff = (sure: 0, maybe: 0)
    for (id, request) in requests {
      let options = request.options
      func late(_ due: Instant, _ what: String) { if due < now { fail("\(what) of \(id.value) is late") } }
      late(options.submittedAt + options.timeouts.total, "total timeout")
      switch request.clock {
      case .none: break
      case .write: late(request.clockSince + options.timeouts.write, "write timeout")
      case .firstByte: late(request.clockSince + options.timeouts.firstByte, "first byte timeout")
      case .read: late(request.clockSince + options.timeouts.read, "read timeout")
      }
      if let since = request.eventsSince, request.state == .active, !request.isHeld {
        late(since + options.timeouts.event, "event timeout")
      }
      if request.state == .between, let until = request.backsOffUntil, until >= now {
        backingOff.maybe += 1
        if until > now { backingOff.sure += 1 }
      }
      // The pause before what was never sent goes again is told to nobody.
      if request.state == .between, case .unsent? = request.end, request.refusals > 2 { backingOff.maybe += 1 }
      scanHedge(id, request)
      if request.isFresh { checkPatience(id, request) }
      if request.awaitsBudget, request.attempts == 0, request.retries == 0 {
        late(request.waitsSince + options.timeouts.budget, "budget timeout")
      }
    }
    if core.counters.backingOff < backingOff.sure || core.counters.backingOff > backingOff.maybe {
      fail("\(core.counters.backingOff) back off, seen \(backingOff)")
    }
    for (id, connection) in connections where connection.isOpen { scan(id, connection) }
    scanBreakers()
  }

  private func checkPatience(_ id: RequestID, _ request: Request) {
    guard let origin = origins[request.origin], request.options.timeouts.pool != .max else { return }
    // A lookup hides a dial from this model: the time under way is not known.
    guard origin.host == nil else { return }
    let unserved = (now - request.waitsSince) - (dialTime(request.origin) - request.dialTimeBefore)
    if unserved > request.options.timeouts.pool { fail("pool timeout of \(id.value) is late") }
  }
  private func scan(_ id: ConnectionID, _ connection: Connection) {
    let isIdle = connection.active.isEmpty
    if isIdle, connection.idleSince + min(options.keepaliveExpiry, connection.expiry) < now {
      fail("\(name(id)) is stale")
    }
    if isIdle, connection.isRetiring { fail("\(name(id)) is retired and empty, but open") }
    if let at = connection.pingedAt, options.pingInterval != .max {
      if at + min(options.pingInterval, .seconds(15)) < now { fail("\(name(id)) is dead, but open") }
    }
    if connection.version == .http2, connection.pingedAt == nil, options.pingInterval != .max {
      let last = max(connection.lastReceived, connection.lastPing ?? connection.openedAt)
      if last + options.pingInterval < now { fail("\(name(id)) is silent, and nobody asks") }
    }
    if let at = connection.resetsHeldAt, at + .seconds(1) < now { fail("\(name(id)) holds resets back") }
    if !connection.isRetiring, options.maxConnectionAge != .max, isIdle,
      connection.openedAt + (options.maxConnectionAge / 10 * 11 + 10) < now
    {
      fail("\(name(id)) is too old")
    }
  }

  private func name(_ id: ConnectionID) -> String { "connection \(id.slot).\(id.generation)" }
}
