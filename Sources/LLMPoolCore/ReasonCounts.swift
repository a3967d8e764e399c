/// How often there was each reason. No memory before the first.
public struct ReasonCounts: Sendable, Equatable {
  /// In the order of `Reason.all`.
  private var counts: [UInt64] = []

  public init() {}

  mutating func add(_ reason: Reason) {
    if counts.isEmpty { counts = [UInt64](repeating: 0, count: Reason.all.count) }
    guard let index = Reason.indices[reason] else { return assertionFailure("\(reason) has no count") }
    counts[index] += 1
  }

  /// Adds what the other has counted: as if all had been counted here.
  public mutating func merge(_ other: ReasonCounts) {
    if counts.isEmpty {
      counts = other.counts
    } else {
      for index in other.counts.indices { counts[index] += other.counts[index] }
    }
  }

  /// In the order of `Reason.all`; 0 for each where there was none.
  public subscript(index: Int) -> UInt64 { counts.isEmpty ? 0 : counts[index] }

  /// Each that there was.
  public var counted: [(reason: Reason, count: UInt64)] {
    zip(Reason.all, counts).filter { $1 > 0 }.map { (reason: $0, count: $1) }
  }
}

extension PoolStateMachine {
  /// Counts why, of the pool and of the origin alike, beside the count of what. LLMPOOL_NO_RECORDING is for measuring
  /// what this costs.
  mutating func count(_ origin: Int32, _ reason: Reason) {
    #if !LLMPOOL_NO_RECORDING
      reasons.add(reason)
      origins[Int(origin)].reasons.add(reason)
      origins[Int(origin)].hasNewReasons = true
    #endif
  }

  /// A request is tried again; `status`: of an answer, where there is no failure.
  mutating func countRetry(_ origin: Int32, _ failure: Failure?, _ status: Int) {
    let counted = Reason.statuses.contains(status) ? status : 0
    count(origin, failure.map { Reason.retried($0) } ?? .retriedStatus(counted))
  }

  /// Each count has its reasons, as many.
  func checkReasons() -> String? {
    if let broken = reasons.broken(counters) { return "the pool: \(broken)" }
    for slot in origins.indices where origins[slot].isKnown {
      if let broken = origins[slot].reasons.broken(origins[slot].counters) { return "origin \(slot): \(broken)" }
    }
    return nil
  }
}

extension ReasonCounts {
  fileprivate func broken(_ counters: Counters) -> String? {
    var (closed, failed, retried) = (0, 0, 0)
    for (reason, count) in counted {
      switch reason {
      case .closed: closed += Int(count)
      case .failed: failed += Int(count)
      case .retried, .retriedStatus: retried += Int(count)
      }
    }
    if closed != counters.closed { return "\(counters.closed) closed, \(closed) with a reason" }
    if failed != counters.failed { return "\(counters.failed) failed, \(failed) with a reason" }
    return retried == counters.retries ? nil : "\(counters.retries) retries, \(retried) with a reason"
  }
}
