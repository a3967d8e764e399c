import LLMPoolEngine

/// What the pool tells of an attempt to send a request: of the one that failed, or of the last.
public struct AttemptReport: Sendable {
  /// The pool's; 0: the request was not taken.
  public var requestID: UInt64 = 0
  /// Which one it is, from 1; 0: none was sent, or a dial failed.
  public var number = 0
  /// Of its answer; nil: there was none.
  public var status: Int?
  /// By which the provider knows its answer (`x-request-id`, `request-id`); nil: it has said none.
  public var providerRequestID: String?
  /// Which connection carried it; 0: none.
  public var connectionID: UInt64 = 0
  /// That connection was open before.
  public var isReused = false
  /// "192.0.2.1:443"; empty: not known.
  public var peer = ""
  public var timings = Timings(TimingsRecord())
  /// Why it failed, as the word of docs/monitoring.md: "status 503", "read-timeout"; nil: it did not.
  public var reason: String?
  /// With what the call ends; nil: with an answer.
  public var error: (any Error)?
}

extension AttemptReport {
  init(_ record: EventRecord) {
    requestID = record.requestID
    number = Int(record.attempts)
    status = record.httpStatus == 0 ? nil : Int(record.httpStatus)
    providerRequestID = record.providerRequestID
    connectionID = record.connectionID
    isReused = record.flags.contains(.reused)
    peer = String(cString: record.peer.base)
    timings = Timings(record.timings)
  }
}
