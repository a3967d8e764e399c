/// What the core is told. Ids, counts and codes only: an event costs no reference count.
public enum Event: Sendable {
  // The application.
  case submitted(RequestID, OriginID, RequestOptions)
  case cancelled(RequestID)
  /// A piece of a body that cannot be sent again went out: the request is not retried from now on.
  case bodyConsumed(RequestID)
  case warm(OriginID, connections: Int)
  /// `identityChanged`: proxy, TLS or HTTP version settings differ, so no request may ride an older connection.
  case reconfigured(PoolOptions, identityChanged: Bool)
  case watching(NoticeMask)
  /// No more requests; those unfinished at the deadline end with `closed`.
  case closing(deadline: Instant)

  // Origins and names.
  /// Must come before anything else names this origin. `host` is nil where a proxy resolves the name. For an origin
  /// that is known it changes the host only: sent before `reconfigured` where other proxy settings ask for it.
  case originAdded(OriginID, HostID?, isTLS: Bool)
  /// The answers to `.resolve`.
  case resolved(HostID, AddressList)
  case resolveFailed(HostID)

  // Connections. A connection that fails is announced by goAway, then finished for each attempt on it, then
  // connectionClosed, so that nothing new is sent on it in between.
  case dialed(ConnectionID, WireVersion, AddressID?)
  case dialFailed(ConnectionID, Failure)
  case settings(ConnectionID, maxStreams: Int)
  case goAway(ConnectionID)
  /// Bytes arrived on it; HTTP/2 only, for the PING clock.
  case received(ConnectionID)
  /// The server said how long it keeps an idle connection (`Keep-Alive: timeout=N`): N as sent. A second less counts.
  case keepAlive(ConnectionID, Nanoseconds)
  /// Resets of streams wait for the answer to a PING; the core says when they go out without it.
  case resetsHeld(ConnectionID)
  /// The engine has closed it.
  case connectionClosed(ConnectionID, CloseReason)

  // Attempts.
  case progressed(AttemptID, Phase)
  case answered(AttemptID, httpStatus: Int, RetryAdvice)
  case finished(AttemptID, Outcome, reusable: Bool)
  /// What the head of its answer, which is told of next, says of the provider's limits.
  case limitsTold(AttemptID, RateReport)

  // Budgets. One must be named before a request has it.
  case budgetNamed(BudgetID)
  case budgetConfigured(BudgetID, BudgetOptions)
  /// What a request took, in tokens; it may be over.
  case settled(RequestID, input: Int64, output: Int64)
  /// Other processes spend of it, too; nil: it is this one's alone again. `none`: so are all, those to come as well.
  case budgetShared(BudgetID, ShareOptions?)
  /// What `askForLease` has asked for.
  case leaseGranted(BudgetID, LeaseGrant)
  /// The machine was suspended for so long, which the clock that the core is told has not counted.
  case clockLeapt(Nanoseconds)
}

/// What an attempt is doing; each report restarts the clock of that phase.
@frozen
public enum Phase: UInt8, Sendable {
  /// Bytes of the request went out.
  case wrote
  /// The last byte of the request went out.
  case sent
  /// An upload has nothing to send until the application brings more: no clock runs.
  case waitingForApplication
  /// Bytes of the answer arrived.
  case received
  /// The head of the answer is here, and the answer is a stream of events, of which the engine tells.
  case beganEvents
  /// An event arrived that says something.
  case receivedEvent
  /// The application holds the stream's window closed: no clock runs.
  case heldByApplication
  /// It has opened it again.
  case releasedByApplication
}

/// What an answer's head says about trying again.
public struct RetryAdvice: Sendable, Equatable {
  /// `Retry-After` or `retry-after-ms`; nil where there was none.
  public var retryAfter: Nanoseconds?
  /// `x-should-retry`; nil where there was none.
  public var shouldRetry: Bool?
  public init(retryAfter: Nanoseconds? = nil, shouldRetry: Bool? = nil) {
    self.retryAfter = retryAfter
    self.shouldRetry = shouldRetry
  }
  public static let none = RetryAdvice()
}

/// How an attempt ended.
public struct Outcome: Sendable, Equatable {
  /// nil: the answer is complete.
  public var failure: Failure?
  /// The server provably acted on nothing.
  public var unseen: Bool
  public init(failure: Failure?, unseen: Bool = false) {
    self.failure = failure
    self.unseen = unseen
  }
  public static let success = Outcome(failure: nil)
}

/// Why a connection was closed.
@frozen
public enum CloseReason: UInt8, Sendable, CaseIterable {
  // Decided here.
  case expired, evicted, keepaliveLimit, aged, retired, aborted, notReusable, reconfigured, pingTimeout, poolClosed
  case connectTimeout, addressGone
  // Told by the engine.
  case closedByPeer, goAway, error, protocolViolation, strayBytes, dialFailed
}

public struct NoticeMask: OptionSet, Sendable {
  public var rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }
  public static let utilizationHigh = NoticeMask(rawValue: 1 << 0)
  public static let utilizationNormal = NoticeMask(rawValue: 1 << 1)
  public static let connectionOpened = NoticeMask(rawValue: 1 << 2)
  public static let connectionClosed = NoticeMask(rawValue: 1 << 3)
  public static let retry = NoticeMask(rawValue: 1 << 4)
  public static let unwatchedStream = NoticeMask(rawValue: 1 << 5)
  public static let budgetStopped = NoticeMask(rawValue: 1 << 6)
  public static let budgetResumed = NoticeMask(rawValue: 1 << 7)
  public static let breakerOpened = NoticeMask(rawValue: 1 << 8)
  public static let breakerClosed = NoticeMask(rawValue: 1 << 9)
  public static let hedge = NoticeMask(rawValue: 1 << 10)
  public static let leaseWanted = NoticeMask(rawValue: 1 << 11)
  public static let all = NoticeMask(rawValue: (1 << 12) - 1)
}
