import LLMPoolEngine
import Synchronization

/// Who gets the events of one request, on the engine's thread; each is its to release.
class Receiver: @unchecked Sendable {
  /// Written before the id.
  private var engine: Engine?
  /// 0: it is not submitted yet.
  private let id = Atomic<UInt64>(0)
  private let isCancelled = Atomic<Bool>(false)
  /// What follows the request.
  final var trace: (any RequestTrace)?
  /// What sends its body in pieces.
  final var writer: BodyWriter?
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
    self.engine = engine
    self.id.store(id, ordering: .sequentiallyConsistent)
    writer?.submitted(engine, id)
  }

  /// Cancelled while it was being submitted.
  final func cancelIfWanted() {
    if isCancelled.load(ordering: .sequentiallyConsistent) { cancel() }
  }

  final func cancel() {
    // Either the id is there, or whoever submits sees this once it is.
    isCancelled.store(true, ordering: .sequentiallyConsistent)
    let id = id.load(ordering: .sequentiallyConsistent)
    if id != 0 { _ = engine?.cancel(id) }
  }
}
