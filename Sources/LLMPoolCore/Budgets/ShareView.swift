/// How it stands with a budget that several processes share.
public struct ShareView: Sendable, Equatable {
  /// It spends from a lease, not its safe share.
  public var isLeased: Bool
  /// Until the lease ends; 0: none holds.
  public var validFor: Nanoseconds
  /// As the last grant said; 0: none has.
  public var members: Int
  /// Of each limit, what may be spent here where no lease holds.
  public var share: Double
  /// How often the safe share has taken a lease's place, as no grant came in time.
  public var lapses: Int
  /// Requests that may be in flight here; `Int.max`: any number.
  public var places: Int
}
