import CLLMPool
import LLMPoolCore
import LLMPoolEngine

@implementation @_cdecl("llmpool_budget_configure")
public func llmpool_budget_configure(
  _ pool: OpaquePointer!, _ name: UnsafePointer<CChar>!, _ budget: UnsafePointer<llmpool_budget_t>!,
  _ limits: UnsafePointer<llmpool_limit_t>!, _ limit_size: Int, _ count: UInt32
) -> llmpool_status_t {
  status { () throws(Fault) in
    let handle = try LLMPoolC.pool(pool)
    guard name != nil else { throw Fault(.invalidArgument, "name: it is NULL") }
    let given = try llmpool_budget_t.read(budget)
    let limits = try llmpool_limit_t.read(limits, limit_size, count)
    try handle.configureBudget(try given.configuration(bytes(name), limits))
  }
}

@implementation @_cdecl("llmpool_budget_get")
public func llmpool_budget_get(
  _ pool: OpaquePointer!, _ name: UnsafePointer<CChar>!, _ budget_out: UnsafeMutablePointer<llmpool_budget_t>!,
  _ limits_out: UnsafeMutablePointer<llmpool_limit_t>!, _ limit_size: Int, _ capacity: UInt32,
  _ count_out: UnsafeMutablePointer<UInt32>!
) -> llmpool_status_t {
  status { () throws(Fault) in
    let (target, size) = try sized(budget_out, "budget_out", smallest: llmpool_budget_t.smallestSize)
    let view = try view(of: name, in: LLMPoolC.pool(pool))
    try llmpool_limit_t.write(view.limits.prefix(Int(capacity)), to: limits_out, limit_size)
    write(llmpool_budget_t(view, size: size), to: target, size: size)
    count_out?.pointee = UInt32(view.limits.count)
  }
}

func budgetName(_ name: UnsafePointer<CChar>?) throws(Fault) -> String {
  guard let name = text(name) else { throw Fault(.invalidArgument, "name: it is NULL") }
  return name
}

private func view(of name: UnsafePointer<CChar>?, in pool: PoolHandle) throws(Fault) -> BudgetView {
  let name = try budgetName(name)
  guard let view = try pool.budget(name) else { throw Fault(.notFound, "name: the pool knows no budget \(name)") }
  return view
}

@implementation @_cdecl("llmpool_budgets")
public func llmpool_budgets(_ pool: OpaquePointer!, _ text_out: UnsafeMutablePointer<CChar>!, _ size: Int) -> Int64 {
  var text = ""
  let result = status { () throws(Fault) in
    try checkText(text_out, size)
    text = try LLMPoolC.pool(pool).budgetNames().map { $0 + "\n" }.joined()
  }
  return result < 0 ? Int64(result) : copy(text, text_out, size)
}

@implementation @_cdecl("llmpool_budget_settle")
public func llmpool_budget_settle(
  _ pool: OpaquePointer!, _ request_id: UInt64, _ input: UInt64, _ output: UInt64
) -> llmpool_status_t {
  status { () throws(Fault) in try LLMPoolC.pool(pool).open().settle(request_id, input: input, output: output) }
}

// MARK: Structs

extension llmpool_budget_t {
  /// Up to what can be configured.
  static let smallestSize = MemoryLayout<llmpool_budget_t>.offset(of: \.in_flight)!

  fileprivate static func read(_ pointer: UnsafePointer<llmpool_budget_t>?) throws(Fault) -> llmpool_budget_t {
    guard let pointer else { throw Fault(.invalidArgument, "budget: it is NULL") }
    let given = try LLMPoolC.read(pointer, "budget", smallest: smallestSize, over: llmpool_budget_t())
    guard given.no_learning <= 1 else {
      throw Fault(.invalidArgument, "no_learning: expected 0 or 1, got \(given.no_learning)")
    }
    return given
  }

  fileprivate func configuration(
    _ name: UnsafeRawBufferPointer, _ limits: [BudgetLimit]
  ) throws(Fault) -> BudgetConfiguration {
    try BudgetConfiguration(
      name, limits: limits, burst: burst_ms == 0 ? .max : .milliseconds(burst_ms),
      maxConcurrent: max_concurrent == 0 ? .max : Int(max_concurrent), learns: no_learning == 0)
  }

  fileprivate init(_ view: BudgetView, size: Int) {
    self.init()
    self.size = size
    max_concurrent = view.options.maxConcurrent == .max ? 0 : UInt32(clamping: view.options.maxConcurrent)
    burst_ms = view.options.burst == .max ? 0 : UInt32(clamping: view.options.burst / 1_000_000)
    no_learning = view.options.learns ? 0 : 1
    in_flight = UInt64(view.inFlight)
    waiting = UInt64(view.waiting)
    refusals = UInt64(view.refusals)
    stopped_ms = milliseconds(view.stoppedFor)
    adaptive = UInt64(view.adaptive ?? 0)
    guard let share = view.share else { return }
    shared = 1
    leased = share.isLeased ? 1 : 0
    members = UInt64(share.members)
    lease_ms = milliseconds(share.validFor)
    places = numberOrAny(share.places)
    lapses = UInt64(share.lapses)
  }
}

extension llmpool_limit_t {
  /// What it was at first.
  private static let smallestSize = MemoryLayout<llmpool_limit_t>.offset(of: \.spent)!

  fileprivate init(_ limit: BudgetView.Limit) {
    self.init()
    unit = UInt32(limit.unit.rawValue)
    told = limit.isTold ? 1 : 0
    amount = UInt64(limit.limit)
    window_ms = milliseconds(limit.window)
    remaining = limit.remaining
    full_ms = milliseconds(limit.untilFull)
    spent = limit.spent
  }

  fileprivate static func write(
    _ limits: ArraySlice<BudgetView.Limit>, to target: UnsafeMutablePointer<llmpool_limit_t>?, _ size: Int
  ) throws(Fault) {
    let argument = ("limits_out", "limit_size", size)
    try LLMPoolC.write(limits.map { llmpool_limit_t($0) }, to: target, argument, smallest: smallestSize)
  }

  /// Those that were told are not configured: as many as llmpool_budget_get() gives are taken, and such passed over.
  fileprivate static func read(
    _ limits: UnsafePointer<llmpool_limit_t>?, _ size: Int, _ count: UInt32
  ) throws(Fault) -> [BudgetLimit] {
    try readLimits(
      limits, size, count, over: llmpool_limit_t(), smallest: smallestSize, said: BudgetOptions.limitCount
    ) { (limit, place) throws(Fault) in
      limit.told == 0 ? try limit.configured(place) : nil
    }
  }

  private func configured(_ place: LimitPlace) throws(Fault) -> BudgetLimit {
    let unit = try place.unit(self.unit)
    try place.check("amount", amount, 1...LimitPlace.most)
    try place.check("window_ms", window_ms, 1...LimitPlace.most)
    return BudgetLimit(unit, Int64(amount), per: .milliseconds(window_ms))
  }
}
