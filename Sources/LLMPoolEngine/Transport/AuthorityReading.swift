import CLLMPoolSystem
import Glibc

/// One reading of the system's CA store for a context, on a thread of its own: the engine's resolves, connects and
/// serves meanwhile. It is over with the call of `done`, for which `ended` is called, or before it with `giveUp`.
final class AuthorityReading {
  /// Held within OpenSSL, for one certificate after the other: a process that forks or exits must not find the thread
  /// there, nor wait for long. See `Gate`.
  static let lock = Lock()

  /// Not the thread's to keep alive, where its last reference would go outside the lock.
  let context: TLSContext
  private let progress = Progress()
  private var thread = pthread_t()

  /// Under the lock.
  private final class Progress: @unchecked Sendable {
    /// For as long as the file system may take.
    var isInFile = true
    var isGivenUp = false
  }

  /// Nil: there is no thread for it. `done` is called on it.
  init?(_ context: TLSContext, done: @escaping @Sendable () -> Void) {
    self.context = context
    nonisolated(unsafe) let pointer = context.pointer
    let (path, progress) = (context.systemFile, progress)
    let result = startThread(&thread, "llmpool-ca") {
      var authorities = SystemAuthorities(path: path)
      var hasMore = true
      while hasMore { hasMore = AuthorityReading.step(&authorities, pointer, progress) }
      done()
    }
    guard result == 0 else { return nil }
  }

  private static func step(
    _ authorities: inout SystemAuthorities, _ context: OpaquePointer, _ progress: Progress
  ) -> Bool {
    lock.lock()
    defer { lock.unlock() }
    progress.isInFile = false
    if progress.isGivenUp { authorities.abandon() } else if authorities.addNext(to: context) { return true }
    // What OpenSSL keeps for this thread would else be freed at its end, when nothing holds a fork or an exit back.
    OPENSSL_thread_stop()
    return false
  }

  /// After `done`.
  func ended() { pthread_detach(thread) }

  /// The context is not touched any more. The thread has ended, unless it waits for the file: then it ends with that.
  func giveUp() {
    if let thread = stop() { pthread_join(thread, nil) }
  }

  /// The context is not touched any more. Returns the thread, where it is about to end and is to be joined.
  func stop() -> pthread_t? {
    AuthorityReading.lock.lock()
    progress.isGivenUp = true
    let isInFile = progress.isInFile
    AuthorityReading.lock.unlock()
    if isInFile { pthread_detach(thread) }
    return isInFile ? nil : thread
  }
}
