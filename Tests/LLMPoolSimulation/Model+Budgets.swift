import LLMPoolCore

// Budgets: who may be sent, and what is left. Those that are configured and learn nothing are followed exactly.
extension Model {
  /// What a provider has left, by its own books.
  func provided(_ id: BudgetID, _ provider: Provider) { budgets[id]!.provider = provider }

  func isUnseen(_ attempt: AttemptID, _ outcome: Outcome) -> Bool {
    guard let id = attempts[attempt], outcome.unseen else { return false }
    let hasAnswer = hedge(of: id, attempt)?.hasAnswer ?? requests[id]!.hasAnswer
    return !hasAnswer || outcome.failure == .proxy
  }

  private func refill(_ id: BudgetID) {
    let time = Double(now - budgets[id]!.at)
    for (index, limit) in budgets[id]!.limits.enumerated() {
      let full = budgets[id]!.levels[index] + time * budgets[id]!.rate(limit)
      budgets[id]!.levels[index] = min(budgets[id]!.capacity(limit), full)
    }
    budgets[id]!.at = now
  }

  func move(_ id: BudgetID, _ cost: Cost, by sign: Double) {
    refill(id)
    for (index, limit) in budgets[id]!.limits.enumerated() {
      let new = budgets[id]!.levels[index] + sign * Double(cost.amount(limit.unit))
      budgets[id]!.levels[index] = min(budgets[id]!.capacity(limit), new)
    }
  }

  /// How much of each limit is lacking for this cost: below zero where there is more.
  func lacking(_ id: BudgetID, _ cost: Cost) -> [(limit: BudgetLimit, amount: Double)] {
    refill(id)
    let budget = budgets[id]!
    return budget.limits.enumerated().map { index, limit in
      let wanted = min(Double(cost.amount(limit.unit)), budget.capacity(limit))
      return (limit, wanted + Double(budget.reserved.amount(limit.unit)) - budget.levels[index])
    }
  }

  private func ready(_ id: BudgetID, _ cost: Cost) -> Instant {
    let waits = lacking(id, cost).map { $0.amount <= 0 ? 0 : Nanoseconds($0.amount / budgets[id]!.rate($0.limit)) }
    return now + (waits.max() ?? 0)
  }

  func admitted(_ id: RequestID, _ core: borrowing PoolStateMachine) {
    guard let request = requests[id], request.awaitsBudget else { return fail("admitted, and does not wait") }
    let name = request.options.budget
    let budget = budgets[name]!
    if budget.stoppedUntil > now { fail("admitted while the budget is stopped") }
    if budget.places >= budget.options.maxConcurrent { fail("admitted beyond max_concurrent") }
    if !budget.options.learns {
      for lack in lacking(name, request.cost) where lack.amount > 0.01 {
        fail("admitted, and \(lack.amount) of \(lack.limit) are lacking")
      }
      checkPassing(id, request)
    }
    admittedNow.append(id)
    requests[id]!.awaitsBudget = false
    requests[id]!.isAdmitted = true
    requests[id]!.isDebited = false
    if request.refusedAt != nil { requests[id]!.budgetWait += now - request.waitsSince }
    requests[id]!.waitsSince = now
    requests[id]!.dialTimeBefore = dialTime(request.origin)
    budgets[name]!.waiting.remove(id)
    budgets[name]!.inFlight.insert(id)
    budgets[name]!.reserved = sum(budget.reserved, request.cost)
  }

  /// Nobody goes before another who would fit, and who waits for much is not made to wait much longer. Only where all
  /// that wait are new, and none has aged.
  private func checkPassing(_ id: RequestID, _ request: Request) {
    let budget = budgets[request.options.budget]!
    for other in budget.waiting.union([id]) {
      let request = requests[other]!
      let patience = request.options.timeouts.budget == .max ? .seconds(5) : request.options.timeouts.budget / 2
      if request.attempts > 0 || request.retries > 0 || request.waitsSince + patience <= now { return }
    }
    func rank(_ id: RequestID) -> (Int32, Int) { (-requests[id]!.options.priority, requests[id]!.order) }
    guard let first = budget.waiting.subtracting([id]).min(by: { rank($0) < rank($1) }), rank(first) < rank(id) else {
      return
    }
    let short = lacking(request.options.budget, requests[first]!.cost).filter { $0.amount > 0.01 }
    guard !short.isEmpty else { return fail("passes one that fits") }
    let loss = short.map { Double(request.cost.amount($0.limit.unit)) / budget.rate($0.limit) }.max()!
    let wait = Double(ready(request.options.budget, requests[first]!.cost) - requests[first]!.waitsSince)
    requests[first]!.loss += loss
    if requests[first]!.loss > wait / 9 + 1e6 { fail("made another wait \(requests[first]!.loss) of \(wait) longer") }
  }

  func debit(_ id: RequestID) {
    let request = requests[id]!
    guard request.options.budget.exists else { return }
    if !request.isAdmitted { fail("sent without being admitted") }
    sends += 1
    requests[id]!.sentAs = sends
    requests[id]!.isDebited = true
    budgets[request.options.budget]!.reserved = sum(budgets[request.options.budget]!.reserved, request.cost, -1)
    move(request.options.budget, request.cost, by: -1)
  }

  /// Its attempt is over, or will not be made (nil).
  func leaveBudget(_ id: RequestID, _ end: End?) {
    let request = requests[id]!
    let budget = request.options.budget
    guard budget.exists, request.isAdmitted else { return }
    requests[id]!.isAdmitted = false
    requests[id]!.awaitsBudget = true
    budgets[budget]!.inFlight.remove(id)
    budgets[budget]!.waiting.insert(id)
    if end == nil { budgets[budget]!.reserved = sum(budgets[budget]!.reserved, request.cost, -1) }
    switch end {
    case .unsent, .failed(unseen: true, _):
      guard request.isDebited else { return }
      requests[id]!.isDebited = false
      move(budget, request.cost, by: 1)
    default: break
    }
  }

  func overOfBudget(_ id: RequestID) {
    let request = requests[id]!
    let budget = request.options.budget
    if request.isAdmitted { leaveBudget(id, nil) }
    budgets[budget]!.waiting.remove(id)
    if request.isDebited { debits[id] = (budget, request.cost) }
  }

  func settled(_ id: RequestID, _ actual: Cost) {
    guard let (budget, cost) = debits.removeValue(forKey: id) else { return }
    move(budget, sum(cost, actual, -1), by: 1)
  }

  private func sum(_ left: Cost, _ right: Cost, _ sign: Int64 = 1) -> Cost {
    Cost(
      requests: left.requests + sign * right.requests, input: left.input + sign * right.input,
      output: left.output + sign * right.output)
  }

  func refused(
    _ id: RequestID, _ status: Int, _ advice: RetryAdvice, sentAs: Int, _ core: borrowing PoolStateMachine
  ) {
    let request = requests[id]!
    let budget = request.options.budget
    guard budget.exists, status == 429 || status == 503 || status == 529, advice.shouldRetry != false else { return }
    adaptiveBefore = (budget, core.view(of: budget)?.adaptive ?? .max, sentAs <= budgets[budget]!.cutAt)
    guard let pause = advice.retryAfter, now + pause > budgets[budget]!.stoppedUntil, pause > 0 else { return }
    budgets[budget]!.stoppedUntil = now + pause
    refill(budget)
    for (index, limit) in budgets[budget]!.limits.enumerated() {
      let rate = budgets[budget]!.rate(limit)
      guard budgets[budget]!.capacity(limit) / rate <= 61e9 else { continue }
      budgets[budget]!.levels[index] = min(budgets[budget]!.levels[index], -rate * Double(pause))
    }
  }

  func checkBeyond(_ id: RequestID, _ request: Request) {
    let limits = budgets[request.options.budget]!.limits
    if request.options.flags.contains(.estimatedCost) { fail("a guess is refused") }
    if limits.allSatisfy({ request.cost.amount($0.unit) <= $0.amount }) { fail("refused, and not beyond a limit") }
  }

  func checkBudgetTimeout(_ id: RequestID, _ request: Request) {
    if !request.awaitsBudget { return fail("a budget timeout of one that was admitted") }
    let options = request.options
    if now - request.waitsSince >= options.timeouts.budget { return }
    let deadline = min(request.waitsSince + options.timeouts.budget, options.submittedAt + options.timeouts.total)
    if budgets[options.budget]!.stoppedUntil > deadline { return }
    if request.attempts == 0, request.retries == 0 {
      guard case .submitted(let new, _, _) = event, new == id else { return fail("a budget timeout too early") }
    }
    if !budgets[options.budget]!.options.learns, ready(options.budget, request.cost) <= deadline {
      fail("told that it will be late, and would not be")
    }
  }

  func checkBudgets(_ core: borrowing PoolStateMachine) {
    if let before = adaptiveBefore {
      let after = core.view(of: before.budget)?.adaptive ?? .max
      if after < before.limit {
        if before.isOld, before.limit != .max { fail("cut again for what was sent before the last cut") }
        budgets[before.budget]!.cutAt = sends
      }
      adaptiveBefore = nil
    }
    eventsSeen += 1
    guard eventsSeen % 8 == 0, closeDeadline == nil, !budgets.isEmpty else { return }
    let isDue = core.nextDeadline.map { $0 <= now } ?? false
    for (id, budget) in budgets {
      guard let view = core.view(of: id) else { return fail("a configured budget is forgotten") }
      if let provider = budget.provider, let told = view.limits.first(where: \.isTold) {
        let truth = provider.level(now)
        if Double(told.remaining) > truth + 3 { fail("believes in \(told.remaining), the provider has \(truth)") }
      }
      guard !budget.options.learns else { continue }
      checkLevels(id, view)
      if !isDue { checkRoom(id, view) }
    }
  }

  private func checkLevels(_ id: BudgetID, _ view: BudgetView) {
    refill(id)
    for (limit, level) in zip(view.limits, budgets[id]!.levels) where abs(Double(limit.remaining) - level) > 1.01 {
      fail("\(limit.remaining) of \(limit.limit) left, seen \(level)")
    }
  }

  /// Who waits alone, and fits, must not wait.
  private func checkRoom(_ id: BudgetID, _ view: BudgetView) {
    let budget = budgets[id]!
    guard budget.waiting.count == 1, let only = budget.waiting.first.flatMap({ requests[$0] }), only.attempts == 0,
      only.retries == 0, budget.stoppedUntil <= now, budget.places < budget.options.maxConcurrent,
      view.adaptive == nil
    else { return }
    if lacking(id, only.cost).allSatisfy({ $0.amount < -0.01 }) { fail("room in a budget, and one who waits for it") }
  }
}
