/// One header line of a block that was validated: where its name and its value lie in the block. Trivial.
public struct HeaderField: Equatable, Sendable {
  /// The names that the library treats itself, or must not show.
  public enum Kind: UInt8, Sendable {
    case other
    case host, contentLength, transferEncoding, connection, keepAlive, proxyConnection, upgrade, te, expect, trailer
    case authorization, proxyAuthorization, cookie, apiKey

    /// Its value is a secret and appears in no log, notice or error. HTTP/2 puts it into no table (RFC 7541, 7.1.3).
    public var isSensitive: Bool { rawValue >= Kind.authorization.rawValue }

    /// Belongs to one connection, not to the request: accepted from the application, never sent as it is
    /// (RFC 9110 section 7.6.1, RFC 9113 section 8.2.2).
    public var isDropped: Bool { self == .connection || self == .keepAlive || self == .proxyConnection }
  }

  public var nameStart: UInt32
  public var nameCount: UInt32
  public var valueStart: UInt32
  public var valueCount: UInt32
  public var kind: Kind

  public var nameRange: Range<Int> { Int(nameStart)..<Int(nameStart + nameCount) }
  /// Without the whitespace around it.
  public var valueRange: Range<Int> { Int(valueStart)..<Int(valueStart + valueCount) }
}
