import LLMPoolCore

/// A request that is not over, as it stood at one moment: `llmpool_inflight_t`.
package struct InFlight: Sendable {
  package var id: UInt64
  package var userData: UInt64
  package var origin: String
  package var phase: RequestPhase
  package var attempts: UInt32
  /// Since its submission.
  package var age: Nanoseconds
  /// Of the bodies, of the attempt that runs or ran last.
  package var bytesSent: Int
  package var bytesReceived: Int
}

extension Engine {
  /// Those that the engine has taken, the oldest first, as of its last turn. No turn is taken meanwhile.
  package var inFlight: [InFlight] {
    turn.lock()
    let now = monotonicNow()
    let all = liveRequests.compactMap { look(at: $0, now) }
    giveTurnBack()
    return all.sorted { ($1.age, $0.id) < ($0.age, $1.id) }
  }

  private func look(at request: RequestState, _ now: Int64) -> InFlight? {
    let over = request.ending.map { RequestView(phase: .handingOver, attempts: $0.attempts) }
    guard let view = over ?? core.view(of: request.id) else { return nil }
    return InFlight(
      // One that waits for its reader outlives what the pool remembers of its origin.
      id: request.id.value, userData: request.userData,
      origin: over == nil ? origins[Int(request.origin)]?.name ?? "" : request.originName,
      phase: view.phase, attempts: view.attempts, age: max(0, now - request.options.submittedAt.nanoseconds),
      bytesSent: request.attempt.bodySent, bytesReceived: request.attempt.bodyReceived)
  }
}
