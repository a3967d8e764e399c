import LLMPoolCore
import LLMPoolEngine

/// When a request may be sent again, and how often.
public struct Retry: Sendable, Equatable {
  /// After 408, 409, 429 and 5xx, minding Retry-After (RFC 9110, section 10.2.3).
  public var onStatus: Bool
  /// Even where the server may have begun to act on it: only for what may happen twice.
  public var afterSent: Bool
  /// Where no connection could be made, after a pause; false: it fails at once.
  public var onConnect: Bool
  /// How often, for whatever reason, at least 1; nil: as the pool has it.
  public var maxRetries: UInt32?
  /// A longer Retry-After ends the request with the answer in hand; nil: as the pool has it.
  public var retryAfterMax: Duration?
  /// Hedging: where no byte of the answer has come so long after an attempt was given its connection, a second attempt
  /// goes out, once, and the first that answers with anything but what `onStatus` retries is the answer. The other is
  /// given up, and may be billed all the same. Only with `afterSent`; nil: never.
  public var hedgeAfter: Duration?
  private(set) var isNever = false

  public init(
    onStatus: Bool = false, afterSent: Bool = false, onConnect: Bool = true, maxRetries: UInt32? = nil,
    retryAfterMax: Duration? = nil, hedgeAfter: Duration? = nil
  ) {
    self.onStatus = onStatus
    self.afterSent = afterSent
    self.onConnect = onConnect
    self.maxRetries = maxRetries
    self.retryAfterMax = retryAfterMax
    self.hedgeAfter = hedgeAfter
  }

  public static let onStatus = Retry(onStatus: true)
  public static let afterSent = Retry(afterSent: true)
  /// Not even where the server provably saw nothing.
  public static let never: Retry = {
    var retry = Retry()
    retry.isNever = true
    return retry
  }()

  func set(_ input: inout RequestInput) throws(Fault) {
    guard hedgeAfter == nil || afterSent else {
      throw Fault(.invalidArgument, "hedgeAfter: only with afterSent, as the server may act on both attempts")
    }
    guard maxRetries != 0 else { throw Fault(.invalidArgument, "maxRetries: it is at least 1; Retry.never is 0") }
    if onStatus { input.flags.insert(.retryStatus) }
    if afterSent { input.flags.insert(.retrySent) }
    if !onConnect { input.flags.insert(.noRedial) }
    if isNever { input.flags.insert(.noRetry) }
    input.options.maxRetries = maxRetries ?? 0
    if let hedgeAfter { input.options.hedgeAfter = .milliseconds(max(1, Request.milliseconds(hedgeAfter))) }
    if let retryAfterMax { input.options.retryAfterMax = .milliseconds(max(1, Request.milliseconds(retryAfterMax))) }
  }
}
