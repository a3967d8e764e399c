import CLLMPoolSystem
import Glibc

/// The two sockets by which libcurl wakes a multi handle of its own accord, which nobody here asks it to. Until 8.8 it
/// makes them without close-on-exec, so that they would live on in every program that the application starts.
///
/// libcurl does not say which they are; what they do does: with each `curl_multi_wakeup` one of them has one byte more
/// under way and the other one more to be read, and `curl_multi_poll` takes them back. That another descriptor does all
/// of this at the same moments is not thinkable.
enum WakeupSockets {
  private struct Candidate {
    let descriptor: Int32
    var canBeReader = true
    var canBeWriter = true

    var unread: Int32 { lp_unread_bytes(descriptor) }
    var isUnsent: Bool { lp_unsent_bytes(descriptor) > 0 }

    /// Keeps what may still be true with so many bytes under way.
    mutating func expect(_ bytes: Int32) {
      canBeReader = canBeReader && unread == bytes
      canBeWriter = canBeWriter && isUnsent == (bytes > 0)
    }
  }

  /// To be called with a multi handle that nothing was done with yet.
  static func closeOnExec(of multi: UnsafeMutableRawPointer) {
    var candidates = inheritedSockets().map { Candidate(descriptor: $0) }
    func expect(_ bytes: Int32) {
      for index in candidates.indices { candidates[index].expect(bytes) }
      candidates.removeAll { !$0.canBeReader && !$0.canBeWriter }
    }
    expect(0)
    guard !candidates.isEmpty else { return }
    for wakes: Int32 in 1...2 {
      guard curl_multi_wakeup(multi) == CURLM_OK else { return }
      expect(wakes)
    }
    var ready: Int32 = 0
    curl_multi_poll(multi, nil, 0, 0, &ready)
    expect(0)
    for candidate in candidates { lp_close_on_exec(candidate.descriptor) }
  }

  /// The non-blocking local sockets that a program which is started would inherit.
  private static func inheritedSockets() -> [Int32] {
    directoryNames("/proc/self/fd").compactMap { Int32($0) }.filter { lp_is_inherited_local_socket($0) == 1 }
  }
}
