import CLLMPoolSystem
import Glibc

/// What happens to the library when its process forks or ends. Installed with the first call, before there is a handle.
package enum ProcessHooks {
  /// Counts the forks that led to this process: a handle made in another generation is the parent's.
  package static var generation: UInt32 { lp_fork_count() }

  /// Nobody forks meanwhile: a child would find what is done once begun, and wait for it for ever.
  static func install() {
    lp_install(
      {
        // After OpenSSL's own handler was registered, so that ours runs before it.
        _ = Libraries.initialized
        Gate.prepare()
        atexit {
          Gate.end()
          SnapshotServer.end()
        }
      }, { Gate.close() }, { Gate.open() }, { ProcessHooks.inChild() })
  }

  /// The generation first, so that every inherited handle is known as such. Then the inherited descriptors go, without
  /// a byte on the wire, without OpenSSL, libcurl or the epoll that the parent goes on using. The objects stay where
  /// they are: taking them apart would touch what the parent still uses.
  private static func inChild() {
    lp_count_fork()
    Gate.openInChild()
  }
}
