import Testing

@testable import LLMPoolCore

/// Plays one side of a conversation with the core and writes down the other in short words: each call returns the
/// actions that it caused, as "dial c0", "send r0 on c0", "complete r0 ok". Requests are named r0, r1 ... in the
/// order of submission, connections c0, c1 ... in the order in which they are first heard of, origins and hosts by
/// their slots. The invariants are checked after every call.
final class Script {
  private(set) var pool: PoolStateMachine
  private(set) var now = Instant(nanoseconds: 1_000_000_000)
  private var requestNames: [RequestID: String] = [:]
  private var requestIDs: [String: RequestID] = [:]
  private var attempts: [String: AttemptID] = [:]
  private var attemptNames: [AttemptID: String] = [:]
  private var connectionIDs: [String: ConnectionID] = [:]
  private var connectionNames: [ConnectionID: String] = [:]
  private(set) var freeSlots: [Int] = []
  private var slotOf: [String: Int] = [:]
  private(set) var delays: [Nanoseconds] = []
  /// Which attempts notices of retries were about.
  private(set) var failedAttempts: [UInt32] = []
  private(set) var rotations: [UInt32] = []
  private(set) var dialDeadlines: [Instant] = []

  /// `origins` of them, h1 over plain TCP unless `tls`; each with a host of its own if `named`.
  init(origins: Int = 1, tls: Bool = false, named: Bool = false, _ change: (inout PoolOptions) -> Void = { _ in }) {
    var options = PoolOptions()
    options.retryBackoff = 0
    change(&options)
    pool = PoolStateMachine(options: options, seed: 1)
    for slot in 0..<origins { add(slot, tls: tls, host: named ? slot : nil) }
  }

  var counters: Counters { pool.counters }
  var nextDeadline: Instant? { pool.nextDeadline }

  func add(_ origin: Int, tls: Bool = false, host: Int? = nil) {
    _ = handle(.originAdded(OriginID(slot: Int32(origin)), host.map { HostID(slot: Int32($0)) }, isTLS: tls))
  }

  @discardableResult
  func handle(_ event: Event) -> [String] { record(actions(of: event)) }

  /// As the core says them, for who looks closer.
  func actions(of event: Event) -> [Action] {
    var actions: [Action] = []
    pool.handle(event, now: now, into: &actions)
    return actions
  }

  /// Lets time pass in one step to its end, as if the engine had slept.
  @discardableResult
  func wait(_ time: Nanoseconds) -> [String] {
    now = now + time
    var actions: [Action] = []
    pool.advance(to: now, into: &actions)
    return record(actions)
  }

  /// Lets time pass, stopping at each deadline of the core; each line begins with the milliseconds since the start.
  @discardableResult
  func run(_ time: Nanoseconds) -> [String] {
    let start = now
    let end = now + time
    var lines: [String] = []
    while let due = pool.nextDeadline, due <= end {
      lines += wait(max(0, due - now)).map { "\((now - start) / 1_000_000) ms: \($0)" }
    }
    _ = wait(end - now)
    return lines
  }

  @discardableResult
  func submit(
    _ origin: Int = 0, priority: Int32 = 0, flags: RequestOptions.Flags = [],
    _ change: (inout RequestOptions) -> Void = { _ in }
  ) -> [String] {
    let name = "r\(requestIDs.count)"
    let slot = freeSlots.popLast() ?? requestIDs.count
    let id = RequestID(serial: UInt64(requestIDs.count + 1), slot: slot)
    requestNames[id] = name
    requestIDs[name] = id
    slotOf[name] = slot
    var options = RequestOptions(submittedAt: now)
    options.priority = priority
    options.flags = flags
    change(&options)
    return handle(.submitted(id, OriginID(slot: Int32(origin)), options))
  }

  func request(_ name: String) -> RequestID { requestIDs[name]! }
  func attempt(_ name: String) -> AttemptID { attempts[name]! }
  func connection(_ name: String) -> ConnectionID { connectionIDs[name]! }

  @discardableResult func cancel(_ name: String) -> [String] { handle(.cancelled(request(name))) }
  @discardableResult func dialed(_ name: String, _ version: WireVersion = .http1, at address: UInt32? = nil) -> [String]
  {
    handle(.dialed(connection(name), version, address.map { AddressID(value: $0) }))
  }
  @discardableResult func dialFailed(_ name: String, _ failure: Failure = .connect) -> [String] {
    handle(.dialFailed(connection(name), failure))
  }
  @discardableResult func settings(_ name: String, _ streams: Int) -> [String] {
    handle(.settings(connection(name), maxStreams: streams))
  }
  @discardableResult func goAway(_ name: String) -> [String] { handle(.goAway(connection(name))) }
  @discardableResult func received(_ name: String) -> [String] { handle(.received(connection(name))) }
  @discardableResult func lost(_ name: String) -> [String] {
    handle(.connectionClosed(connection(name), .closedByPeer))
  }
  @discardableResult func progress(_ name: String, _ phases: Phase...) -> [String] {
    phases.flatMap { handle(.progressed(attempt(name), $0)) }
  }
  @discardableResult func answered(_ name: String, _ status: Int, _ advice: RetryAdvice = .none) -> [String] {
    handle(.answered(attempt(name), httpStatus: status, advice))
  }
  @discardableResult func finish(_ name: String, reusable: Bool = true) -> [String] {
    handle(.finished(attempt(name), .success, reusable: reusable))
  }
  @discardableResult func fail(_ name: String, _ failure: Failure, unseen: Bool = false) -> [String] {
    handle(.finished(attempt(name), Outcome(failure: failure, unseen: unseen), reusable: false))
  }
  @discardableResult func resolved(_ host: Int, _ addresses: UInt32...) -> [String] {
    var list = AddressList()
    for address in addresses { list.append(AddressID(value: address)) }
    return handle(.resolved(HostID(slot: Int32(host)), list))
  }
  @discardableResult func resolveFailed(_ host: Int) -> [String] { handle(.resolveFailed(HostID(slot: Int32(host)))) }
  @discardableResult func close(within time: Nanoseconds) -> [String] { handle(.closing(deadline: now + time)) }
  @discardableResult func configure(identity: Bool = false, _ change: (inout PoolOptions) -> Void) -> [String] {
    var options = pool.options
    change(&options)
    return handle(.reconfigured(options, identityChanged: identity))
  }
  @discardableResult func budget(_ slot: Int32 = 0, _ change: (inout BudgetOptions) -> Void) -> [String] {
    var options = BudgetOptions()
    options.learns = false
    change(&options)
    return handle(.budgetConfigured(BudgetID(slot: slot), options))
  }
  @discardableResult func share(_ safeShare: Double? = 0.25, hasStore: Bool = true) -> [String] {
    handle(.budgetShared(BudgetID(slot: 0), safeShare.map { ShareOptions(safeShare: $0, hasStore: hasStore) }))
  }
  /// What budget 0 asks its store for.
  @discardableResult func ask() -> LeaseDemand {
    defer { if let broken = pool.checkInvariants() { Issue.record("\(broken) after an ask") } }
    return pool.askForLease(BudgetID(slot: 0), now: now)!
  }
  func askOther(_ slot: Int32) -> LeaseDemand? { pool.askForLease(BudgetID(slot: slot), now: now) }
  /// So much of each limit that was asked for, in their order.
  @discardableResult func grant(
    _ demand: LeaseDemand, _ amounts: Int64..., members: Int = 4, valid: Nanoseconds = .seconds(2),
    places: Int = .max, stopped: Nanoseconds = 0, of whole: Int64 = 0
  ) -> [String] {
    let limits = zip(demand.limits, amounts).map {
      LeaseGrant.Limit(unit: $0.unit, told: $0.told, window: $0.window, amount: whole, granted: $1)
    }
    let grant = LeaseGrant(
      sequence: demand.sequence, validFor: valid, members: members, places: places, stoppedFor: stopped,
      limits: limits)
    return handle(.leaseGranted(BudgetID(slot: 0), grant))
  }
  var shareView: ShareView? { pool.view(of: BudgetID(slot: 0), now: now)!.share }
  /// The clock goes on, and nobody tells the core.
  func sleep(_ time: Nanoseconds) { now = now + time }
  /// A request of budget 0, with so many tokens.
  @discardableResult func spend(
    _ input: Int64 = 0, _ output: Int64 = 0, priority: Int32 = 0, flags: RequestOptions.Flags = [],
    _ change: (inout RequestOptions) -> Void = { _ in }
  ) -> [String] {
    submit(priority: priority, flags: flags) {
      $0.budget = BudgetID(slot: 0)
      $0.inputCost = input
      $0.outputCost = output
      change(&$0)
    }
  }
  @discardableResult func told(
    _ name: String, _ limit: ToldLimit, _ amount: Int64, remaining: Int64, full: Nanoseconds? = nil,
    window: Nanoseconds? = nil
  ) -> [String] {
    var report = RateReport()
    report[limit].limit = amount
    report[limit].remaining = remaining
    report[limit].untilFull = full
    report[limit].window = window
    return handle(.limitsTold(attempt(name), report))
  }
  /// What is left of the limits of budget 0.
  var left: [Int64] { pool.view(of: BudgetID(slot: 0))!.limits.map(\.remaining) }
  /// The origins whose counts have changed, each with how many reasons it has, where there are new ones.
  func takeTouched() -> [Int?] {
    var touched: [Int?] = []
    pool.takeTouchedOrigins { _, _, reasons in touched.append(reasons?.counted.count) }
    return touched
  }
  func watch(_ mask: NoticeMask) { handle(.watching(mask)) }

  /// An open connection with nothing on it.
  func open(_ origin: Int = 0, _ version: WireVersion = .http1) {
    let dial = submit(origin).last { $0.hasPrefix("dial") }!
    let name = String(dial.split(separator: " ")[1])
    dialed(name, version)
    finish("r\(requestIDs.count - 1)")
  }

  // MARK: Words

  private func record(_ actions: [Action]) -> [String] {
    let lines = actions.map(describe)
    if let broken = pool.checkInvariants() { Issue.record("\(broken) after \(lines)") }
    return lines
  }

  private func name(_ id: ConnectionID) -> String {
    if let name = connectionNames[id] { return name }
    let name = "c\(connectionNames.count)"
    connectionNames[id] = name
    connectionIDs[name] = id
    return name
  }

  private func describe(_ action: Action) -> String {
    switch action {
    case .resolve(let host): return "resolve h\(host.slot)"
    case .dial(let id, let origin, let rotation, let deadline):
      rotations.append(rotation)
      dialDeadlines.append(deadline)
      return "dial \(name(id))" + (origin.slot == 0 ? "" : " o\(origin.slot)")
    case .send(let attempt, let request, let connection, let reused):
      attempts[requestNames[request]!] = attempt
      attemptNames[attempt] = requestNames[request]!
      return "send \(requestNames[request]!) on \(name(connection))" + (reused ? " reused" : "")
    case .hedge(let attempt, let request, let connection, let reused):
      let name = requestNames[request]! + "'"
      attempts[name] = attempt
      attemptNames[attempt] = name
      return "hedge \(name) on \(self.name(connection))" + (reused ? " reused" : "")
    case .promoted(let attempt): return "promote \(attemptNames[attempt]!)"
    case .abort(let attempt, let connection): return "abort \(attemptNames[attempt]!) on \(name(connection))"
    case .deliver(let attempt): return "deliver \(attemptNames[attempt]!)"
    case .discard(let attempt): return "discard \(attemptNames[attempt]!)"
    case .ping(let connection): return "ping \(name(connection))"
    case .releaseResets(let connection): return "release resets of \(name(connection))"
    case .close(let connection, let reason): return "close \(name(connection)) \(reason)"
    case .complete(let request, let completion):
      let name = requestNames[request]!
      freeSlots.append(slotOf[name]!)
      let end = completion.failure.map { "\($0)" } ?? "ok"
      return "complete \(name) \(end)" + (completion.unseen ? " unseen" : "") + (completion.isBroken ? " broken" : "")
    case .forget(let origin): return "forget o\(origin.slot)"
    case .forgetBudget(let id, _): return "forget b\(id.slot)"
    case .admitted(let request): return "admit \(requestNames[request]!)"
    case .leaseWanted(let id): return "lease of b\(id.slot) wanted"
    case .notice(let notice): return describe(notice)
    case .stopped: return "stopped"
    }
  }

  private func describe(_ notice: Notice) -> String {
    switch notice {
    case .utilizationHigh(let used, let limit, let waiting, let longest):
      return "high \(used)/\(limit), \(waiting) waiting, \(longest / 1_000_000) ms"
    case .utilizationNormal(let used, let limit): return "normal \(used)/\(limit)"
    case .connectionOpened(let id, _): return "opened \(name(id))"
    case .connectionClosed(let id, _, let reason): return "closed \(name(id)) \(reason)"
    case .retry(let request, _, let failure, let status, let delay, let attempt):
      delays.append(delay)
      failedAttempts.append(attempt)
      return "retry \(requestNames[request]!) " + (failure.map { "\($0)" } ?? "\(status)")
    case .hedge(let request, _, let silence): return "hedged \(requestNames[request]!) after \(silence / 1_000_000) ms"
    case .budgetStopped(let id, _, let delay, let status, let waiting):
      return "stopped b\(id.slot) by \(status), \(waiting) waiting, \(delay / 1_000_000) ms"
    case .budgetResumed(let id): return "resumed b\(id.slot)"
    case .breakerOpened(let origin, let cause, let status, let failures):
      return "broke o\(origin.slot) after \(failures): \(status == 0 ? "\(cause)" : "\(status)")"
    case .breakerClosed(let origin, _, let isBack): return (isBack ? "mended" : "reset") + " o\(origin.slot)"
    }
  }
}
