/// What the core wants done. The engine runs actions in order; none of them asks anything back.
public enum Action: Sendable {
  /// Look the name up; answer with `resolved` or `resolveFailed`.
  case resolve(HostID)
  /// Open a connection, TLS included; answer with `dialed` or `dialFailed`. The addresses of the host are tried
  /// beginning with the one that `rotation` counts to. At the deadline an action of its own closes the dial: nothing
  /// may give it up before.
  case dial(ConnectionID, OriginID, rotation: UInt32, deadline: Instant)
  case send(AttemptID, RequestID, on: ConnectionID, reused: Bool)
  /// Send it a second time, while its first attempt runs: the attempt that answers first is the one.
  case hedge(AttemptID, RequestID, on: ConnectionID, reused: Bool)
  /// The first attempt is over, and this second one goes on in its place.
  case promoted(AttemptID)
  /// Reset the stream, or leave the h1 connection, now; nothing is reported about this attempt any more.
  case abort(AttemptID, on: ConnectionID)
  /// This answer is the one: its head may go out. Where the request is streamed nothing is retried from now on; a
  /// collected answer that then breaks may still be, with `retrySent`, so the request is kept until it completes.
  case deliver(AttemptID)
  /// This answer will be replaced by a retry: drop its body as it comes.
  case discard(AttemptID)
  case ping(ConnectionID)
  /// The answer to the PING has not come in time: some of the resets that wait for it go out.
  case releaseResets(ConnectionID)
  /// Close it now, or give up its dial; no attempt is on it, and nothing is reported about it any more.
  case close(ConnectionID, CloseReason)
  /// The request is over; nothing follows.
  case complete(RequestID, Completion)
  /// Nothing has used the origin for long: its id is free again.
  case forget(OriginID)
  case forgetBudget(BudgetID, refusals: Int)
  /// Its budget has room for the request, which now seeks a connection.
  case admitted(RequestID)
  /// It wants to be lent more, or to say that it lives: `askForLease` says what to ask the store for, and the answer
  /// comes by `leaseGranted`. Said once until it has asked.
  case leaseWanted(BudgetID)
  case notice(Notice)
  /// After `closing`: nothing is left.
  case stopped
}

public struct Completion: Sendable, Equatable {
  /// nil: an answer was received, whatever its status.
  public var failure: Failure?
  public var unseen: Bool
  public var attempts: UInt32
  /// It was not sent, or not again, as the breaker of its origin is open.
  public var isBroken = false
}

public enum Notice: Sendable, Equatable {
  case utilizationHigh(used: Int, limit: Int, waiting: Int, longestWait: Nanoseconds)
  case utilizationNormal(used: Int, limit: Int)
  case connectionOpened(ConnectionID, OriginID)
  case connectionClosed(ConnectionID, OriginID, CloseReason)
  /// `failure` nil: because of the answer's status. `attempt`: which one has failed, from 1; 0: a dial has.
  case retry(RequestID, OriginID, failure: Failure?, httpStatus: Int, delay: Nanoseconds, attempt: UInt32)
  /// A second attempt has gone out, as nothing had come of the first for so long.
  case hedge(RequestID, OriginID, after: Nanoseconds)
  /// An answer, to that request, has asked to be left alone for so long.
  case budgetStopped(BudgetID, RequestID, delay: Nanoseconds, httpStatus: Int, waiting: Int)
  case budgetResumed(BudgetID)
  /// The last failure, the status where it was an answer, and how many there were in a row.
  case breakerOpened(OriginID, Failure, Int, failures: Int)
  /// Not `isBack`: it begins anew, as the options have changed, or nobody has called for long.
  case breakerClosed(OriginID, after: Nanoseconds, isBack: Bool)
}
