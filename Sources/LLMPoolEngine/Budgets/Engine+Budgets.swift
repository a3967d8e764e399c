import Glibc
import LLMPoolCore
import LLMPoolWire
import Synchronization

// Budgets by their names; the core knows them by numbers.
extension Engine {
  /// Its number, by what a request says.
  func budget(named bytes: UnsafeRawBufferPointer) -> BudgetID {
    if let lastBudget, isNamed(lastBudget.name, bytes), core.knows(lastBudget.id) { return lastBudget.id }
    let id = budget(named: String(decoding: bytes, as: UTF8.self))
    lastBudget = (Array(bytes), id)
    return id
  }

  private func isNamed(_ name: [UInt8], _ bytes: UnsafeRawBufferPointer) -> Bool {
    name.count == bytes.count && memcmp(bytes.baseAddress!, name, name.count) == 0
  }

  /// One that is new is named to the core, which may forget another for it.
  func budget(named name: String) -> BudgetID {
    let id = knownBudget(named: name) ?? nameBudget(name)
    // The core has forgotten it for another, which we hear only when the messages at hand are taken.
    if !core.knows(id) { tell(.budgetNamed(id)) }
    return id
  }

  private func knownBudget(named name: String) -> BudgetID? {
    budgetByName[name].map { BudgetID(slot: Int32($0)) }
  }

  private func nameBudget(_ name: String) -> BudgetID {
    let slot = freeBudgets.popLast() ?? budgetNames.count
    if slot == budgetNames.count { budgetNames.append(nil) }
    budgetNames[slot] = name
    budgetByName[name] = slot
    hasBudgets.store(true, ordering: .relaxed)
    let id = BudgetID(slot: Int32(slot))
    tell(.budgetNamed(id))
    return id
  }

  func forgetBudget(_ id: BudgetID) {
    let slot = Int(id.slot)
    // Not where it has been named again since.
    guard let name = budgetNames[slot], !core.knows(id) else { return }
    budgetNames[slot] = nil
    budgetByName[name] = nil
    freeBudgets.append(slot)
    if lastBudget?.id == id { lastBudget = nil }
  }

  func name(of id: BudgetID) -> String { budgetNames[Int(id.slot)] ?? "" }

  func budgeted(_ id: RequestID) {
    guard let request = requests[id.slot], request.id == id else { return }
    let isFirst = request.budgeted == 0
    request.budgeted = microseconds(since: request)
    if isFirst { record(.budgetWait, request.budgeted, of: request.origin) }
  }

  /// What the head of an answer tells of the provider's limits.
  func noteLimits(_ attempt: AttemptID, _ headers: UnsafeRawBufferPointer) {
    var report = RateReport()
    RateLimitFields.read(in: headers, now: wallClockSeconds()) { limit, told in
      var entry = RateReport.Entry()
      entry.limit = told.limit ?? 0
      entry.remaining = told.remaining ?? 0
      entry.untilFull = told.reset.map { .milliseconds($0) }
      if told.isOfMinute { entry.window = .seconds(60) }
      report[ToldLimit(limit)] = entry
    }
    if !report.isEmpty { tell(.limitsTold(attempt, report)) }
  }

  // MARK: Calls of the application

  package func configureBudget(_ configuration: BudgetConfiguration) { post(.configureBudget(configuration)) }

  /// The request may be over.
  package func settle(_ id: UInt64, input: UInt64, output: UInt64) {
    post(.settle(RequestID(value: id), input: Int64(clamping: input), output: Int64(clamping: output)))
  }

  /// As of the engine's last turn; nil: no request has named it, and it is not configured.
  package func budget(_ name: String) -> BudgetView? {
    turn.lock()
    let view = knownBudget(named: name).flatMap { core.view(of: $0, now: Instant(nanoseconds: monotonicNow())) }
    giveTurnBack()
    return view
  }

  package var knownBudgets: [String] {
    turn.lock()
    let names = Array(budgetByName.keys)
    giveTurnBack()
    return names
  }

  package var budgets: [(name: String, view: BudgetView)] {
    // The engine is not held up for those that do not exist.
    guard hasBudgets.load(ordering: .relaxed) else { return [] }
    turn.lock()
    let now = Instant(nanoseconds: monotonicNow())
    let all = budgetByName.compactMap { name, slot in
      core.view(of: BudgetID(slot: Int32(slot)), now: now).map { (name: name, view: $0) }
    }
    giveTurnBack()
    return all.sorted { $0.name < $1.name }
  }

  // MARK: What went wrong, for people

  func costText(_ request: RequestState) -> String {
    let input = request.options.inputCost
    let output = request.options.outputCost
    let cost = Cost(requests: 1, input: input, output: output)
    let limits = core.view(of: request.budget, now: Instant(nanoseconds: now))?.limits ?? []
    let beyond = limits.first { !$0.isTold && cost.amount($0.unit) > $0.limit }
    let most = beyond.map { "\($0.limit) \($0.unit.word) in \(Engine.text($0.window))" } ?? "less"
    return "a request of \(input) input and \(output) output tokens; budget \(name(of: request.budget)) allows \(most)"
  }

  func budgetText(_ request: RequestState, _ waited: String) -> String {
    let name = name(of: request.budget)
    guard let view = core.view(of: request.budget, now: Instant(nanoseconds: now)) else { return "budget \(name)" }
    let start = "budget \(name) had no room for the request, \(waited) after submission: "
    if view.stoppedFor > 0 {
      return start + "an answer has stopped it, for another \(Engine.text(view.stoppedFor))"
    }
    if view.inFlight >= view.options.maxConcurrent {
      return start + "max_concurrent \(view.options.maxConcurrent), held by \(holders(of: request.budget))"
    }
    if !view.isAnswered, view.inFlight > 0 {
      return start + "nothing has answered yet, and before that few are sent: \(view.inFlight) are under way"
    }
    let others = "\(view.waiting) other requests wait"
    if let adaptive = view.adaptive {
      return start + "refusals leave \(adaptive) without an answer at a time; " + others
    }
    let limits = view.limits.map { limit in
      "\(limit.remaining) of \(limit.limit) \(limit.unit.word) left, all in \(Engine.text(limit.untilFull))"
    }
    return start + (limits + [others]).joined(separator: "; ")
  }

  private func holders(of budget: BudgetID) -> String {
    let held = core.holders(of: budget, atMost: 3).compactMap { id -> String? in
      guard let request = requests[id.slot], request.id == id else { return nil }
      let kind = request.isStreamed ? "stream" : "request"
      let age = Engine.text(now - request.options.submittedAt.nanoseconds)
      return "\(kind) \(id.value) to \(origins[Int(request.origin)]?.name ?? "") (since \(age))"
    }
    return held.isEmpty ? "requests that are ending" : held.joined(separator: ", ")
  }
}

extension ToldLimit {
  fileprivate init(_ limit: RateLimitFields.Limit) {
    self =
      switch limit {
      case .requests: .requests
      case .tokens: .tokens
      case .input: .input
      case .output: .output
      case .projectTokens: .projectTokens
      }
  }
}

extension BudgetView.Limit {
  /// In metrics: who has said it.
  var source: String { told.map { $0 == .projectTokens ? "told of the project" : "told" } ?? "configured" }
}

extension BudgetUnit {
  /// In messages and metrics.
  package var word: String {
    switch self {
    case .requests: "requests"
    case .tokens: "tokens"
    case .input: "input tokens"
    case .output: "output tokens"
    }
  }
}
