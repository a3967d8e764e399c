import LLMPoolCore
import LLMPoolWire

/// One request on one HTTP/2 connection.
final class Http2Stream {
  /// nil once it has ended for the engine: the stream may outlive it within nghttp2.
  private(set) var request: RequestState!
  var id: Int32 = 0
  var status: UInt16 = 0
  var interim = InterimAllowance()
  var isOnWire = false
  var isSent = false
  var dropsBody = false
  var remoteEnded = false
  var isResetByPeer = false
  var isAbandoned: Bool { request == nil }
  /// Why we reset it ourselves.
  var localFailure: (Failure, String)?

  init(_ request: RequestState) { self.request = request }

  /// The request is over for the engine, and free.
  @discardableResult
  func abandon() -> RequestState {
    defer { request = nil }
    return request
  }
}
