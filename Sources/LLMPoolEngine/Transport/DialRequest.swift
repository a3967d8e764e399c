/// One connection to make.
package struct DialRequest: Sendable {
  /// The caller's name for the dial, unique among those under way.
  package var token: UInt64
  /// Of the origin, without brackets.
  package var host: String
  package var port: UInt16
  /// Of `host`, in the order to try. May be empty for an IP literal and where the proxy resolves (HTTP, socks5h).
  package var addresses: [SocketAddress]
  package var proxy: ProxySettings?
  /// False for a plain http:// origin through an HTTP proxy: the dial ends at the proxy, which is then sent the
  /// absolute form. True for TLS through an HTTP proxy: CONNECT. Without meaning for SOCKS.
  package var tunnel: Bool
  /// TCP and the proxy together; 0: none.
  package var timeoutMilliseconds: UInt32
  package var keepalive: KeepaliveSettings?

  package init(
    token: UInt64, host: String, port: UInt16, addresses: [SocketAddress], proxy: ProxySettings? = nil,
    tunnel: Bool = true, timeoutMilliseconds: UInt32, keepalive: KeepaliveSettings? = nil
  ) {
    self.token = token
    self.host = host
    self.port = port
    self.addresses = addresses
    self.proxy = proxy
    self.tunnel = tunnel
    self.timeoutMilliseconds = timeoutMilliseconds
    self.keepalive = keepalive
  }
}

package struct DialResult: Equatable, Sendable {
  package enum Outcome: Equatable, Sendable {
    /// The descriptor is the caller's: non-blocking, close-on-exec, TCP_NODELAY, in no epoll set. `peer` is the
    /// proxy's address where there is one.
    case connected(descriptor: Int32, peer: String, address: SocketAddress)
    case failed(Fault)
  }

  package let token: UInt64
  package let outcome: Outcome
}

/// The caller's epoll set, as far as libcurl needs it. Level-triggered: libcurl reads and writes as it likes.
/// Neither call may call the dialer back.
package protocol DescriptorWatcher: AnyObject {
  /// Adds the descriptor or changes what it is watched for.
  func watch(_ descriptor: Int32, read: Bool, write: Bool)
  /// Comes before the descriptor is handed over. It may already be closed (libcurl 7.88 does so), so that
  /// EPOLL_CTL_DEL answers EBADF or ENOENT: no error.
  func unwatch(_ descriptor: Int32)
}
