import Glibc

/// A thread that runs one closure and can be waited for.
package final class TestThread {
  private final class Box {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }

  private var thread = pthread_t()

  package init(_ body: @escaping @Sendable () -> Void) {
    let box = Unmanaged.passRetained(Box(body)).toOpaque()
    let code = pthread_create(
      &thread, nil,
      { pointer in
        // OpenSSL's own socket calls raise SIGPIPE. Blocked only here: the client's must never do.
        var signals = sigset_t()
        sigemptyset(&signals)
        sigaddset(&signals, SIGPIPE)
        pthread_sigmask(SIG_BLOCK, &signals, nil)
        Unmanaged<Box>.fromOpaque(pointer!).takeRetainedValue().body()
        return nil
      }, box)
    precondition(code == 0)
  }

  package func join() { pthread_join(thread, nil) }

  /// Not to be waited for.
  package static func detached(_ body: @escaping @Sendable () -> Void) { pthread_detach(TestThread(body).thread) }
}
