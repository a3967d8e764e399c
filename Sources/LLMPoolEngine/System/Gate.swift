import CLLMPoolSystem
import Glibc

/// Who is inside runs code of the library; a process forks, and ends, while nobody else is.
///
/// A thread enters with its first lock, or with the call of the API that it makes, and leaves with the last: so whoever
/// holds a `Lock` is inside, and there is no list of locks that a new one could be missing from. It leaves to sleep
/// (`sleep`), for nothing that it sleeps for may hold a fork up. A fork closes the gate, waits until everybody else
/// has left, and opens it on both sides: the child finds no lock held and nothing half done, whatever the threads
/// of the parent were at. The end of the process closes it for good to the library's own threads, which would
/// else run while OpenSSL is taken apart; of the application's every call answers `closed` from there on.
///
/// Each thread has a place of its own, which it alone writes: entering costs no cache line that others want. A fork in
/// a signal handler that has interrupted its own thread inside passes over that one place.
package enum Gate {
  private enum State {
    static let open: UInt32 = 0
    /// For a fork.
    static let closed: UInt32 = 1
    static let ended: UInt32 = 2
  }
  typealias Place = UnsafeMutablePointer<lp_place>

  /// So long a fork, or the end, waits for a thread that does not leave: a fault of ours, or a thread that a debugger
  /// holds, must not hang a process that could go on.
  private static let longestFork: Int64 = 10_000_000_000
  private static let longestEnd: Int64 = 1_000_000_000

  /// Readable when the process ends, for those who sleep in poll; of this process, made anew in a child.
  nonisolated(unsafe) private static var endDescriptor: Int32 = -1
  /// Which it is: a process that closes every descriptor, as daemons do, has the number mean a file of its own.
  nonisolated(unsafe) private static var endFile: UInt64 = 0
  nonisolated(unsafe) private static var endingPlace: Place?

  /// The process ends: its exit handlers run.
  package static var isEnded: Bool { lp_gate_state() == State.ended }

  // MARK: In and out

  package static func enter() {
    let place = own()
    if lp_place_deepen(place) == 0 { pass(place) }
  }

  package static func leave() {
    let place = own()
    if lp_place_rise(place) == 1 { vacate(place) }
  }

  private static func pass(_ place: Place) {
    while true {
      lp_place_set_inside(place, 1)
      let state = lp_gate_state()
      if state == State.open || place.pointee.is_forking == 1 { return }
      if state == State.ended, place.pointee.is_ours == 0 { return }
      vacate(place)
      if state == State.ended { stayOut() }
      lp_gate_wait(state, -1)
    }
  }

  private static func vacate(_ place: Place) {
    lp_place_set_inside(place, 0)
    if lp_gate_state() != State.open { lp_place_wake(place) }
  }

  /// The process ends without this thread.
  private static func stayOut() -> Never { while true { pause() } }

  /// One call of the API: inside, and no cancellation point, for a thread that is cancelled within it would leave locks
  /// locked.
  package static func call(_ body: () throws(Fault) -> Void) throws(Fault) {
    var cancellable: Int32 = 0
    pthread_setcancelstate(Int32(PTHREAD_CANCEL_DISABLE), &cancellable)
    defer { pthread_setcancelstate(cancellable, nil) }
    enter()
    defer { leave() }
    try checkEnd()
    try body()
  }

  static func checkEnd() throws(Fault) {
    guard !isEnded else { throw Fault(.closed, "the process ends") }
  }

  // MARK: Sleep

  /// As a futex's wait, outside: 0, ETIMEDOUT, EAGAIN, EINTR; ECANCELED: the process ends. No lock is held.
  static func sleep(on word: UnsafeMutablePointer<UInt32>, while expected: UInt32, _ nanoseconds: Int64) -> Int32 {
    sleep { place in
      lp_place_sleep_on(place, word)
      defer { lp_place_sleep_on(place, nil) }
      if isEnded { return ECANCELED }
      guard nanoseconds < 0 else { return lp_futex_wait(word, expected, nanoseconds) }
      // Without an end a wait is begun again by the kernel after a signal (SA_RESTART), whose handler may have forked.
      let result = lp_futex_wait(word, expected, longestSleep)
      return result == ETIMEDOUT ? 0 : result
    }
  }
  private static let longestSleep: Int64 = 3_600_000_000_000

  /// Until the descriptor is readable, outside: 0, ETIMEDOUT or an errno; ECANCELED: the process ends. No lock is held.
  static func sleep(readable descriptor: Int32, _ nanoseconds: Int64) -> Int32 {
    sleep { _ in
      let result = lp_wait_readable_or_end(descriptor, endDescriptor, nanoseconds)
      // Somebody has closed every descriptor of the process: then only this one counts.
      return result == ECANCELED && !isEnded ? lp_wait_readable(descriptor, nanoseconds) : result
    }
  }

  private static func sleep(_ body: (Place) -> Int32) -> Int32 {
    let result = outside(body)
    return isEnded ? ECANCELED : result
  }

  /// For what takes as long as a file system may take. Touches nothing of the library's, and no lock, not OpenSSL's
  /// either.
  static func outside<Result>(_ body: () -> Result) -> Result { outside { _ in body() } }

  private static func outside<Result>(_ body: (Place) -> Result) -> Result {
    let place = own()
    let isInside = place.pointee.depth > 0
    assert(place.pointee.depth <= 1, "nobody sleeps with a lock")
    if isInside { vacate(place) }
    defer { if isInside { pass(place) } }
    return body(place)
  }

  // MARK: Places

  private static func own() -> Place { lp_own_place() ?? takePlace() }

  private static let key: pthread_key_t = {
    var key = pthread_key_t()
    pthread_key_create(&key) { place in
      lp_set_own_place(nil)
      lp_place_give_back(place!.assumingMemoryBound(to: lp_place.self))
    }
    return key
  }()

  private static func takePlace() -> Place {
    ProcessHooks.install()
    var place = lp_first_place()
    while let candidate = place, lp_place_take(candidate) == 0 { place = candidate.pointee.next }
    let own = place ?? makePlace()
    own.pointee.is_ours = 0
    lp_set_own_place(own)
    pthread_setspecific(key, own)
    lp_at_thread_end { _ in Gate.threadEnds() }
    return own
  }

  /// A thread of the application's that has done the pool's work: what OpenSSL keeps for it goes here, while a fork
  /// waits. OpenSSL's own destructor comes later, and takes a lock that a child would find locked for ever. The
  /// library's threads see to it themselves.
  private static func threadEnds() {
    guard let place = lp_own_place(), place.pointee.is_ours == 0, place.pointee.depth == 0 else { return }
    enter()
    OPENSSL_thread_stop()
    leave()
  }

  private static func makePlace() -> Place {
    guard let place = lp_place_make() else { fatalError("llmpool: out of memory for a thread") }
    lp_add_place(place)
    return place
  }

  /// The calling thread is the library's.
  static func noteOurThread() { own().pointee.is_ours = 1 }

  private static func others(_ body: (Place) -> Void) {
    let own = own()
    var place = lp_first_place()
    while let each = place {
      if each != own { body(each) }
      place = each.pointee.next
    }
  }

  private static func waitForOthers(_ longest: Int64) {
    let deadline = monotonicNow() + longest
    others { place in
      while lp_place_inside(place) == 1 {
        let left = deadline - monotonicNow()
        guard left > 0 else { return }
        lp_place_wait(place, left)
      }
    }
  }

  // MARK: Fork and end

  /// Nobody forks meanwhile.
  static func prepare() {
    _ = key
    setEndDescriptor(lp_end_open())
  }

  private static func setEndDescriptor(_ descriptor: Int32) {
    endDescriptor = descriptor
    endFile = lp_file(descriptor)
  }
  private static var hasEndDescriptor: Bool { endDescriptor >= 0 && lp_file(endDescriptor) == endFile }

  /// Before a fork. From here on its thread handles no signal: the handler of one might fork.
  static func close() {
    let place = own()
    var all = sigset_t()
    sigfillset(&all)
    pthread_sigmask(SIG_SETMASK, &all, &place.pointee.signals)
    while lp_gate_change(State.open, State.closed) == 0 {
      if isEnded { return }
      lp_gate_wait(State.closed, -1)
    }
    place.pointee.is_forking = 1
    waitForOthers(longestFork)
  }

  /// After a fork, in the parent.
  static func open() {
    let place = own()
    if place.pointee.is_forking == 1 {
      place.pointee.is_forking = 0
      lp_gate_reopen(State.closed, State.open)
    }
    pthread_sigmask(SIG_SETMASK, &place.pointee.signals, nil)
  }

  /// In the child. The thread that forked is the only one there, and inside only where a signal interrupted it.
  static func openInChild() {
    let place = own()
    others { lp_place_clear($0) }
    place.pointee.is_forking = 0
    lp_gate_set(endingPlace == place ? State.ended : State.open)
    let own = lp_end_open()
    if hasEndDescriptor {
      lp_deaden(endDescriptor, own)
      setEndDescriptor(endDescriptor)
      Glibc.close(own)
    } else {
      setEndDescriptor(own)
    }
    Descriptors.abandon(inUse: lp_place_inside(place) == 1)
    pthread_sigmask(SIG_SETMASK, &place.pointee.signals, nil)
  }

  /// The exit handler.
  static func end() {
    let deadline = monotonicNow() + longestEnd
    while lp_gate_change(State.open, State.ended) == 0, monotonicNow() < deadline {
      lp_gate_wait(State.closed, 10_000_000)
    }
    lp_gate_set(State.ended)
    endingPlace = own()
    waitForOthers(longestEnd)
    others { lp_place_end_sleep($0) }
    if hasEndDescriptor { lp_end_signal(endDescriptor) }
  }
}
