/// Where a request in flight stands.
public struct RequestView: Sendable, Equatable {
  public var phase: RequestPhase
  public var attempts: UInt32
  public init(phase: RequestPhase, attempts: UInt32) {
    self.phase = phase
    self.attempts = attempts
  }
}

/// The phases of `llmpool_inflight_t`, with its values.
public enum RequestPhase: UInt32, Sendable, CaseIterable {
  /// Its budget has no room for it yet.
  case budget = 1
  /// It waits for a connection that is in use, or for a place for a new one.
  case pool
  /// It waits for a connection that is being made.
  case connecting
  /// Bytes of it are still to be sent.
  case sending
  /// All of it was sent, and nothing of the answer has come.
  case waiting
  /// The answer comes.
  case receiving
  /// It waits to be tried again.
  case backingOff
  /// The whole answer is here, and waits for the application to take events. For the core the request is over.
  case handingOver
}

extension PoolStateMachine {
  /// Nil: it is over.
  public func view(of id: RequestID) -> RequestView? {
    guard let slot = live(id) else { return nil }
    return RequestView(phase: phase(of: requests[slot]), attempts: requests[slot].attempts)
  }

  private func phase(of request: RequestRecord) -> RequestPhase {
    switch request.state {
    case .pending:
      if request.budgetStep == .waiting { return .budget }
      return request.isCovered ? .connecting : .pool
    case .active:
      if request.isDiscarding { return .backingOff }
      if request.attempt.hasAnswer || request.attempt.hasHead { return .receiving }
      return request.attempt.isSent ? .waiting : .sending
    case .backingOff, .free: return .backingOff
    }
  }
}
