import LLMPoolCore

/// Of one origin; read and written under the lock of `PublishedStatistics`. The engine keeps it with the origin: so it
/// looks up no name each turn.
final class PublishedOrigin: @unchecked Sendable {
  var statistics = Statistics()
  var reasons = ReasonCounts()
  var histograms = Histograms()
}

/// What is shown of one.
struct OriginCopy {
  let name: String
  let statistics: Statistics
  let reasons: ReasonCounts
  let histograms: Histograms

  init(_ name: String, _ origin: PublishedOrigin) {
    self.name = name
    statistics = origin.statistics
    reasons = origin.reasons
    histograms = origin.histograms
  }
}

/// What was counted, as of the engine's last turn, for any thread. A reader holds the lock only while he takes his
/// copy, which shares the memory of the histograms; what he makes of it is done on his own time.
final class PublishedStatistics: Sendable {
  struct State {
    var pool = Statistics()
    var reasons = ReasonCounts()
    var origins: [String: PublishedOrigin] = [:]
    /// Of origins that the pool has forgotten.
    var forgotten = Histograms.none

    mutating func forget(_ name: String) { origins.removeValue(forKey: name)?.histograms.add(to: &forgotten) }
  }
  private let state = Guarded(State())

  func update(_ body: (inout State) -> Void) { state.withLock(body) }

  var pool: Statistics { state.withLock { $0.pool } }
  func origin(_ name: String) -> Statistics? { state.withLock { $0.origins[name]?.statistics } }
  var originNames: [String] { state.withLock { $0.origins.keys.sorted() } }

  var reasons: ReasonCounts { state.withLock { $0.reasons } }
  func reasons(ofOrigin name: String) -> ReasonCounts? { state.withLock { $0.origins[name]?.reasons } }

  /// Of the pool: each is counted once, with its origin, and summed up here.
  var histograms: [Histogram] { copy.histograms }
  func histograms(ofOrigin name: String) -> [Histogram]? {
    guard let found = state.withLock({ $0.origins[name]?.histograms }) else { return nil }
    return HistogramKind.allCases.map { found[$0].histogram }
  }

  /// All of it at one moment.
  struct Copy {
    let pool: Statistics
    let reasons: ReasonCounts
    let forgotten: [Histogram]
    let origins: [OriginCopy]

    /// Of the pool.
    var histograms: [Histogram] {
      var sum = forgotten
      for origin in origins { origin.histograms.add(to: &sum) }
      return sum
    }
  }

  var copy: Copy {
    state.withLock { state in
      let origins = state.origins.map { OriginCopy($0.key, $0.value) }
      return Copy(pool: state.pool, reasons: state.reasons, forgotten: state.forgotten, origins: origins)
    }
  }

  func metrics(_ budgets: [(name: String, view: BudgetView)]) -> String {
    let copy = copy
    return MetricsText(pool: copy.pool, origins: copy.origins.sorted { $0.name < $1.name }, budgets: budgets).text
  }
}
