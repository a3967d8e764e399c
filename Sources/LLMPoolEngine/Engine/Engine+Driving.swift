import CLLMPoolSystem
import Glibc
import LLMPoolCore

/// Who takes the engine's turns beside its own thread.
///
/// A call crosses two threads: the engine's is woken to send it, the caller's to take its answer. Where it is the only
/// one of the pool, the caller's thread can do both. So a queue whose last requests were each alone becomes the driver:
/// its threads take a turn when they submit, and when their descriptor, which is then readable for the engine's epoll
/// too, says that there is something to do.
///
/// The engine's thread dozes meanwhile: it is woken by the messages of others alone, but looks at everything every few
/// milliseconds and whenever something is due, so that nothing depends on what the application's threads do. It alone
/// makes and unmakes the driver. Whoever takes a turn holds `Engine.turn`.
struct Driving {
  fileprivate(set) var queue: CompletionQueue?
  /// The driver whose thread takes its events right after the turn that it takes now.
  fileprivate(set) var taker: CompletionQueue?
  fileprivate(set) var events: UnsafeMutablePointer<epoll_event>?
  /// How many lone requests there had been when the driver was last looked at.
  fileprivate var seenRequests = 0
  fileprivate var doze: Int64 = 0
}

extension Engine {
  /// A queue drives after so many requests that were alone: threads that take turns at calling would only make the
  /// engine change its mind.
  private static let loneRequests = 3
  /// How long the engine's thread lets others work before it looks itself; while a request waits for its answer and
  /// nothing happens, longer each time.
  private static let shortestDoze: Int64 = 10_000_000
  private static let longestDoze: Int64 = 40_000_000

  /// On a thread of the queue's application: takes a turn, if the queue drives and nobody else is at it. `takes`: the
  /// thread takes events from the queue next and need not be told of them. False: somebody else has to see to it.
  package func drive(_ queue: CompletionQueue, takes: Bool) -> Bool {
    guard turn.tryLock() else { return false }
    defer { turn.unlock() }
    guard driving.queue === queue, let events = driving.events else { return false }
    driving.taker = takes ? queue : nil
    takeTurn(events, look(events, milliseconds: 0), byDriver: true)
    driving.taker = nil
    // What takes longer, or is not the driver's, is for the engine's thread.
    let isDone = !isStopped && toRead.isEmpty && toFlush.isEmpty && core.counters.connecting == 0
    if !isDone { inbox.wake() }
    return true
  }

  /// Before the engine's thread sleeps: how long it may doze, nil where it is to watch everything itself.
  func reviewDriver() -> Int64? {
    let (live, queue, count) = inbox.withLock { ($0.liveCount, $0.loneQueue, $0.loneCount) }
    let isSettled = core.counters.connecting == 0
    if let driver = driving.queue {
      let isActive = count != driving.seenRequests
      if isSettled, queue === driver, live == 1 || (live == 0 && isActive) {
        driving.doze = isActive ? Engine.shortestDoze : min(2 * driving.doze, Engine.longestDoze)
        driving.seenRequests = count
        return driving.doze
      }
      endDriving()
    }
    guard isSettled, live == 1, let queue, count >= Engine.loneRequests, queue.startDriving(self) else { return nil }
    if driving.events == nil { driving.events = .allocate(capacity: Engine.eventCapacity) }
    driving.queue = queue
    driving.seenRequests = count
    driving.doze = Engine.shortestDoze
    inbox.withLock { $0.drivenBy = ObjectIdentifier(queue) }
    return driving.doze
  }

  func endDriving() {
    guard let queue = driving.queue else { return }
    driving.queue = nil
    queue.stopDriving(self)
    inbox.withLock { $0.drivenBy = nil }
  }
}
