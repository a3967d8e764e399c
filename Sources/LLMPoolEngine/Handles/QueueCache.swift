/// Queues for calls that wait for one answer, used again and again.
package enum QueueCache {
  private static let lock = Lock()
  private nonisolated(unsafe) static var queues: [CompletionQueue] = []
  private nonisolated(unsafe) static var generation = ProcessHooks.generation

  package static func take() -> CompletionQueue {
    lock.lock()
    defer { lock.unlock() }
    if generation != ProcessHooks.generation {
      generation = ProcessHooks.generation
      queues.removeAll()
    }
    return queues.popLast() ?? CompletionQueue(drives: true)
  }

  /// Only an empty queue, to which nothing more will come.
  package static func give(_ queue: CompletionQueue) {
    lock.lock()
    defer { lock.unlock() }
    if queues.count < 256 { queues.append(queue) }
  }
}
