import CLLMPoolSystem
import Glibc
import LLMPoolCore

/// How other threads reach an engine. Requests and queues hold it, not the engine: a weak reference to the engine would
/// give it a side table, through which every retain and release of the engine then goes.
final class Inbox: @unchecked Sendable {
  struct State {
    var messages: [Message] = []
    /// The sleeping thread has been woken.
    var isCalled = false
    var isClosing = false
    /// The engine has stopped: nobody will read another message.
    var isOver = false
    /// The request in each slot.
    var live: [RequestState?] = []
    var freeSlots: [Int32] = []
    var liveCount: Int { live.count - freeSlots.count }
    var streak = Streak()
    /// Of the requests among the messages, the shortest time for which a queue puts off their answers, 0 where the
    /// application may be waiting for them already. Nil: there are none.
    var patience: Int64?

    /// Counts a request that has its slot by now. `isBusy`: its application has much at hand, and waits for nothing.
    mutating func noteSubmission(of queue: CompletionQueue, isBusy: Bool, _ rest: Rest) -> Taker {
      let isLone = queue.drives && liveCount == 1 && !isBusy
      streak.note(queue.identity, isLone: isLone)
      if isLone, rest.isHeard(by: queue.identity) { return .caller }
      let putOff = isBusy ? queue.rest : 0
      patience = min(patience ?? .max, putOff)
      return putOff > 0 && rest.isNap ? .napper : .waked
    }
  }
  /// Who sends what is submitted.
  enum Taker {
    /// The thread that submits it.
    case caller
    /// The engine's, after its nap.
    case napper
    /// The engine's, which is waked for it.
    case waked
  }
  private let state = Guarded(State())
  /// Changed by the engine's thread alone, with the turn and the lock: to be read with either.
  nonisolated(unsafe) private(set) var rest = Rest.awake
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
    guard rest != .awake, !state.isCalled, generation == ProcessHooks.generation else { return }
    state.isCalled = true
    lp_eventfd_signal(wakeDescriptor)
  }
  func wake() { withLock { wake(&$0) } }
  /// The application has taken all that there was: it may be waiting next.
  func endNap() { withLock { if rest.isNap { wake(&$0) } } }

  /// The engine's thread is about to rest: as `decide` says, unless a message has come.
  func rests(_ decide: (borrowing State) -> Rest) -> Rest {
    withLock { state in
      if state.messages.isEmpty { rest = decide(state) }
      return rest
    }
  }

  /// The engine's thread has slept.
  func awoke() {
    withLock { state in
      rest = .awake
      if state.isCalled { lp_eventfd_clear(wakeDescriptor) }
      state.isCalled = false
    }
  }

  /// The engine has stopped. What is left is released outside the lock.
  func end() {
    let left = withLock { state in
      state.isOver = true
      let left = (state.messages, state.live)
      state.messages = []
      state.live = []
      state.freeSlots = []
      state.streak.end()
      return left
    }
    _ = left
  }

  var isOver: Bool { withLock { $0.isOver } }
}
