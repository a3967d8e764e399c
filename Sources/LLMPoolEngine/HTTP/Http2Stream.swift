import LLMPoolCore
import LLMPoolWire

/// One request on one HTTP/2 connection.
final class Http2Stream {
  /// There until the stream is abandoned: reached without being counted.
  unowned(unsafe) let request: RequestState
  private var owner: RequestState?
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
  /// It has ended for the engine, and its request is free: it may outlive that within nghttp2, until the server takes
  /// its reset.
  var isAbandoned: Bool { owner == nil }
  /// Why we reset it ourselves.
  var localFailure: (Failure, String)?

  init(_ request: RequestState) {
    self.request = request
    owner = request
  }

  /// The request is over for the engine, and free.
  func abandon() -> RequestState {
    defer { owner = nil }
    request.attempt.stream = nil
    return owner!
  }
}
