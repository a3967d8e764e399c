import LLMPoolCore

// Second attempts: when one may go out and where, and which of the two gives the answer.
extension Model {
  /// The second of two attempts that run.
  struct Hedge {
    var attempt: AttemptID
    var connection: ConnectionID
    var clock = Clock.write
    var clockSince: Instant
    var isSent = false
    var hasAnswer = false
    var hasProgress = false
    var sentAs = 0
    var streamsBeforeSettings = 0
  }

  /// Two attempts that ran when this event told of a head that is to be tried again.
  struct RefusedHead {
    var request: RequestID
    var refused: AttemptID
  }

  /// As many as may go out are bounded by those who ask.
  func countHedging(_ asked: RequestOptions) {
    guard asked.hedgeAfter != .max, asked.flags.contains(.retrySent), !asked.flags.contains(.noRetry) else { return }
    hedgesAllowed += Double(options.hedgePercent) / 100
  }

  func hedge(
    _ attempt: AttemptID, _ id: RequestID, _ on: ConnectionID, _ reused: Bool, _ core: borrowing PoolStateMachine
  ) {
    guard let request = requests[id], request.state == .active, let own = request.connection else {
      return fail("a hedge beside no attempt")
    }
    guard let connection = connections[on], connection.isOpen else { return fail("hedged on no connection") }
    checkHedge(request)
    checkPlace(request, on, connection, reused)
    if on == own {
      checkNoOther(own, request, core)
    } else {
      checkChoice(on, connection, except: own, core)
    }
    if let first = origins[request.origin]!.fresh.first { fail("a hedge goes before \(first.value), which waits") }
    let knowsLimit = connection.version == .http1 || connection.settings != nil
    var hedge = Hedge(attempt: attempt, connection: on, clockSince: now)
    hedge.streamsBeforeSettings = knowsLimit ? 0 : connection.active.count + 1
    if request.options.budget.exists { hedge.sentAs = debitHedge(id) }
    occupy(on, attempt, id)
    requests[id]!.hedge = hedge
    requests[id]!.isHedged = true
    requests[id]!.attempts += 1
    hedges += 1
  }

  private func checkHedge(_ request: Request) {
    let flags = request.options.flags
    if !flags.contains(.retrySent) || flags.contains(.noRetry) || request.options.hedgeAfter == .max {
      fail("a hedge that nobody asked for")
    }
    if request.isHedged { fail("a second hedge") }
    if request.hasAnswer || request.isDelivered || request.isDropping { fail("a hedge beside an answer") }
    if request.isConsumed { fail("a hedge of an upload") }
    if closeDeadline != nil { fail("a hedge while closing") }
    if now - request.sentAt < request.options.hedgeAfter { fail("a hedge after \(now - request.sentAt) ns") }
    if options.hedgePercent == 0 { fail("a hedge although none may be") }
    if Double(hedges + 1) > hedgesAllowed + 1e-6 { fail("hedge \(hedges + 1) of \(hedgesAllowed)") }
  }

  /// Another stream beside the first attempt only where no other connection is free.
  private func checkNoOther(_ own: ConnectionID, _ request: Request, _ core: borrowing PoolStateMachine) {
    for other in origins[request.origin]!.connections where other != own && hasRoom(other, core) {
      fail("a hedge beside the first attempt, and another connection is free")
    }
  }

  func hasRoom(_ id: ConnectionID, _ core: borrowing PoolStateMachine) -> Bool {
    let connection = connections[id]!
    return connection.isOpen && !connection.isRetiring && connection.active.count < connection.limit
      && !core.isRetiring(id)
  }

  private func debitHedge(_ id: RequestID) -> Int {
    let request = requests[id]!
    let name = request.options.budget
    let budget = budgets[name]!
    if budget.stoppedUntil > now { fail("a hedge while the budget is stopped") }
    if budget.places >= budget.options.maxConcurrent { fail("a hedge beyond max_concurrent") }
    let cost = hedgeCost(request)
    if !budget.options.learns {
      for lack in lacking(name, cost) where lack.amount > 0.01 {
        fail("a hedge, and \(lack.amount) of \(lack.limit) are lacking")
      }
    }
    sends += 1
    budgets[name]!.hedged.insert(id)
    move(name, cost, by: -1)
    return sends
  }

  private func hedgeCost(_ request: Request) -> Cost {
    Cost(requests: 1, input: request.options.inputCost, output: request.options.outputCost)
  }

  /// The second attempt of the request, where this is it.
  func hedge(of id: RequestID, _ attempt: AttemptID) -> Hedge? {
    guard let hedge = requests[id]?.hedge, hedge.attempt == attempt else { return nil }
    return hedge
  }

  func progressHedge(_ id: RequestID, _ phase: Phase) {
    guard var hedge = requests[id]!.hedge else { return }
    func restart(_ clock: Clock) {
      hedge.clock = clock
      hedge.clockSince = now
    }
    let hasOwnClock = requests[id]!.options.timeouts.firstByte != .max
    switch phase {
    case .wrote:
      hedge.hasProgress = true
      if !hedge.isSent { restart(.write) }
    case .sent:
      hedge.hasProgress = true
      if !hedge.isSent { restart(hedge.hasAnswer || !hasOwnClock ? .read : .firstByte) }
      hedge.isSent = true
    case .waitingForApplication: if !hedge.isSent { hedge.clock = .none }
    case .received:
      hedge.hasProgress = true
      hedge.hasAnswer = true
      if hedge.isSent { restart(.read) }
    default: fail("\(phase) of a hedge before its head")
    }
    requests[id]!.hedge = hedge
  }

  /// Of two that run a head which may be tried again loses, any other wins.
  func noteHead(_ id: RequestID, _ attempt: AttemptID, _ status: Int, _ advice: RetryAdvice) {
    guard requests[id]!.hedge != nil, requests[id]!.attempt != nil else { return }
    let isTemporary = status == 408 || status == 409 || status == 429 || status >= 500
    guard status >= 400, advice.shouldRetry ?? isTemporary else { return }
    refusedHead = RefusedHead(request: id, refused: attempt)
  }

  func hedgeFinished(_ id: RequestID, _ hedge: Hedge, _ outcome: Outcome) {
    guard let failure = outcome.failure else { return fail("a hedge ends without a head") }
    let unseen = outcome.unseen && (!hedge.hasAnswer || failure == .proxy)
    hedgeEnded(id, unseen ? .failed(unseen: true, beyondLimit: false) : .silent)
  }

  func hedgeEnded(_ id: RequestID, _ end: End) {
    guard let hedge = requests[id]!.hedge else { return }
    vacate(hedge.connection, hedge.attempt)
    requests[id]!.hedge = nil
    let budget = requests[id]!.options.budget
    if budget.exists { budgets[budget]!.hedged.remove(id) }
    switch end {
    case .unsent, .failed(unseen: true, _):
      if budget.exists { move(budget, hedgeCost(requests[id]!), by: 1) }
      // As if it had not been: its connection was gone.
      guard connections[hedge.connection]!.version == .http1 else { return }
      requests[id]!.isHedged = false
      requests[id]!.lostHedges += 1
      hedgesAllowed += 1
    default: requests[id]!.wasSeen = true
    }
  }

  /// The first attempt is over: the second is the one from now on.
  func promoted(_ attempt: AttemptID) {
    guard let id = attempts[attempt], let hedge = hedge(of: id, attempt) else { return fail("\(attempt) is no hedge") }
    if requests[id]!.attempt != nil { return fail("promoted beside the first attempt") }
    if let head = refusedHead, head.request == id, head.refused == attempt { fail("a refusal wins") }
    requests[id]!.hedge = nil
    requests[id]!.attempt = attempt
    requests[id]!.connection = hedge.connection
    requests[id]!.end = nil
    requests[id]!.state = .active
    requests[id]!.isDropping = false
    requests[id]!.clock = hedge.clock
    requests[id]!.clockSince = hedge.clockSince
    requests[id]!.isSent = hedge.isSent
    requests[id]!.isHeld = false
    requests[id]!.eventsSince = nil
    requests[id]!.hasAnswer = hedge.hasAnswer
    requests[id]!.hasProgress = hedge.hasProgress
    requests[id]!.streamsBeforeSettings = hedge.streamsBeforeSettings
    resumed(id, hedge)
  }

  /// Its budget has it as admitted again, by the other attempt.
  func resumedInBudget(_ id: RequestID, _ hedge: Hedge) {
    let budget = requests[id]!.options.budget
    guard budget.exists else { return }
    budgets[budget]!.hedged.remove(id)
    budgets[budget]!.waiting.remove(id)
    budgets[budget]!.inFlight.insert(id)
    requests[id]!.cost = hedgeCost(requests[id]!)
    requests[id]!.awaitsBudget = false
    requests[id]!.isAdmitted = true
    requests[id]!.isDebited = true
    requests[id]!.sentAs = hedge.sentAs
  }

  func checkDelivered(_ id: RequestID, _ attempt: AttemptID) {
    if requests[id]!.hedge != nil { fail("an answer is taken while another attempt runs") }
    if let head = refusedHead, head.refused == attempt { fail("a refusal is taken while another attempt ran") }
  }

  func scanHedge(_ id: RequestID, _ request: Request) {
    guard let hedge = request.hedge else { return }
    let timeouts = request.options.timeouts
    let limit: Nanoseconds
    switch hedge.clock {
    case .none: return
    case .write: limit = timeouts.write
    case .firstByte: limit = timeouts.firstByte
    case .read: limit = timeouts.read
    }
    if hedge.clockSince + limit < now { fail("the \(hedge.clock) timeout of the hedge of \(id.value) is late") }
  }
}
