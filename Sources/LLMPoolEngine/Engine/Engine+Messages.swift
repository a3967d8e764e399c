import LLMPoolCore

// What went wrong, for people.
extension Engine {
  /// What went wrong, with what helps to find out why. Never a header's value or a body.
  func text(of failure: Failure, _ request: RequestState) -> String {
    let origin = origins[Int(request.origin)]
    let name = origin?.name ?? ""
    let waited = Engine.seconds(now - request.options.submittedAt.nanoseconds)
    switch failure {
    case .poolTimeout, .queueFull:
      return poolText(failure, name, waited, origin)
    case .connectTimeout:
      return "no connection to \(name) within its connect timeout, \(waited) after submission"
    case .resolve:
      return origin?.hostID.flatMap { hosts[Int($0.slot)]?.failure } ?? "the name of \(name) could not be resolved"
    case .connect, .proxy, .tls, .tlsVerify, .outOfMemory:
      return origin?.lastDialFailure ?? request.failureMessage ?? "cannot connect to \(name)"
    case .writeTimeout: return "\(name) took nothing of the request for its write timeout, \(waited) after submission"
    case .firstByteTimeout: return "\(name) did not begin to answer in time, \(waited) after submission"
    case .readTimeout: return "\(name) fell silent for the read timeout, \(waited) after submission"
    case .totalTimeout:
      // Without an answer: what had kept it from one.
      let before = request.answer.hasHead ? nil : origin?.lastDialFailure ?? request.failureMessage
      return "the request to \(name) took longer than its total timeout, \(waited)"
        + (before.map { "; before that: \($0)" } ?? "")
    case .cancelled: return "cancelled by the application after \(waited)"
    case .closed: return "the pool was closed before \(name) had answered"
    // Without a session's word it was the core that gave the connection up.
    case .read: return request.failureMessage ?? "\(name) did not answer an HTTP/2 PING: the connection was given up"
    case .write: return request.failureMessage ?? "\(name) closed each connection before the request could be sent"
    default: return request.failureMessage ?? "\(failure) (\(name))"
    }
  }

  private func poolText(_ failure: Failure, _ name: String, _ waited: String, _ origin: Origin?) -> String {
    let counts = core.counters
    let most = settings.core.maxConnections
    let limit = most == .max ? "no limit" : "max_connections \(most)"
    let use =
      "connections: \(counts.inUse) in use, \(counts.connecting) connecting, \(limit); "
      + "\(counts.pending + 1) requests were waiting"
    let dial = origin?.lastDialFailure.map { "; the last dial failed: \($0)" } ?? ""
    if failure == .queueFull {
      return "max_pending_requests \(settings.core.maxPendingRequests) reached for \(name): \(use)"
    }
    return "no connection to \(name) became free within \(waited): \(use)\(dial)"
  }

  private static func seconds(_ nanoseconds: Int64) -> String {
    let tenths = max(0, nanoseconds) / 100_000_000
    return "\(tenths / 10).\(tenths % 10) s"
  }
}
