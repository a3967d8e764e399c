/// How a budget that several processes share is spent where no lease holds.
public struct ShareOptions: Sendable, Equatable {
  /// Of each limit, what may be spent here as long as nobody has said how many members there are; from then on it is
  /// one of so many. Above 0, 1 at most.
  public var safeShare: Double
  /// Somebody grants leases. Without him the safe share is all that there ever is.
  public var hasStore: Bool

  public init(safeShare: Double, hasStore: Bool) {
    self.safeShare = min(max(safeShare, 1e-9), 1)
    self.hasStore = hasStore
  }
}
