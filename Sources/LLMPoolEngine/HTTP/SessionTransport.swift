import LLMPoolCore

/// What a session speaks on: an open connection, in TLS or not. A test gives the bytes itself and needs no socket.
protocol SessionTransport: AnyObject {
  var id: ConnectionID { get }
  var isTLS: Bool { get }
  var route: Route { get }
  /// Below TLS.
  var bytesSent: UInt64 { get }

  /// Asks for a `flush` at the end of the turn.
  func needsFlush()
  /// Asks for what there is to read, where the session had not wanted it or must see it before all else.
  func needsReading()
  /// Head and body in one segment or record where they fit; see `ByteStream`.
  func write(_ head: UnsafeRawBufferPointer, _ body: UnsafeRawBufferPointer) -> IOResult
  /// Gives `body` what has arrived, once, outside of `receive`. False: nothing more can be read now.
  func read(_ body: (UnsafeRawBufferPointer) -> Void) -> Bool
  /// Whether anything that the peer sent, its end included, lies unread.
  func holdsInput() -> Bool
  /// The peer had closed its socket for good when it got what we sent; see `ByteStream`.
  func peerRefusedInput() -> Bool
  /// No byte from this position on was acknowledged; see `ByteStream`.
  func isUnacknowledged(from position: UInt64) -> Bool
  /// The message with where it happened: "reason (https://api.example.com:443 at 192.0.2.1:443)".
  func located(_ message: String) -> String
  /// The connection ended by itself, with no request left on it.
  func lost(_ reason: CloseReason)
}

extension SessionTransport {
  func write(_ bytes: UnsafeRawBufferPointer) -> IOResult {
    write(bytes, UnsafeRawBufferPointer(start: nil, count: 0))
  }
}
