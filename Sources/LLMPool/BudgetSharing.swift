import LLMPoolCore
import LLMPoolEngine

/// What a member of a fleet asks a store for: see `Pool.leaseDemand`.
public typealias LeaseDemand = LLMPoolCore.LeaseDemand
/// What a store lends to it.
public typealias LeaseGrant = LLMPoolCore.LeaseGrant
/// Which of those that answers tell a limit is.
public typealias ToldLimit = LLMPoolCore.ToldLimit

// Budgets that several processes share. What is a member and what a store is said in `llmpool.h`, as is how a connector
// carries questions and answers between them; here it is
//
//     for await budget in try pool.leasesWanted() {
//       guard let demand = try pool.leaseDemand(of: budget) else { continue }
//       if let grant = await store.lend(demand) { try pool.grant(grant, of: budget) }
//     }
extension Pool {
  /// Shares a budget with other processes, so that all together keep its limits.
  ///
  /// - Parameters:
  ///   - budget: nil: all, known and to come.
  ///   - safeShare: above 0, at most 1: the part of each limit that may be spent here where no lease holds, until a
  ///     grant has said how many members there are.
  ///   - hasStore: somebody grants leases; otherwise the safe share is all that there is.
  public func share(_ budget: String? = nil, safeShare: Double, hasStore: Bool = true) throws {
    do { try share(budget, ShareOptions(checking: safeShare, hasStore: hasStore)) } catch { throw PoolError(error) }
  }

  /// The budget is this pool's alone again; nil: all are.
  public func unshare(_ budget: String? = nil) throws {
    do { try share(budget, nil) } catch { throw PoolError(error) }
  }

  private func share(_ budget: String?, _ options: ShareOptions?) throws(Fault) {
    try handle.share(BudgetSharing(budget?.utf8, options))
  }

  /// The names of budgets that want a lease, each when it does. Ends when the pool is closed, or its reader leaves it.
  public func leasesWanted() throws -> AsyncStream<String> {
    try watch(.leaseWanted, keeping: .unbounded) { $0.data.text }
  }

  /// What the store is to be asked for now; grants of earlier demands of the budget count no more. Nil: the pool knows
  /// no such budget, it is not shared, or nobody grants.
  public func leaseDemand(of budget: String) throws -> LeaseDemand? {
    do { return try handle.open().leaseDemand(of: budget) } catch { throw PoolError(error) }
  }

  /// Says what the store has lent. A grant that comes twice, too late, or after another demand is passed over.
  ///
  /// - Throws: `PoolError`, where it is valid for less than a millisecond or more than ten minutes, says that there are
  ///   no members, or grants more than 2^40 of a limit.
  public func grant(_ grant: LeaseGrant, of budget: String) throws {
    do throws(Fault) {
      guard (.milliseconds(1)...LeaseGrant.longest).contains(grant.validFor) else {
        throw Fault(.invalidArgument, "validFor: expected 1 ms to 600 s, got \(grant.validFor) ns")
      }
      guard grant.members >= 1 else {
        throw Fault(.invalidArgument, "members: expected at least 1, got \(grant.members)")
      }
      for (index, limit) in grant.limits.enumerated() where !(0...Cost.most).contains(limit.granted) {
        throw Fault(.invalidArgument, "limits[\(index)].granted: expected 0 to \(Cost.most), got \(limit.granted)")
      }
      try handle.open().grant(BudgetGrant(budget, grant))
    } catch { throw PoolError(error) }
  }
}
