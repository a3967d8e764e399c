/// How a dead peer is noticed without traffic: TCP keepalive, and how long sent bytes may stay unacknowledged.
package struct KeepaliveSettings: Equatable, Sendable {
  /// Silence before the first probe; 0: no keepalive.
  package var firstProbeMilliseconds: UInt32
  package var intervalMilliseconds: UInt32
  package var count: UInt32
  /// TCP_USER_TIMEOUT; 0: the system's retransmission limit (about 15 minutes).
  package var userTimeoutMilliseconds: UInt32

  package init(
    firstProbeMilliseconds: UInt32, intervalMilliseconds: UInt32, count: UInt32, userTimeoutMilliseconds: UInt32
  ) {
    self.firstProbeMilliseconds = firstProbeMilliseconds
    self.intervalMilliseconds = intervalMilliseconds
    self.count = count
    self.userTimeoutMilliseconds = userTimeoutMilliseconds
  }
}
