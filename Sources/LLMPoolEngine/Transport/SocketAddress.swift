import Glibc

/// An IPv4 or IPv6 address with a port; a trivial value, so that keeping and copying one costs no reference count.
package struct SocketAddress: Hashable, Sendable {
  package let isIPv6: Bool
  package var port: UInt16
  /// The address in network order, read as two big-endian numbers; an IPv4 address is the low 32 bits of `low`.
  private let high: UInt64
  private let low: UInt64
  /// The interface of a link-local IPv6 address, else 0.
  private let scope: UInt32

  package init(ipv4 address: UInt32, port: UInt16) {
    (isIPv6, high, low, scope, self.port) = (false, 0, UInt64(address), 0, port)
  }

  private init(ipv6 address: in6_addr, port: UInt16, scope: UInt32) {
    let (high, low) = withUnsafeBytes(of: address) { bytes in
      (bytes.loadUnaligned(as: UInt64.self), bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    }
    (isIPv6, self.high, self.low) = (true, UInt64(bigEndian: high), UInt64(bigEndian: low))
    (self.scope, self.port) = (scope, port)
  }

  /// Nil for other families.
  package init?(_ address: UnsafePointer<sockaddr>) {
    switch Int32(address.pointee.sa_family) {
    case AF_INET:
      let ipv4 = UnsafeRawPointer(address).loadUnaligned(as: sockaddr_in.self)
      self.init(ipv4: UInt32(bigEndian: ipv4.sin_addr.s_addr), port: UInt16(bigEndian: ipv4.sin_port))
    case AF_INET6:
      let ipv6 = UnsafeRawPointer(address).loadUnaligned(as: sockaddr_in6.self)
      self.init(ipv6: ipv6.sin6_addr, port: UInt16(bigEndian: ipv6.sin6_port), scope: ipv6.sin6_scope_id)
    default:
      return nil
    }
  }

  /// From "192.0.2.1", "::1", "[::1]" or "fe80::1%eth0"; nil for a name. Strict: "127.1" is left to the resolver.
  package init?(literal: String, port: UInt16) {
    var text = Substring(literal)
    if text.hasPrefix("[") && text.hasSuffix("]") { text = text.dropFirst().dropLast() }
    if text.utf8.contains(0) { return nil }
    var ipv4 = in_addr()
    if inet_pton(AF_INET, String(text), &ipv4) == 1 {
      self.init(ipv4: UInt32(bigEndian: ipv4.s_addr), port: port)
      return
    }
    let parts = text.split(separator: "%", maxSplits: 1, omittingEmptySubsequences: false)
    var scope: UInt32 = 0
    if parts.count == 2 {
      scope = UInt32(parts[1]) ?? if_nametoindex(String(parts[1]))
      if scope == 0 { return nil }
    }
    var ipv6 = in6_addr()
    guard inet_pton(AF_INET6, String(parts.first ?? ""), &ipv6) == 1 else { return nil }
    self.init(ipv6: ipv6, port: port, scope: scope)
  }

  /// The peer of a connected descriptor.
  package init?(peerOf descriptor: Int32) {
    var storage = sockaddr_storage()
    var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let address = withUnsafeMutablePointer(to: &storage) { pointer -> SocketAddress? in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
        getpeername(descriptor, address, &size) == 0 ? SocketAddress(address) : nil
      }
    }
    guard let address else { return nil }
    self = address
  }

  /// In the block of addresses that share the first bits of this one.
  func isWithin(_ block: SocketAddress, bits: Int) -> Bool {
    guard isIPv6 == block.isIPv6 else { return false }
    let (highBits, lowBits) = isIPv6 ? (bits, bits - 64) : (0, bits + 32)
    return SocketAddress.agree(high, block.high, bits: highBits) && SocketAddress.agree(low, block.low, bits: lowBits)
  }

  private static func agree(_ left: UInt64, _ right: UInt64, bits: Int) -> Bool {
    bits <= 0 || (left ^ right) >> UInt64(64 - min(bits, 64)) == 0
  }

  package func with(port: UInt16) -> SocketAddress {
    var copy = self
    copy.port = port
    return copy
  }

  /// "192.0.2.1" or "::1", without port and brackets.
  package var host: String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(INET6_ADDRSTRLEN)) { buffer in
      buffer.initialize(repeating: 0)
      if isIPv6 {
        var bytes = (high.bigEndian, low.bigEndian)
        inet_ntop(AF_INET6, &bytes, buffer.baseAddress!, socklen_t(buffer.count))
      } else {
        var bytes = UInt32(low).bigEndian
        inet_ntop(AF_INET, &bytes, buffer.baseAddress!, socklen_t(buffer.count))
      }
      let text = String(cString: buffer.baseAddress!)
      return scope == 0 ? text : "\(text)%\(scope)"
    }
  }
}

extension SocketAddress: CustomStringConvertible {
  /// "192.0.2.1:443" or "[::1]:443".
  package var description: String { isIPv6 ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
