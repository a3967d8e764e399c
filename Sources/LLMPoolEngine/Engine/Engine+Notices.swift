import LLMPoolCore
import LLMPoolWire

/// A queue that wants to hear of a pool's doings.
struct Watcher {
  let queue: CompletionQueue
  let mask: NoticeMask
  let userData: UInt64
}

// What happens in the pool, told to those who watch it.
extension Engine {
  func watch(_ watcher: Watcher) {
    watchers.removeAll { $0.queue === watcher.queue || $0.queue.isClosed }
    if !watcher.mask.isEmpty, !watcher.queue.isClosed { watchers.append(watcher) }
    tellWatched()
    // Said before somebody listened, it would be said to no one.
    guard watcher.mask.contains(.leaseWanted) else { return }
    for id in wantedLeases.sorted(by: { $0.slot < $1.slot }) { noteLease(id) }
  }

  func unwatch(_ queue: CompletionQueue) {
    guard watchers.contains(where: { $0.queue === queue }) else { return }
    watchers.removeAll { $0.queue === queue }
    tellWatched()
  }

  private func tellWatched() { tell(.watching(watchers.reduce(into: []) { $0.formUnion($1.mask) })) }

  func note(_ notice: Notice) {
    let isOfDial = if case .retry(_, _, _, _, _, attempt: 0) = notice { true } else { false }
    announce(describe(notice), from: request(of: notice), isOfAttempt: !isOfDial)
  }

  /// That it tells of, as it is at this moment: the attempt that failed is still at hand.
  private func request(of notice: Notice) -> RequestState? {
    switch notice {
    case .retry(let id, _, _, _, _, _), .hedge(let id, _, _), .budgetStopped(_, let id, _, _, _):
      live(id)
    default: nil
    }
  }

  /// What the core does not see, as it sees no answers: an event timeout does not run for a stream of this origin. Told
  /// once for each origin and reason, to whoever watches by then.
  func noteUnwatchedStream(_ origin: Origin, isEncoded: Bool) {
    let isTold = isEncoded ? origin.isEncodedTold : origin.isEventlessTold
    guard !isTold, watchers.contains(where: { $0.mask.contains(.unwatchedStream) }) else { return }
    if isEncoded { origin.isEncodedTold = true } else { origin.isEventlessTold = true }
    let fields = Engine.lines([("origin", origin.name), ("reason", isEncoded ? "encoded" : "no-event-stream")])
    let why = isEncoded ? "its body is encoded; send accept-encoding: identity" : "it is no text/event-stream"
    announce(
      (.unwatchedStream, fields, "the event timeout does not run for a stream from \(origin.name): \(why)", nil))
  }

  private func announce(
    _ notice: (NoticeMask, String, String, ConnectionID?), from request: RequestState? = nil,
    isOfAttempt: Bool = false, data: String = ""
  ) {
    let (kind, fields, message, connection) = notice
    for watcher in watchers where watcher.mask.contains(kind) {
      stageNotice(watcher, kind, fields, message, connection, request, isOfAttempt: isOfAttempt, data: data)
    }
  }

  /// With the true name, by which the connector asks.
  func noteLease(_ id: BudgetID) {
    guard let entry = budgetNames[id] else { return }
    announce(
      (
        .leaseWanted, Engine.lines([("budget", entry.label)]),
        "budget \(entry.label): the store is to be asked for a lease", nil
      ), data: entry.name)
  }

  /// By which the provider knows the answer; "": it has said none, or none that fits in a line.
  private func providerID(_ id: RequestID) -> String {
    live(id).flatMap { ProviderRequestID.text(in: $0.answer.headers) } ?? ""
  }

  /// The field, and what is said of it.
  private static func told(_ providerID: String) -> (fields: [(String, String)], text: String) {
    providerID.isEmpty ? ([], "") : ([("request-id", providerID)], " (request id \(providerID))")
  }

  /// The notice as header lines, for programs, and as a sentence, for people.
  private func describe(_ notice: Notice) -> (NoticeMask, String, String, ConnectionID?) {
    switch notice {
    case .utilizationHigh(let used, let limit, let waiting, let longestWait):
      let percent = used * 100 / max(1, limit)
      let tenths = longestWait / 100_000_000
      return (
        .utilizationHigh,
        Engine.lines([
          ("used", "\(used)"), ("limit", "\(limit)"), ("waiting", "\(waiting)"),
          ("longest-wait-ms", "\(longestWait / 1_000_000)"),
        ]),
        "utilization \(used)/\(limit) (\(percent) %), \(waiting) waiting, longest \(tenths / 10).\(tenths % 10) s: "
          + "raise max_connections or lower the load", nil
      )
    case .utilizationNormal(let used, let limit):
      return (
        .utilizationNormal, Engine.lines([("used", "\(used)"), ("limit", "\(limit)")]),
        "utilization back to \(used)/\(limit)", nil
      )
    case .connectionOpened(let id, let origin):
      let name = name(of: origin)
      let peer = self.connection(id)?.peer ?? ""
      let version = self.connection(id)?.version == .http2 ? "HTTP/2" : "HTTP/1.1"
      return (
        .connectionOpened, Engine.lines([("origin", name), ("peer", peer), ("version", version)]),
        "connection to \(name) opened (\(peer), \(version))", id
      )
    case .connectionClosed(let id, let origin, let reason):
      let name = name(of: origin)
      return (
        .connectionClosed, Engine.lines([("origin", name), ("reason", reason.word)]),
        "connection to \(name) closed: \(reason.word)", id
      )
    case .budgetStopped(let id, let request, let delay, let status, let waiting):
      return describeStop(id, request, delay, status, waiting)
    case .budgetResumed(let id):
      return (.budgetResumed, Engine.lines([("budget", label(of: id))]), "budget \(label(of: id)) goes on", nil)
    case .breakerOpened(let origin, let cause, let status, let failures):
      return describeBreaker(origin, cause, status, failures)
    case .breakerClosed(let origin, let time, let isBack):
      let name = name(of: origin)
      return (
        .breakerClosed, Engine.lines([("origin", name), ("open-ms", "\(time / 1_000_000)")]),
        (isBack ? "\(name) is back: its breaker is closed" : "the breaker of \(name) begins anew")
          + " after \(Engine.text(time))", nil
      )
    case .hedge(let id, let origin, let silence):
      let name = name(of: origin)
      return (
        .hedge,
        Engine.lines([
          ("origin", name), ("after-ms", "\(silence / 1_000_000)"), ("request", "\(id.value)"),
        ]),
        "request to \(name) is sent a second time: nothing came of it for \(Engine.text(silence))", nil
      )
    case .retry(let id, let origin, let failure, let status, let delay, let attempt):
      let name = name(of: origin)
      let reason = failure.map(Engine.word) ?? "status \(status)"
      let told = Engine.told(status == 0 ? "" : providerID(id))
      return (
        .retry,
        Engine.lines(
          [
            ("origin", name), ("reason", reason), ("delay-ms", "\(delay / 1_000_000)"), ("request", "\(id.value)"),
            ("attempt", "\(attempt)"),
          ] + told.fields),
        "request to \(name) is tried again in \(delay / 1_000_000) ms: \(reason)\(told.text)", nil
      )
    }
  }

  private func describeStop(
    _ id: BudgetID, _ request: RequestID, _ delay: Nanoseconds, _ status: Int, _ waiting: Int
  ) -> (NoticeMask, String, String, ConnectionID?) {
    let told = Engine.told(providerID(request))
    let name = label(of: id)
    let milliseconds = delay / 1_000_000
    let answer = status == 0 ? "an answer to another member" : "an answer of \(status)"
    return (
      .budgetStopped,
      Engine.lines(
        [
          ("budget", name), ("status", "\(status)"), ("delay-ms", "\(milliseconds)"), ("waiting", "\(waiting)"),
          ("request", "\(request.value)"),
        ] + told.fields),
      "budget \(name) stops for \(Engine.text(delay)): \(answer) asked for it\(told.text); "
        + "\(waiting) requests wait", nil
    )
  }

  private func describeBreaker(_ origin: OriginID, _ cause: Failure, _ status: Int, _ failures: Int)
    -> (NoticeMask, String, String, ConnectionID?)
  {
    let name = name(of: origin)
    let reason = status == 0 ? Engine.word(cause) : "status \(status)"
    return (
      .breakerOpened,
      Engine.lines([("origin", name), ("reason", reason), ("failures", "\(failures)")]),
      "\(name) is down: its breaker is open after \(Engine.times(failures)), the last: \(reason); "
        + "calls fail at once until it is back", nil
    )
  }

  private func name(of origin: OriginID) -> String { origins[Int(origin.slot)]?.name ?? "" }

  private static func lines(_ fields: [(String, String)]) -> String {
    fields.map { "\($0): \($1)\r\n" }.joined()
  }

  /// As the field writes it: the name of the status, as "read-timeout".
  static func word(_ failure: Failure) -> String {
    let name = String(cString: Status.name(failure.rawValue)).dropFirst("LLMPOOL_E_".count)
    return name.map { $0 == "_" ? "-" : $0.lowercased() }.joined()
  }
}

extension CloseReason {
  /// In notices, and so part of what programs know: not the name of the case.
  var word: String {
    switch self {
    case .expired: "expired"
    case .evicted: "evicted"
    case .keepaliveLimit: "keepalive-limit"
    case .aged: "aged"
    case .retired: "retired"
    case .aborted: "aborted"
    case .notReusable: "not-reusable"
    case .reconfigured: "reconfigured"
    case .pingTimeout: "ping-timeout"
    case .poolClosed: "pool-closed"
    case .connectTimeout: "connect-timeout"
    case .addressGone: "address-gone"
    case .closedByPeer: "closed-by-peer"
    case .goAway: "go-away"
    case .error: "error"
    case .protocolViolation: "protocol-violation"
    case .strayBytes: "stray-bytes"
    case .dialFailed: "dial-failed"
    }
  }
}
