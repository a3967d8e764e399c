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
    let id = budgetNames.id(of: name) ?? nameBudget(name)
    // The core has forgotten it for another, which we hear only when the messages at hand are taken.
    if !core.knows(id) { tellBudget(id, name) }
    return id
  }

  private func nameBudget(_ name: String) -> BudgetID {
    let id = budgetNames.add(name)
    hasBudgets.store(true, ordering: .relaxed)
    tellBudget(id, name)
    return id
  }

  private func tellBudget(_ id: BudgetID, _ name: String) {
    tell(.budgetNamed(id))
    shareAgain(id, name)
  }

  func forgetBudget(_ id: BudgetID, _ refusals: Int) {
    // Its count begins anew, also where it has been named again since.
    if budgetNames[id]?.hasSeries == false { refusalsOfForgotten += refusals }
    guard !core.knows(id) else { return }
    budgetNames.remove(id)
    wantedLeases.remove(id)
    if lastBudget?.id == id { lastBudget = nil }
  }

  /// For people.
  func label(of id: BudgetID) -> String { budgetNames[id]?.label ?? "" }

  func budgeted(_ id: RequestID) {
    guard let request = live(id) else { return }
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
    let view = budgetNames.id(of: name).flatMap { core.view(of: $0, now: Instant(nanoseconds: monotonicNow())) }
    giveTurnBack()
    return view
  }

  package var knownBudgets: [String] {
    turn.lock()
    let names = budgetNames.names
    giveTurnBack()
    return names
  }

  var budgets: [LabelledBudget] {
    look { $0.map { LabelledBudget(label: $0.label, view: $1) } }?.sorted { $0.label < $1.label } ?? []
  }

  var shownBudgets: ShownBudgets {
    let shown = look { budgets in
      ShownBudgets(
        own: budgets.filter(\.0.hasSeries).map { LabelledBudget(label: $0.label, view: $1) },
        others: budgets.filter { !$0.0.hasSeries }.map(\.1), refusalsOfForgotten: refusalsOfForgotten)
    }
    guard var shown else { return ShownBudgets() }
    shown.own.sort { $0.label < $1.label }
    return shown
  }

  /// At all budgets; nil: there has been none, and the engine is not held up.
  private func look<Result>(_ body: ([(BudgetNames.Entry, BudgetView)]) -> Result) -> Result? {
    guard hasBudgets.load(ordering: .relaxed) else { return nil }
    turn.lock()
    defer { giveTurnBack() }
    let now = Instant(nanoseconds: monotonicNow())
    return body(budgetNames.all.compactMap { id, entry in core.view(of: id, now: now).map { (entry, $0) } })
  }

  // MARK: What went wrong, for people

  func costText(_ request: RequestState) -> String {
    let input = request.options.inputCost
    let output = request.options.outputCost
    let cost = Cost(requests: 1, input: input, output: output)
    let limits = core.view(of: request.budget, now: Instant(nanoseconds: now))?.limits ?? []
    let beyond = limits.first { !$0.isTold && cost.amount($0.unit) > $0.limit }
    let most = beyond.map { "\($0.limit) \($0.unit.word) in \(Engine.text($0.window))" } ?? "less"
    return "a request of \(input) input and \(output) output tokens; budget \(label(of: request.budget)) allows \(most)"
  }

  func budgetText(_ request: RequestState, _ waited: String) -> String {
    let name = label(of: request.budget)
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
      guard let request = live(id) else { return nil }
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
