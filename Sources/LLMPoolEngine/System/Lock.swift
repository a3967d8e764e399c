import Glibc

/// A pthread mutex with an address that does not move: for what is locked in one function and unlocked in another,
/// and across fork(), where the child may only unlock what its own thread had locked. Whoever has it is inside the
/// gate: no process forks, or ends, while another thread holds a lock.
package final class Lock: @unchecked Sendable {
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)

  package init() { pthread_mutex_init(mutex, nil) }
  deinit {
    pthread_mutex_destroy(mutex)
    mutex.deallocate()
  }

  package func lock() {
    Gate.enter()
    pthread_mutex_lock(mutex)
  }

  package func unlock() {
    pthread_mutex_unlock(mutex)
    Gate.leave()
  }

  /// False if another thread has it.
  func tryLock() -> Bool {
    Gate.enter()
    if pthread_mutex_trylock(mutex) == 0 { return true }
    Gate.leave()
    return false
  }
}

/// State that only its lock gives access to. Not Synchronization's Mutex: on Linux that remembers the id of its
/// thread, which is another one in a forked child.
package final class Guarded<State>: @unchecked Sendable {
  private let lock = Lock()
  private var state: State

  package init(_ state: State) { self.state = state }

  package func withLock<Result>(_ body: (inout State) -> Result) -> Result {
    lock.lock()
    let result = body(&state)
    lock.unlock()  // not by `defer`, which the compiler makes a function of its own
    return result
  }

  /// Nil: another thread has it.
  func ifFree<Result>(_ body: (inout State) -> Result) -> Result? {
    guard lock.tryLock() else { return nil }
    defer { lock.unlock() }
    return body(&state)
  }
}
