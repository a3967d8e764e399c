import CLLMPoolSystem
import Glibc

/// Starts a thread of the library's own; returns 0 or an errno value. Its name has at most 15 bytes.
///
/// Signals are the application's: they are blocked there, except those that a fault of the thread itself raises, of
/// which whoever handles them wants to know.
func startThread(_ thread: inout pthread_t, _ name: StaticString, _ body: @escaping @Sendable () -> Void) -> Int32 {
  var others = sigset_t()
  var before = sigset_t()
  sigfillset(&others)
  for fault in [SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT] { sigdelset(&others, fault) }
  pthread_sigmask(SIG_SETMASK, &others, &before)
  defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
  let context = Unmanaged.passRetained(ThreadBody(name, body))
  let result = pthread_create(
    &thread, nil,
    { context in
      let body = Unmanaged<ThreadBody>.fromOpaque(context!).takeRetainedValue()
      lp_name_thread(body.name.utf8Start)
      Gate.noteOurThread()
      body.run()
      return nil
    }, context.toOpaque())
  if result != 0 { context.release() }
  return result
}

private final class ThreadBody {
  let name: StaticString
  let run: @Sendable () -> Void
  init(_ name: StaticString, _ run: @escaping @Sendable () -> Void) { (self.name, self.run) = (name, run) }
}
