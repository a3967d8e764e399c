/// A part of an answer that is read as it comes.
public enum Event: Sendable {
  /// First, and once: the status and the headers.
  case head(Head)
  /// A piece of the body, at most 64 KiB.
  case data([UInt8])
  /// An event of a text/event-stream.
  case message(ServerSentEvent)

  /// What comes before the body of an answer.
  public struct Head: Sendable {
    public let status: Int
    public let headers: Headers
    /// "HTTP/1.1" or "HTTP/2".
    public let httpVersion: String
    /// An open connection carries the request.
    public let isReused: Bool
    /// "192.0.2.1:443"
    public let peer: String
  }
}

/// One server-sent event (HTML Living Standard, section 9.2).
public struct ServerSentEvent: Sendable {
  /// The lines of data, joined by LF.
  public let data: String
  /// "message" where the server named none.
  public let event: String
  /// The last event id so far; empty where there was none.
  public let id: String
  /// How long to wait before connecting again, where the server says so here.
  public let retry: Duration?
}
