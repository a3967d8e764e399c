import LLMPoolEngine

/// Who gets the events of one request, on the engine's thread; each is its to release.
class Receiver: @unchecked Sendable {
  let lock = Lock()
  private var engine: Engine?
  private var id: UInt64 = 0
  private var isCancelled = false

  func receive(_ record: UnsafeMutablePointer<EventRecord>) { EventRecord.release(record) }

  final func submitted(_ engine: Engine, _ id: UInt64) {
    lock.lock()
    self.engine = engine
    self.id = id
    lock.unlock()
  }

  /// Cancelled while it was being submitted.
  final func cancelIfWanted() {
    lock.lock()
    let wanted = isCancelled
    lock.unlock()
    if wanted { cancel() }
  }

  final func cancel() {
    lock.lock()
    isCancelled = true
    let engine = engine
    let id = id
    lock.unlock()
    _ = engine?.cancel(id)
  }
}
