import CLLMPoolSystem
import Glibc

// A queue whose threads do the engine's work: see Engine+Driving.
extension CompletionQueue {
  // MARK: The application's side

  /// The engine that this queue's threads work for at present.
  var driven: Engine? { drives ? state.withLock { $0.driven } : nil }

  /// As `take`; where there is nothing, and the thread is one of the driver's, after the work that there is.
  package func takeDriving(_ capacity: Int, accept: (UnsafeMutablePointer<EventRecord>) -> Bool) -> Int? {
    let taken = take(capacity, accept: accept)
    guard taken == 0, let engine = driven, engine.drive(self, takes: true) else { return taken }
    return take(capacity, accept: accept)
  }

  /// As `wait`; for a thread of the driver's also until there is work for it.
  package func waitForWork(timeout: Int64) -> WaitResult {
    guard driven != nil, let descriptor = descriptor(), descriptor >= 0 else { return wait(timeout: timeout) }
    switch Gate.sleep(readable: descriptor, timeout) {
    case ECANCELED: return .closed
    case EINTR: return .interrupted
    case ETIMEDOUT: return .timedOut
    default: return .ready
    }
  }

  // MARK: The engine's side

  /// From now on the descriptor is readable for what the engine has to do, too. False: it cannot be, or is for another
  /// pool's already.
  func startDriving(_ engine: Engine) -> Bool {
    let started = state.withLock { state in
      if state.descriptor < 0, !state.isClosed { openDescriptors(&state) }
      guard state.descriptor >= 0, state.driven == nil else { return false }
      state.driven = engine
      watchDriven(&state)
      lp_atomic_increment(word)
      return true
    }
    if started { lp_futex_wake(word, .max) }  // to wait on the descriptor instead
    return started
  }

  func stopDriving(_ engine: Engine) {
    state.withLock { state in
      guard state.driven === engine else { return }
      state.driven = nil
      if state.descriptor >= 0 { _ = lp_epoll_control(state.descriptor, EPOLL_CTL_DEL, engine.epoll, 0, 0) }
    }
  }

  func watchDriven(_ state: inout State) {
    guard let engine = state.driven, state.descriptor >= 0 else { return }
    _ = lp_epoll_control(state.descriptor, EPOLL_CTL_ADD, engine.epoll, LP_EPOLLIN, 0)
  }

  /// Within an epoll a closed eventfd wakes nobody: this one is never closed.
  private static let signal: Int32 = {
    let descriptor = lp_eventfd()
    if descriptor >= 0 { lp_eventfd_signal(descriptor) }
    return descriptor
  }()

  /// The queue is being closed: whoever waits on its descriptor, an epoll, is to wake.
  func stayReadable(_ state: inout State) {
    guard state.descriptor >= 0 else { return }
    _ = lp_epoll_control(state.descriptor, EPOLL_CTL_ADD, CompletionQueue.signal, LP_EPOLLIN, 0)
  }
}
