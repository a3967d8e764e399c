/// Queues for calls that wait for one answer, used again and again.
package enum QueueCache {
  private static let limit = 256
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

  /// Only an empty queue, to which nothing more will come. One too many is closed: engines may still know it.
  package static func give(_ queue: CompletionQueue) {
    if !keep(queue) { _ = queue.close() }
  }

  private static func keep(_ queue: CompletionQueue) -> Bool {
    lock.lock()
    defer { lock.unlock() }
    guard queues.count < limit, generation == ProcessHooks.generation else { return false }
    queues.append(queue)
    return true
  }
}
