/// Which versions of HTTP a pool may speak.
@frozen
public enum HTTPVersions: UInt8, CaseIterable, Sendable {
  /// https: what ALPN picks of h2 and http/1.1; http: HTTP/1.1.
  case automatic = 0
  case http1 = 1
  /// https: h2 or fail; http: h2 with prior knowledge.
  case http2 = 2
}

/// What a connection speaks.
@frozen
public enum WireVersion: UInt8, Sendable {
  case http1, http2
  /// Carries many requests at once, each on a stream of its own.
  @inlinable public var isMultiplexed: Bool { self == .http2 }
}
