import Glibc

/// A pthread mutex with an address that does not move: for what is locked in one function and unlocked in another,
/// and across fork(), where the child may only unlock what its own thread had locked.
package final class Lock: @unchecked Sendable {
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)

  package init() { pthread_mutex_init(mutex, nil) }
  deinit {
    pthread_mutex_destroy(mutex)
    mutex.deallocate()
  }

  package func lock() { pthread_mutex_lock(mutex) }
  package func unlock() { pthread_mutex_unlock(mutex) }
  /// False if another thread has it.
  func tryLock() -> Bool { pthread_mutex_trylock(mutex) == 0 }

  /// False if that took longer.
  func lock(milliseconds: Int) -> Bool {
    var deadline = timespec()
    clock_gettime(CLOCK_REALTIME, &deadline)
    deadline.tv_nsec += milliseconds * 1_000_000
    deadline.tv_sec += deadline.tv_nsec / 1_000_000_000
    deadline.tv_nsec %= 1_000_000_000
    return pthread_mutex_timedlock(mutex, &deadline) == 0
  }
}

/// State that only its lock gives access to. Not Synchronization's Mutex: on Linux that remembers the id of its
/// thread, which is another one in a forked child.
final class Guarded<State>: @unchecked Sendable {
  private let lock = Lock()
  private var state: State

  init(_ state: State) { self.state = state }

  func withLock<Result>(_ body: (inout State) -> Result) -> Result {
    lock.lock()
    defer { lock.unlock() }
    return body(&state)
  }
}
