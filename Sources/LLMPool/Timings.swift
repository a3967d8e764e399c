import LLMPoolEngine

/// When each step of a request was done, since its submission; nil: it was not. Of several attempts that of which it is
/// told.
public struct Timings: Sendable, Equatable {
  /// Its budget had room for it.
  public let budgeted: Duration?
  /// A connection, or a stream on one, was given.
  public let admitted: Duration?
  /// The name of the new connection that it waited for was looked up.
  public let resolved: Duration?
  /// TCP of that connection.
  public let connected: Duration?
  /// Its TLS.
  public let secured: Duration?
  /// The last byte of the request was sent.
  public let sent: Duration?
  /// The first byte of the answer came.
  public let firstByte: Duration?
  /// The first byte of its body came: of an event stream the first token.
  public let firstData: Duration?
  /// It was complete.
  public let done: Duration?
}

extension Timings {
  init(_ record: TimingsRecord) {
    func duration(_ microseconds: UInt64) -> Duration? {
      microseconds == 0 ? nil : .microseconds(Int64(microseconds))
    }
    budgeted = duration(record.budgeted)
    admitted = duration(record.admitted)
    resolved = duration(record.resolved)
    connected = duration(record.connected)
    secured = duration(record.secured)
    sent = duration(record.sent)
    firstByte = duration(record.firstByte)
    firstData = duration(record.firstData)
    done = duration(record.done)
  }
}
