import LLMPoolEngine

/// Who gets the events of one request, on the engine's thread; each is its to release.
class Receiver: @unchecked Sendable {
  let lock = Lock()
  private var engine: Engine?
  private var id: UInt64 = 0
  private var isCancelled = false
  /// What follows the request.
  final var trace: (any RequestTrace)?
  /// Of an answer that is read as it comes: its end has no head.
  private var head: AttemptReport?

  func receive(_ record: UnsafeMutablePointer<EventRecord>) { EventRecord.release(record) }

  /// Before it receives the record.
  final func follow(_ record: EventRecord) {
    guard let trace else { return }
    var report = AttemptReport(record)
    switch record.kind {
    case .head:
      head = report
      trace.opened(report)
    case .done:
      report.status = report.status ?? head?.status
      report.providerRequestID = report.providerRequestID ?? head?.providerRequestID
      if report.peer.isEmpty, let head { report.peer = head.peer }
      if record.status != 0 { report.error = PoolError.thrown(for: record) }
      trace.ended(report)
    case .data, .sse, .notice, .writable: break
    }
  }

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
