import CSystem
import Glibc
import PoolCore

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
  }
  private let state = Guarded(State())
  /// An eventfd in the engine's epoll; the engine's to close.
  let wakeDescriptor = lp_eventfd()

  func withLock<Result>(_ body: (inout State) -> Result) -> Result { state.withLock(body) }

  func post(_ message: Message) { withLock { deliver(message, &$0) } }

  func deliver(_ message: Message, _ state: inout State) {
    guard !state.isOver else { return }
    state.messages.append(message)
    guard state.isSleeping else { return }
    state.isSleeping = false
    lp_eventfd_signal(wakeDescriptor)
  }

  /// The engine has stopped. What is left is released outside the lock.
  func end() {
    let left = withLock { state in
      state.isOver = true
      state.isSleeping = false
      let left = (state.messages, state.live)
      state.messages = []
      state.live = []
      state.freeSlots = []
      return left
    }
    _ = left
  }

  var isOver: Bool { withLock { $0.isOver } }
}
