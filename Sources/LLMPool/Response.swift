/// An answer, whatever its status: 4xx and 5xx are answers too.
public struct Response: Sendable {
  /// For `Pool.settle`.
  public let requestID: UInt64
  public let status: Int
  public let headers: Headers
  public let body: [UInt8]
  /// "HTTP/1.1" or "HTTP/2".
  public let httpVersion: String
  /// An open connection carried the request.
  public let isReused: Bool
  /// How often the request was sent, at least 1.
  public let attempts: Int
  /// "192.0.2.1:443"
  public let peer: String
  public let timings: Timings

  /// The first value of a header, names compared without regard to case.
  public func header(_ name: String) -> String? { headers[name] }
}
