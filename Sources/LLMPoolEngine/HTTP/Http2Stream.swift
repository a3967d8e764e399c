import LLMPoolCore
import LLMPoolWire

/// One request on one HTTP/2 connection.
final class Http2Stream {
  /// Kept until the stream is gone, so that it is reached without being counted.
  let request: RequestState
  var id: Int32 = 0
  /// Among the connection's.
  var place = 0
  var status: UInt16 = 0
  var interim = InterimAllowance()
  var isOnWire = false
  var isSent = false
  var dropsBody = false
  var remoteEnded = false
  var isResetByPeer = false
  /// It has ended for the engine, and its request is free: it may outlive that within nghttp2.
  var isAbandoned = false
  /// Why we reset it ourselves.
  var localFailure: (Failure, String)?

  init(_ request: RequestState) { self.request = request }
}
