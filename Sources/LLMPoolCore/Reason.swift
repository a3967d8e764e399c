/// Why a connection was closed, why a request failed, why it was tried again.
public enum Reason: Hashable, Sendable {
  case closed(CloseReason)
  case failed(Failure)
  case retried(Failure)
  /// Because of the status of an answer; 0: one without a count of its own.
  case retriedStatus(Int)

  /// All that are counted, in the order in which they are shown.
  public static let all: [Reason] = {
    var all = CloseReason.allCases.map { Reason.closed($0) }
    all += failures.map { Reason.failed($0) }
    all += failures.map { Reason.retried($0) }
    all += statuses.map { Reason.retriedStatus($0) }
    return all + [.retriedStatus(0)]
  }()

  /// What a request can end with, beside success and the application's cancelling it.
  private static let failures = Failure.allCases.filter {
    $0 != .cancelled && ($0.rawValue <= Failure.queueFull.rawValue || $0 == .closed || $0 == .outOfMemory)
  }
  /// Others come together, as they may be any.
  static let statuses = [408, 409, 429, 500, 502, 503, 504, 529]

  /// Where each is in `all`.
  static let indices: [Reason: Int] = {
    var indices: [Reason: Int] = [:]
    for (index, reason) in all.enumerated() { indices[reason] = index }
    return indices
  }()
}
