import LLMPoolCore
import LLMPoolEngine
import Synchronization

/// Who follows which request of a pool.
final class Traces: Sendable {
  private struct State {
    var tracer: (any RequestTracer)?
    /// Whose notices come; another one after a fork.
    var watched: ObjectIdentifier?
    var traces: [UInt64: any RequestTrace] = [:]
  }
  private let state = Guarded(State())
  /// There is a tracer: what every request looks at.
  private let isOn = Atomic<Bool>(false)

  func set(_ tracer: (any RequestTracer)?) {
    state.withLock { state in
      state.tracer = tracer
      state.watched = nil
    }
    isOn.store(tracer != nil, ordering: .releasing)
  }

  /// Nil: nobody follows the request.
  func begin(_ request: inout Request) -> (any RequestTrace)? {
    guard isOn.load(ordering: .acquiring) else { return nil }
    return state.withLock { $0.tracer }?.begin(&request)
  }

  /// Retries are told in the same queue as the ends of requests, hence before them.
  func watch(_ engine: Engine, _ queue: CompletionQueue) {
    let isNew = state.withLock { state in
      defer { state.watched = ObjectIdentifier(engine) }
      return state.watched != ObjectIdentifier(engine)
    }
    if isNew { try? engine.watch(queue, NoticeMask.retry.rawValue, userData: 0) }
  }

  func add(_ trace: any RequestTrace, _ id: UInt64) { state.withLock { $0.traces[id] = trace } }
  func remove(_ id: UInt64) { state.withLock { _ = $0.traces.removeValue(forKey: id) } }

  func note(_ notice: EventRecord) {
    guard let trace = state.withLock({ $0.traces[notice.requestID] }) else { return }
    var report = AttemptReport(notice)
    var fields: [String: String] = [:]
    for (name, value) in Headers(notice.headers) { fields[name] = value }
    report.number = fields["attempt"].flatMap { Int($0) } ?? 0
    report.reason = fields["reason"]
    report.status = fields["reason"].flatMap { $0.hasPrefix("status ") ? Int($0.dropFirst(7)) : nil }
    report.providerRequestID = fields["request-id"]
    trace.retried(report)
  }
}
