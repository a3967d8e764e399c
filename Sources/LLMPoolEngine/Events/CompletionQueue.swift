import CLLMPoolSystem
import Glibc
import Synchronization

/// An engine, as a queue sees it whose threads may take its turns: see Rest.
protocol TurnHolder: AnyObject {
  var turn: Lock { get }
  /// Readable when there is work.
  var epoll: Int32 { get }
  /// Where the queue has the ear: when the engine's thread looks by itself. Called with the turn held.
  func alarm(heardBy queue: CompletionQueue) -> Int64?
  /// On a thread of the queue's application, which has entered the turn: takes it, and leaves it. `takes`: the thread
  /// takes the queue's events next, and need not be told of them. `alarm`: when the engine's thread looks by itself.
  func takeTurn(for queue: CompletionQueue, takes: Bool, before alarm: Int64)
}

/// Where the events of requests arrive. The engine's thread puts them in, any number of threads take them out.
package final class CompletionQueue: @unchecked Sendable {
  /// At most one wake in this time; the first after a quiet spell comes at once. In nanoseconds.
  let coalesce: Int64
  /// The same where nothing but pieces of streams has come.
  let streamCoalesce: Int64
  /// While the wake is put off the engine may leave its sockets alone, where answers may come, for so long. Of who has
  /// patience for that the requests may be sent together, too: see `Resting.napPart`.
  let rest: Int64
  /// Its threads may take the engine's turns while they wait for a request that is alone: see Rest.
  let drives: Bool
  /// Called on the engine's thread after events were put in, instead of waking anybody. Must not block.
  private let onEvents: (@Sendable (CompletionQueue) -> Void)?

  struct State {
    var events: [UnsafeMutablePointer<EventRecord>] = []
    var first = 0
    var isClosed = false
    /// Threads that sleep on `word`.
    var waiters = 0
    /// Threads of the library that poll the descriptor.
    var pollers = 0
    /// What the application waits on; -1 until someone asks for it.
    var descriptor: Int32 = -1
    /// The application has asked for it.
    var isLent = false
    /// An eventfd: the descriptor itself, or within it where that is an epoll.
    var eventDescriptor: Int32 = -1
    /// Whose epoll hangs in the descriptor.
    var hung: (any TurnHolder)?
    /// The hung epoll is not listened to: someone found the turn taken, and would only find it so again.
    var isMuted = false
    var isSignalled = false
    /// Nothing was taken since the last wake.
    var isCalled = false
    /// What was taken since a wake, less what was submitted since: so many events the application has before it.
    var atHand = 0
    var lastWake = Int64.min / 2
    /// There are events, and nobody is to be waked for them before.
    var putOffUntil: Int64?
    /// Of the engines that put events in, the one that did so last first.
    var inboxes: [Inbox] = []
    var notices = 0
    var count: Int { events.count - first }

    mutating func took(_ number: Int) {
      guard number > 0 else { return }
      atHand = number + (isCalled ? 0 : atHand)
      isCalled = false
    }
  }
  let state = Guarded(State())
  /// As the state says; for whoever has not its lock.
  private let hasClosed = Atomic<Bool>(false)
  /// That of the process that made it.
  let generation = ProcessHooks.generation
  /// Counts publications; a waiting thread sleeps on it.
  let word = UnsafeMutablePointer<UInt32>.allocate(capacity: 1)

  package init(
    coalesceMicroseconds: UInt32 = 0, streamCoalesceMicroseconds: UInt32 = 0, drives: Bool = false,
    onEvents: (@Sendable (CompletionQueue) -> Void)? = nil
  ) {
    coalesce = Int64(coalesceMicroseconds) * 1_000
    streamCoalesce = max(coalesce, Int64(streamCoalesceMicroseconds) * 1_000)
    rest = max(coalesce, streamCoalesce / 2)
    self.drives = drives
    self.onEvents = onEvents
    word.initialize(to: 0)
  }

  deinit {
    let leftover = state.withLock { state in
      closeDescriptors(&state)
      return Array(state.events[state.first...])
    }
    for record in leftover { EventRecord.release(record, crediting: false) }
    word.deallocate()
  }

  var identity: ObjectIdentifier { ObjectIdentifier(self) }
  package var isClosed: Bool { hasClosed.load(ordering: .acquiring) }

  // MARK: The engine's side

  /// A request is being submitted, so the engine will put events in: closing the queue must cancel what it still runs
  /// for it. Whether the application is busy with what it took; nil when closed.
  func attach(_ inbox: Inbox) -> Bool? {
    state.withLock { state in
      guard !state.isClosed else { return nil }
      if state.inboxes.first !== inbox {
        state.inboxes.removeAll { $0 === inbox || $0.isOver }
        state.inboxes.insert(inbox, at: 0)
      }
      state.atHand -= 1
      return state.atHand >= CompletionQueue.busyWith
    }
  }
  /// So many pieces of streams are worth a wake: to tell more of them together spares little, and makes each late.
  static let fullBatch = 16
  /// With so many events at hand an application is at work for a while.
  static let busyWith = 16

  /// Puts events in and wakes who waits. Returns when the wake is due if it was put off, nil if it was not. `quietly`:
  /// it is for a thread that takes them next. `mayWait`: others may come that the application can be waked for
  /// together, and nothing waits for it.
  func publish(
    _ records: [UnsafeMutablePointer<EventRecord>], now: Int64, quietly: Bool, mayWait: Bool
  ) -> Int64? {
    let isStream = records.allSatisfy { $0.pointee.kind == .data || $0.pointee.kind == .sse }
    enum Step {
      case drop, done
      case wake(Int32)
      case putOff(Int64)
    }
    let step: Step = state.withLock { state in
      guard !state.isClosed else { return .drop }
      for record in records {
        if record.pointee.mayBeLost { CompletionQueue.makeRoom(&state) }
        state.events.append(record)
      }
      if onEvents != nil { return .done }
      if quietly, state.waiters == 0 {
        state.putOffUntil = nil
        return .done
      }
      if mayWait, !isStream || state.count < CompletionQueue.fullBatch {
        let due = min(state.putOffUntil ?? .max, state.lastWake + (isStream ? streamCoalesce : coalesce))
        if due > now {
          state.putOffUntil = due
          return .putOff(due)
        }
      }
      state.putOffUntil = nil
      guard let waiters = signal(&state, now) else { return .done }
      return .wake(waiters)
    }
    switch step {
    case .drop: for record in records { EventRecord.release(record, crediting: false) }
    case .done: onEvents?(self)
    case .wake(let waiters): lp_futex_wake(word, waiters)
    case .putOff(let due): return due
    }
    return nil
  }

  /// Such notices may come for ever to a queue that nobody drains: beyond so many the oldest goes.
  private static let noticeLimit = 1_024

  private static func makeRoom(_ state: inout State) {
    state.notices += 1
    guard state.notices > noticeLimit else { return }
    state.notices -= 1
    let oldest = state.events[state.first...].firstIndex { $0.pointee.mayBeLost }
    if let oldest { EventRecord.release(state.events.remove(at: oldest), crediting: false) }
  }

  /// The wake that `publish` put off.
  func wakePutOff(now: Int64) {
    let waiters: Int32? = state.withLock { state -> Int32? in
      guard state.putOffUntil != nil else { return nil }
      state.putOffUntil = nil
      return state.count > 0 ? signal(&state, now) : nil
    }
    if let waiters { lp_futex_wake(word, waiters) }
  }

  /// Makes the descriptor readable; returns how many sleepers to wake, nil for none.
  private func signal(_ state: inout State, _ now: Int64) -> Int32? {
    state.lastWake = now
    state.isCalled = true
    makeReadable(&state)
    lp_atomic_increment(word)
    return state.waiters > 0 ? Int32.max : nil
  }

  private func makeReadable(_ state: inout State) {
    guard state.eventDescriptor >= 0, !state.isSignalled else { return }
    state.isSignalled = true
    lp_eventfd_signal(state.eventDescriptor)
  }

  // MARK: The application's side

  /// A descriptor that is readable while the queue holds events for whose wake it is time, or, where it has an engine's
  /// ear, while there is work for its threads. Nil: closed. -1: errno.
  package func descriptor() -> Int32? {
    state.withLock { state in
      guard !state.isClosed else { return nil }
      if state.descriptor < 0 { openDescriptors(&state) }
      if !state.isLent, state.descriptor >= 0 {
        state.isLent = true
        Descriptors.note(state.descriptor, .lent)
        Descriptors.note(state.eventDescriptor, .lent)
      }
      return state.descriptor
    }
  }

  func openDescriptors(_ state: inout State) {
    state.eventDescriptor = lp_eventfd()
    Descriptors.note(state.eventDescriptor)
    guard state.eventDescriptor >= 0 else { return }
    if drives {
      state.descriptor = lp_epoll_create()
      Descriptors.note(state.descriptor)
      guard state.descriptor >= 0,
        lp_epoll_control(state.descriptor, EPOLL_CTL_ADD, state.eventDescriptor, LP_EPOLLIN, 0) == 0
      else { return closeDescriptors(&state) }
    } else {
      state.descriptor = state.eventDescriptor
    }
    if state.count > 0 { makeReadable(&state) }
  }

  /// In a child they are gone, or the application's.
  private func closeDescriptors(_ state: inout State) {
    defer { (state.descriptor, state.eventDescriptor) = (-1, -1) }
    guard generation == ProcessHooks.generation else { return }
    if state.descriptor != state.eventDescriptor { Descriptors.close(state.descriptor) }
    Descriptors.close(state.eventDescriptor)
  }

  package enum WaitResult { case ready, timedOut, interrupted, closed }

  /// Waits until the queue holds an event, or there is work for a thread of it. `timeout` in nanoseconds, negative: for
  /// ever.
  package func wait(timeout: Int64) -> WaitResult {
    let deadline = timeout < 0 ? Int64.max : monotonicNow() + timeout
    while true {
      let seen = lp_atomic_load(word)
      enum Step {
        case over(WaitResult)
        case sleep
        case poll(Int32)
      }
      let step: Step = state.withLock { state in
        if state.isClosed { return .over(.closed) }
        if state.count > 0, state.putOffUntil == nil { return .over(.ready) }
        if state.hung != nil {
          state.pollers += 1
          return .poll(state.descriptor)
        }
        state.waiters += 1
        return .sleep
      }
      let left = deadline == .max ? -1 : max(0, deadline - monotonicNow())
      let result: Int32
      switch step {
      case .over(let result): return result
      case .poll(let descriptor):
        result = Gate.sleep(readable: descriptor, left)
        state.withLock { leavePolling(&$0) }
        if result == 0 { return .ready }
      case .sleep:
        result = left == 0 ? ETIMEDOUT : Gate.sleep(on: word, while: seen, left)
        state.withLock { $0.waiters -= 1 }
      }
      if result == ECANCELED { return .closed }
      if result == EINTR { return .interrupted }
      if result == ETIMEDOUT { return state.withLock { $0.isClosed ? .closed : ($0.count > 0 ? .ready : .timedOut) } }
    }
  }

  /// The last to leave closes what `close` left to be polled: before, the number may be another's.
  private func leavePolling(_ state: inout State) {
    state.pollers -= 1
    if state.isClosed, state.pollers == 0 { closeDescriptors(&state) }
  }

  /// Takes up to `capacity` events in their order as long as `accept` takes them. Nil: the queue is closed.
  package func take(_ capacity: Int, accept: (UnsafeMutablePointer<EventRecord>) -> Bool) -> Int? {
    take(capacity, accept) { _ in }
  }

  /// `whenEmpty` is called with the lock where it took nothing.
  private func take(
    _ capacity: Int, _ accept: (UnsafeMutablePointer<EventRecord>) -> Bool, whenEmpty: (inout State) -> Void
  ) -> Int? {
    var nappers: [Inbox] = []
    let taken = state.withLock { state in
      let taken = take(&state, capacity, accept)
      if rest > 0, taken ?? 0 > 0, state.count == 0 { nappers = state.inboxes }
      if taken == 0 { whenEmpty(&state) }
      return taken
    }
    for inbox in nappers { inbox.endNap() }
    return taken
  }

  private func take(
    _ state: inout State, _ capacity: Int, _ accept: (UnsafeMutablePointer<EventRecord>) -> Bool
  ) -> Int? {
    guard !state.isClosed else { return nil }
    var taken = 0
    defer { state.took(taken) }
    while taken < capacity, state.first < state.events.count {
      let isCounted = state.events[state.first].pointee.mayBeLost
      guard accept(state.events[state.first]) else { break }
      if isCounted { state.notices -= 1 }
      state.first += 1
      taken += 1
    }
    if state.first == state.events.count {
      state.events.removeAll(keepingCapacity: state.events.capacity <= 65_536)
      state.first = 0
      if state.isSignalled {
        state.isSignalled = false
        lp_eventfd_clear(state.eventDescriptor)
      }
      return taken
    }
    if drives { makeReadable(&state) }  // what was put in quietly and is left is for others
    if state.first > 4_096, state.first * 2 > state.events.count {
      state.events.removeFirst(state.first)
      state.first = 0
    }
    return taken
  }

  /// As `take`; where there is nothing, once more after the work that there is for a thread of the queue.
  package func takeOrHelp(_ capacity: Int, accept: (UnsafeMutablePointer<EventRecord>) -> Bool) -> Int? {
    var entered: Entered?
    let taken = take(capacity, accept) { entered = enterTurn(&$0) }
    guard let entered else { return taken }
    entered.engine.takeTurn(for: self, takes: true, before: entered.alarm)
    return take(capacity, accept: accept)
  }

  /// Takes a turn of the engine, if the queue has its ear. False: somebody else has to see to it.
  func help(_ engine: any TurnHolder) -> Bool {
    guard let entered = state.withLock({ $0.hung === engine ? enterTurn(&$0) : nil }) else { return false }
    engine.takeTurn(for: self, takes: false, before: entered.alarm)
    return true
  }

  /// Cancels what still belongs to the queue and drops what was not taken. False: it was closed before.
  package func close() -> Bool {
    var dropped: [UnsafeMutablePointer<EventRecord>] = []
    var inboxes: [Inbox] = []
    let wasOpen = state.withLock { state in
      guard !state.isClosed else { return false }
      state.isClosed = true
      hasClosed.store(true, ordering: .releasing)
      dropped = Array(state.events[state.first...])
      state.events = []
      state.first = 0
      swap(&inboxes, &state.inboxes)
      if let engine = state.hung { unhang(&state, engine) }
      // Who waits on it wakes before it is gone.
      if drives { stayReadable(&state) }
      if state.eventDescriptor >= 0 { lp_eventfd_signal(state.eventDescriptor) }
      if state.pollers == 0 { closeDescriptors(&state) }
      lp_atomic_increment(word)
      return true
    }
    guard wasOpen else { return false }
    lp_futex_wake(word, .max)
    for record in dropped { EventRecord.release(record, crediting: false) }
    for inbox in inboxes { inbox.post(.queueClosed(self)) }
    return true
  }

  // MARK: The ear

  // Whoever finds the turn taken mutes the descriptor, or he would be woken for nothing until it is given back; whoever
  // gives it back unmutes it. Both under the queue's lock, so that no mute comes after the last unmute.

  /// The engine's thread is about to sleep: from now on the descriptor is readable for the engine's work, too. False:
  /// it cannot be, or is for another pool's already.
  func hang(_ engine: any TurnHolder) -> Bool {
    let waiters: Int32? = state.withLock { state in
      if state.descriptor < 0, !state.isClosed { openDescriptors(&state) }
      guard state.descriptor >= 0, state.hung == nil,
        lp_epoll_control(state.descriptor, EPOLL_CTL_ADD, engine.epoll, LP_EPOLLIN, 0) == 0
      else { return nil }
      state.hung = engine
      state.isMuted = false
      lp_atomic_increment(word)
      return Int32(state.waiters)
    }
    guard let waiters else { return false }
    if waiters > 0 { lp_futex_wake(word, .max) }  // to wait on the descriptor instead
    return true
  }

  func unhang(_ engine: any TurnHolder) {
    state.withLock { if $0.hung === engine { unhang(&$0, engine) } }
  }

  private func unhang(_ state: inout State, _ engine: any TurnHolder) {
    state.hung = nil
    _ = lp_epoll_control(state.descriptor, EPOLL_CTL_DEL, engine.epoll, 0, 0)
  }

  private struct Entered {
    /// It lives: its turn is held.
    unowned(unsafe) let engine: any TurnHolder
    let alarm: Int64
  }

  private func enterTurn(_ state: inout State) -> Entered? {
    guard let engine = state.hung else { return nil }
    if engine.turn.tryLock() {
      if let alarm = engine.alarm(heardBy: self) { return Entered(engine: engine, alarm: alarm) }
      engine.turn.unlock()
    }
    setMuted(&state, true)
    return nil
  }

  func leaveTurn(of engine: any TurnHolder) {
    state.withLock { state in
      engine.turn.unlock()
      setMuted(&state, false)
    }
  }

  func unmute() { state.withLock { setMuted(&$0, false) } }

  private func setMuted(_ state: inout State, _ isMuted: Bool) {
    guard let engine = state.hung, state.isMuted != isMuted else { return }
    state.isMuted = isMuted
    _ = lp_epoll_control(state.descriptor, EPOLL_CTL_MOD, engine.epoll, isMuted ? 0 : LP_EPOLLIN, 0)
  }

  /// Within an epoll a closed eventfd wakes nobody: this descriptor is readable, and never closed. By us: a process
  /// that closes every descriptor gets another.
  private static func signal() -> Int32 {
    signals.withLock { signal in
      if signal.descriptor < 0 || lp_file(signal.descriptor) != signal.file {
        signal.descriptor = lp_end_open()
        if signal.descriptor >= 0 { lp_end_signal(signal.descriptor) }
        signal.file = lp_file(signal.descriptor)
      }
      return signal.descriptor
    }
  }
  private static let signals = Guarded((descriptor: Int32(-1), file: UInt64(0)))

  /// The queue is being closed: whoever waits on its descriptor, an epoll, is to wake.
  private func stayReadable(_ state: inout State) {
    guard state.descriptor >= 0 else { return }
    _ = lp_epoll_control(state.descriptor, EPOLL_CTL_ADD, CompletionQueue.signal(), LP_EPOLLIN, 0)
  }
}
