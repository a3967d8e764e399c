import LLMPoolCore

// What went wrong, for people.
extension Engine {
  /// What went wrong, with what helps to find out why. Never a header's value or a body.
  func text(of failure: Failure, _ request: RequestState) -> String {
    let origin = origins[Int(request.origin)]
    let name = origin?.name ?? ""
    let waited = Engine.text(now - request.options.submittedAt.nanoseconds)
    let timeouts = request.options.resolved(with: settings.core).timeouts
    switch failure {
    case .poolTimeout, .queueFull:
      return poolText(failure, name, waited, origin)
    case .budget: return costText(request)
    case .budgetTimeout: return budgetText(request, waited)
    case .connectTimeout:
      let limit = Engine.text(timeouts.connect)
      return "no connection to \(name) within \(limit), its connect timeout; \(waited) after submission"
    case .resolve:
      return origin?.hostID.flatMap { hosts[Int($0.slot)]?.failure } ?? "the name of \(name) could not be resolved"
    case .connect, .proxy, .tls, .tlsVerify, .outOfMemory:
      return origin?.lastDialFailure ?? request.attempt.failureMessage ?? "cannot connect to \(name)"
    case .writeTimeout:
      let limit = Engine.text(timeouts.write)
      return "\(name) took nothing of the request for \(limit), its write timeout; \(waited) after submission"
    case .firstByteTimeout:
      let limit = Engine.text(timeouts.firstByte)
      return "\(name) did not begin to answer within \(limit), its first byte timeout; \(waited) after submission"
    case .readTimeout:
      let limit = Engine.text(timeouts.read)
      return "\(name) sent nothing for \(limit), its read timeout; \(waited) after submission"
    case .eventTimeout: return eventText(request, name, Engine.text(timeouts.event), waited)
    case .totalTimeout:
      let limit = Engine.text(timeouts.total)
      // Without an answer: what had kept it from one.
      let before = request.answer.hasHead ? nil : origin?.lastDialFailure ?? request.attempt.failureMessage
      return "the request to \(name) took longer than \(limit), its total timeout"
        + (before.map { "; before that: \($0)" } ?? "")
    case .cancelled: return "cancelled by the application after \(waited)"
    case .closed: return "the pool was closed before \(name) had answered"
    // Without a session's word it was the core that gave the connection up.
    case .read:
      return request.attempt.failureMessage ?? "\(name) did not answer an HTTP/2 PING: the connection was given up"
    case .write:
      return request.attempt.failureMessage ?? "\(name) closed each connection before the request could be sent"
    default: return request.attempt.failureMessage ?? "\(failure) (\(name))"
    }
  }

  private func eventText(_ request: RequestState, _ name: String, _ limit: String, _ waited: String) -> String {
    // The clock runs only where there is a watch.
    guard let watch = request.answer.watch else { return "no event came from \(name) for \(limit)" }
    guard watch.lastByte > watch.lastEvent else {
      let last = watch.lastEvent > 0 ? "its last event" : "the head of its answer"
      let since = Engine.text(now - max(watch.lastEvent, watch.headAt))
      return "the stream from \(name) fell silent: no byte came for \(limit), its event timeout: "
        + "\(last) came \(since) ago; \(waited) after submission"
    }
    let lastEvent = watch.lastEvent > 0 ? "the last one \(Engine.text(now - watch.lastEvent)) ago" : "none has come yet"
    return "the stream from \(name) is alive, but no event that says something came for \(limit), its event timeout: "
      + "the last byte came \(Engine.text(now - watch.lastByte)) ago, \(lastEvent); \(waited) after submission"
  }

  private func poolText(_ failure: Failure, _ name: String, _ waited: String, _ origin: Origin?) -> String {
    let counts = core.counters
    let most = settings.core.maxConnections
    let limit = most == .max ? "no limit" : "max_connections \(most)"
    let use =
      "connections: \(counts.inUse) in use, \(counts.connecting) connecting, \(limit); "
      + "\(counts.pending - counts.awaitingBudget + 1) requests were waiting"
    let dial = origin?.lastDialFailure.map { "; the last dial failed: \($0)" } ?? ""
    if failure == .queueFull {
      return "max_pending_requests \(settings.core.maxPendingRequests) reached for \(name): \(use)"
    }
    return "no connection to \(name) became free within \(waited): \(use)\(dial)"
  }

  /// Why a request was not sent, or not again: the breaker of its origin is open.
  func breakerText(_ request: RequestState, _ attempts: UInt32) -> String {
    let origin = origins[Int(request.origin)]
    let name = origin?.name ?? ""
    let start = attempts == 0 ? "not sent" : "not sent again"
    guard let breaker = core.breaker(of: OriginID(slot: request.origin)) else {
      return "\(start): the breaker of \(name) was open"
    }
    return "\(start): \(name) is down; its breaker opened \(Engine.text(now - breaker.openedAt.nanoseconds)) ago after "
      + "\(Engine.times(breaker.failures)), the last \(Engine.text(now - breaker.failedAt.nanoseconds)) ago: "
      + cause(of: breaker, origin)
  }

  private func cause(of breaker: BreakerView, _ origin: Origin?) -> String {
    guard breaker.status == 0 else { return "an answer of \(breaker.status)" }
    var detail: String?
    switch breaker.cause {
    case .connect, .proxy, .tls, .tlsVerify: detail = origin?.lastDialFailure
    case .resolve: detail = origin?.hostID.flatMap { hosts[Int($0.slot)]?.failure }
    default: break
    }
    return Engine.word(breaker.cause) + (detail.map { ": \($0)" } ?? "")
  }

  static func times(_ failures: Int) -> String { failures == 1 ? "a failure" : "\(failures) failures in a row" }

  /// "50 ms", "2.5 s".
  static func text(_ nanoseconds: Int64) -> String {
    let milliseconds = max(0, nanoseconds) / 1_000_000
    if milliseconds < 1_000 { return "\(milliseconds) ms" }
    return "\(milliseconds / 1_000).\(milliseconds % 1_000 / 100) s"
  }
}
