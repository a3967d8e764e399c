import CLLMPoolSystem
import Glibc

/// Socket options and what the kernel knows about a TCP connection. None of them fails loudly: an option that the
/// system refuses leaves the system's default, and a fact that it does not know is nil.
enum Socket {
  /// Only for a connected socket: before that TCP_USER_TIMEOUT would also cut the dial short.
  static func setKeepalive(_ descriptor: Int32, _ settings: KeepaliveSettings) {
    let tcp = Int32(IPPROTO_TCP)
    if settings.firstProbeMilliseconds > 0 {
      set(descriptor, SOL_SOCKET, SO_KEEPALIVE, 1)
      set(descriptor, tcp, TCP_KEEPIDLE, seconds(settings.firstProbeMilliseconds))
      set(descriptor, tcp, TCP_KEEPINTVL, seconds(settings.intervalMilliseconds))
      set(descriptor, tcp, TCP_KEEPCNT, Int32(clamping: max(settings.count, 1)))
    }
    if settings.userTimeoutMilliseconds > 0 {
      set(descriptor, tcp, TCP_USER_TIMEOUT, Int32(clamping: settings.userTimeoutMilliseconds))
    }
  }

  /// Bytes that the peer's kernel has acknowledged, the SYN counted as one; nil where the kernel cannot say.
  static func bytesAcknowledged(_ descriptor: Int32) -> UInt64? {
    var bytes: UInt64 = 0
    return lp_tcp_bytes_acked(descriptor, &bytes) == 1 ? bytes : nil
  }

  /// SO_ERROR, which the kernel forgets once it was read; 0: none.
  static func takeError(_ descriptor: Int32) -> Int32 {
    var code: Int32 = 0
    var size = socklen_t(MemoryLayout<Int32>.size)
    return getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &size) == 0 ? code : errno
  }

  private static func set(_ descriptor: Int32, _ level: Int32, _ option: Int32, _ value: Int32) {
    var value = value
    _ = setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
  }

  /// The kernel's unit for probes, rounded up; its largest value is 32767.
  private static func seconds(_ milliseconds: UInt32) -> Int32 {
    Int32(min(max((UInt64(milliseconds) + 999) / 1000, 1), 32767))
  }
}
