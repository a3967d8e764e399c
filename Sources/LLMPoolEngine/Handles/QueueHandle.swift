/// What the application holds of a queue; a tombstone after it was closed.
package final class QueueHandle: @unchecked Sendable {
  private let lock = Lock()
  private var queue: CompletionQueue?
  private let generation = ProcessHooks.generation

  package init(_ queue: CompletionQueue) {
    self.queue = queue
  }

  package func open() throws(Fault) -> CompletionQueue {
    guard generation == ProcessHooks.generation else {
      throw Fault(.forked, "queue: it belongs to the parent process; open another")
    }
    lock.lock()
    defer { lock.unlock() }
    guard let queue else { throw Fault(.closed, "queue: it is closed") }
    return queue
  }

  package func close() throws(Fault) {
    guard generation == ProcessHooks.generation else { return }
    let queue = try open()
    _ = queue.close()
    lock.lock()
    self.queue = nil
    lock.unlock()
  }
}
