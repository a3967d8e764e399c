import CLLMPoolSystem
import Glibc
import LLMPoolCore

/// What other threads ask of the engine.
enum Message {
  case submit(RequestState)
  case cancel(RequestID)
  case credit(RequestID, Int)
  case queueClosed(CompletionQueue)
  case configure(PoolSettings, TLSContext, ProxyRules)
  case warm(RequestState, connections: Int)
  case watch(Watcher)
  /// Pieces of its body are there to be sent.
  case written(RequestID)
  case lookedUp(LookupResult)
  /// Of the context with this identity.
  case authoritiesRead(ObjectIdentifier)
  case close(deadline: Int64)
}

/// How other threads reach an engine. Requests and queues hold it, not the engine: a weak reference to the engine would
/// give it a side table, through which every retain and release of the engine then goes.
final class Inbox: Sendable {
  struct State {
    var messages: [Message] = []
    var isSleeping = false
    var isClosing = false
    /// The engine has stopped: nobody will read another message.
    var isOver = false
    /// The request in each slot.
    var live: [RequestState?] = []
    var freeSlots: [Int32] = []
    var liveCount: Int { live.count - freeSlots.count }
    /// The queue whose last `loneCount` requests were each the only one of the pool; see Engine+Driving.
    var loneQueue: CompletionQueue?
    var loneCount = 0
    /// Its threads do the engine's work: what they submit wakes nobody.
    var drivenBy: ObjectIdentifier?

    /// Counts a request that has its slot by now. True: its thread is to do what follows.
    mutating func noteSubmission(of queue: CompletionQueue) -> Bool {
      guard queue.drives, liveCount == 1 else {
        loneQueue = nil
        loneCount = 0
        return false
      }
      if loneQueue !== queue { (loneQueue, loneCount) = (queue, 0) }
      loneCount += 1
      return drivenBy == ObjectIdentifier(queue)
    }
  }
  private let state = Guarded(State())
  /// An eventfd in the engine's epoll; the engine's to close.
  let wakeDescriptor = lp_eventfd()
  /// That of the process whose engine reads it. In a forked child nobody does, and the descriptor's number may mean
  /// something else.
  private let generation = ProcessHooks.generation
  init() { Descriptors.note(wakeDescriptor) }

  func withLock<Result>(_ body: (inout State) -> Result) -> Result { state.withLock(body) }

  func post(_ message: Message) { withLock { deliver(message, &$0) } }

  /// `quietly`: whoever delivers sees to it that it is taken.
  func deliver(_ message: Message, quietly: Bool = false, _ state: inout State) {
    guard !state.isOver, generation == ProcessHooks.generation else { return }
    state.messages.append(message)
    if !quietly { wake(&state) }
  }

  private func wake(_ state: inout State) {
    guard state.isSleeping, generation == ProcessHooks.generation else { return }
    state.isSleeping = false
    lp_eventfd_signal(wakeDescriptor)
  }
  func wake() { withLock { wake(&$0) } }

  /// The engine has stopped. What is left is released outside the lock.
  func end() {
    let left = withLock { state in
      state.isOver = true
      state.isSleeping = false
      let left = (state.messages, state.live)
      state.messages = []
      state.live = []
      state.freeSlots = []
      state.loneQueue = nil
      return left
    }
    _ = left
  }

  var isOver: Bool { withLock { $0.isOver } }
}
