import Glibc
import LLMPoolCore

/// The kinds of `llmpool_reason_t`, with its values.
package enum ReasonKind: UInt32, CaseIterable, Sendable {
  case closed = 1
  case failed = 2
  case retried = 3

  var metric: String {
    switch self {
    case .closed: "close_reasons_total"
    case .failed: "failure_reasons_total"
    case .retried: "retry_reasons_total"
    }
  }
  var help: String {
    switch self {
    case .closed: "Connections that ended, by why."
    case .failed: "Requests that got no answer, by why."
    case .retried: "Attempts after the first, by why."
    }
  }
}

/// A reason as programs see it: in `llmpool_reason_t`, the metrics and the notices.
package struct ReasonRow: @unchecked Sendable {
  package let kind: ReasonKind
  package let word: String
  /// In the metrics; else it is among the "other" of its kind. Chosen once and for all: what changes sides falls.
  package let hasSeries: Bool
  /// The word for C: it lives as long as the process.
  package let name: UnsafePointer<CChar>

  /// In the order of `Reason.all`.
  package static let all: [ReasonRow] = Reason.all.map { ReasonRow($0) }

  /// Those by which somebody tells what to do; an origin has few series.
  private static func hasSeries(_ reason: Reason) -> Bool {
    switch reason {
    case .closed(.expired), .closed(.evicted), .closed(.keepaliveLimit), .closed(.aborted), .closed(.notReusable),
      .closed(.pingTimeout), .closed(.connectTimeout), .closed(.closedByPeer), .closed(.goAway), .closed(.error),
      .closed(.protocolViolation), .closed(.dialFailed):
      true
    case .failed(.queueFull), .failed(.poolTimeout), .failed(.budgetTimeout), .failed(.connectTimeout),
      .failed(.firstByteTimeout), .failed(.readTimeout), .failed(.eventTimeout), .failed(.totalTimeout),
      .failed(.resolve), .failed(.connect), .failed(.read):
      true
    case .retried(.connect), .retried(.firstByteTimeout), .retried(.readTimeout), .retried(.eventTimeout),
      .retriedStatus(429), .retriedStatus(503), .retriedStatus(529):
      true
    default: false
    }
  }

  private init(_ reason: Reason) {
    switch reason {
    case .closed(let why): (kind, word) = (.closed, why.word)
    case .failed(let failure): (kind, word) = (.failed, Engine.word(failure))
    case .retried(let failure): (kind, word) = (.retried, Engine.word(failure))
    case .retriedStatus(0): (kind, word) = (.retried, "another status")
    case .retriedStatus(let status): (kind, word) = (.retried, "status \(status)")
    }
    hasSeries = ReasonRow.hasSeries(reason)
    name = UnsafePointer(strdup(word)!)
  }
}
