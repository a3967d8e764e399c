import CLLMPool
import LLMPoolCore
import LLMPoolEngine

@implementation @_cdecl("llmpool_budget_share")
public func llmpool_budget_share(
  _ pool: OpaquePointer!, _ name: UnsafePointer<CChar>!, _ share: UnsafePointer<llmpool_share_t>!
) -> llmpool_status_t {
  status { () throws(Fault) in
    let handle = try LLMPoolC.pool(pool)
    let options = share == nil ? nil : try llmpool_share_t.read(share)
    try handle.share(try BudgetSharing(name == nil ? nil : bytes(name), options))
  }
}

@implementation @_cdecl("llmpool_budget_demand")
public func llmpool_budget_demand(
  _ pool: OpaquePointer!, _ name: UnsafePointer<CChar>!, _ lease_out: UnsafeMutablePointer<llmpool_lease_t>!,
  _ limits_out: UnsafeMutablePointer<llmpool_lease_limit_t>!, _ limit_size: Int, _ capacity: UInt32,
  _ count_out: UnsafeMutablePointer<UInt32>!
) -> llmpool_status_t {
  status { () throws(Fault) in
    let (target, size) = try sized(lease_out, "lease_out", smallest: MemoryLayout<llmpool_lease_t>.size)
    let array = ("limits_out", "limit_size", limit_size)
    if capacity > 0 { _ = try required(limits_out, array) }  // before a demand, which ends those before it
    let demand = try demand(of: name, in: LLMPoolC.pool(pool))
    try write(demand.limits.prefix(Int(capacity)).map { llmpool_lease_limit_t($0) }, to: limits_out, array)
    write(llmpool_lease_t(demand, size: size), to: target, size: size)
    count_out?.pointee = UInt32(demand.limits.count)
  }
}

private func demand(of name: UnsafePointer<CChar>?, in pool: PoolHandle) throws(Fault) -> LeaseDemand {
  let name = try budgetName(name)
  guard let demand = try pool.open().leaseDemand(of: name) else {
    throw Fault(.notFound, "name: the pool knows no budget \(name) for which a store grants leases")
  }
  return demand
}

@implementation @_cdecl("llmpool_budget_grant")
public func llmpool_budget_grant(
  _ pool: OpaquePointer!, _ name: UnsafePointer<CChar>!, _ lease: UnsafePointer<llmpool_lease_t>!,
  _ limits: UnsafePointer<llmpool_lease_limit_t>!, _ limit_size: Int, _ count: UInt32
) -> llmpool_status_t {
  status { () throws(Fault) in
    let handle = try LLMPoolC.pool(pool)
    let name = try budgetName(name)
    guard let lease else { throw Fault(.invalidArgument, "lease: it is NULL") }
    let smallest = MemoryLayout<llmpool_lease_t>.size
    let given = try LLMPoolC.read(lease, "lease", smallest: smallest, over: llmpool_lease_t())
    let granted = try llmpool_lease_limit_t.read(limits, limit_size, count)
    try handle.open().grant(BudgetGrant(name, try given.grant(granted)))
  }
}

// MARK: Structs

extension llmpool_share_t {
  fileprivate static func read(_ pointer: UnsafePointer<llmpool_share_t>) throws(Fault) -> ShareOptions {
    let smallest = MemoryLayout<llmpool_share_t>.size
    let given = try LLMPoolC.read(pointer, "share", smallest: smallest, over: llmpool_share_t())
    guard given.no_store <= 1 else {
      throw Fault(.invalidArgument, "no_store: expected 0 or 1, got \(given.no_store)")
    }
    return try ShareOptions(checking: given.safe_share, hasStore: given.no_store == 0)
  }
}

extension llmpool_lease_t {
  private static var longest: UInt32 { UInt32(LeaseGrant.longest / 1_000_000) }

  fileprivate init(_ demand: LeaseDemand, size: Int) {
    self.init()
    self.size = size
    sequence = demand.sequence
    in_flight = UInt64(demand.inFlight)
    waiting = UInt64(demand.waiting)
    max_concurrent = numberOrAny(demand.maxConcurrent)
    stopped_ms = milliseconds(demand.stoppedFor)
    members = UInt64(demand.members)
  }

  fileprivate func grant(_ limits: [LeaseGrant.Limit]) throws(Fault) -> LeaseGrant {
    guard (1...llmpool_lease_t.longest).contains(valid_ms) else {
      throw Fault(.invalidArgument, "valid_ms: expected 1 to \(llmpool_lease_t.longest), got \(valid_ms)")
    }
    guard members >= 1 else { throw Fault(.invalidArgument, "members: expected at least 1, got \(members)") }
    return LeaseGrant(
      sequence: sequence, validFor: .milliseconds(valid_ms), members: Int(clamping: members),
      places: Int(clamping: places), stoppedFor: .milliseconds(min(stopped_ms, UInt64(llmpool_lease_t.longest))),
      limits: limits)
  }
}

extension llmpool_lease_limit_t {
  fileprivate init(_ limit: LeaseDemand.Limit) {
    self.init()
    unit = UInt32(limit.unit.rawValue)
    told = limit.told.map { UInt32($0.rawValue) + 1 } ?? 0
    amount = UInt64(clamping: limit.amount)
    window_ms = milliseconds(limit.window)
    capacity = UInt64(clamping: limit.capacity)
    held = limit.held
    spent = limit.spent
    wanted_high = UInt64(clamping: limit.wantedHigh)
    wanted = UInt64(clamping: limit.wanted)
    wanted_low = UInt64(clamping: limit.wantedLow)
    least = UInt64(clamping: limit.least)
    expected = UInt64(clamping: limit.expected)
    remaining = limit.remaining ?? .min
  }

  fileprivate static func read(
    _ limits: UnsafePointer<llmpool_lease_limit_t>?, _ size: Int, _ count: UInt32
  ) throws(Fault) -> [LeaseGrant.Limit] {
    let empty = llmpool_lease_limit_t()
    return try readLimits(
      limits, size, count, over: empty, smallest: MemoryLayout.size(ofValue: empty), said: mostLimits
    ) { (limit, place) throws(Fault) in try limit.grant(place) }
  }

  private func grant(_ place: LimitPlace) throws(Fault) -> LeaseGrant.Limit {
    let unit = try place.unit(self.unit)
    try place.check("told", UInt64(told), 0...UInt64(ToldLimit.allCases.count))
    try place.check("amount", amount, 0...LimitPlace.most)
    try place.check("window_ms", window_ms, 0...LimitPlace.most)
    try place.check("granted", granted, 0...LimitPlace.most)
    return LeaseGrant.Limit(
      unit: unit, told: told == 0 ? nil : ToldLimit(rawValue: UInt8(told - 1)), window: .milliseconds(window_ms),
      amount: Int64(amount), granted: Int64(granted))
  }
}
