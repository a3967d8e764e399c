import LLMPoolCore

/// Of one origin; read and written under the lock of `PublishedStatistics`. The engine keeps it with the origin: so it
/// looks up no name each turn.
final class PublishedOrigin: @unchecked Sendable {
  var statistics = Statistics()
  var reasons = ReasonCounts()
  var histograms = Histograms()
  /// It has series of its own in the metrics: for as long as it is known, or its counts would change sides.
  var hasSeries = false
}

/// What was counted, as of the engine's last turn, for any thread. A reader holds the lock only while he takes his
/// copy, which shares the memory of the histograms; what he makes of it is done on his own time.
final class PublishedStatistics: Sendable {
  /// Origins beyond so many are one in the metrics, "other".
  static let originsShown = 200

  struct State {
    var pool = Statistics()
    var reasons = ReasonCounts()
    private(set) var origins: [String: PublishedOrigin] = [:]
    private var shown = 0
    /// Of origins that the pool has forgotten.
    private(set) var forgotten = Histograms()
    /// What the forgotten ones without series of their own had counted: "other" must not fall. What the others had is
    /// not added to it, as it would seem to have been counted at that moment.
    private(set) var past = OriginCopy(MetricsText.other)

    mutating func add(_ name: String, _ origin: PublishedOrigin) {
      origin.hasSeries = shown < PublishedStatistics.originsShown
      if origin.hasSeries { shown += 1 }
      origins[name] = origin
    }

    mutating func forget(_ name: String) {
      guard let origin = origins.removeValue(forKey: name) else { return }
      forgotten.merge(origin.histograms)
      if origin.hasSeries {
        shown -= 1
      } else {
        past.statistics.addCounters(of: origin.statistics)
        past.reasons.merge(origin.reasons)
        past.histograms.merge(origin.histograms)
      }
    }
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
    state.withLock { $0.origins[name]?.histograms }?.all
  }

  /// All of it at one moment.
  struct Copy {
    let pool: Statistics
    let reasons: ReasonCounts
    fileprivate let forgotten: Histograms
    fileprivate let past: OriginCopy
    let origins: [OriginCopy]

    /// Of the pool.
    var histograms: [Histogram] {
      var sum = forgotten
      for origin in origins { sum.merge(origin.histograms) }
      return sum.all
    }

    /// By name, the last one "other", where there is or was any.
    var shown: [OriginCopy] {
      let own = origins.filter(\.hasSeries).sorted { $0.name < $1.name }
      guard own.count < origins.count || past.statistics.counters.submitted > 0 else { return own }
      var other = past
      for origin in origins where !origin.hasSeries { other.add(origin) }
      return own + [other]
    }
  }

  var copy: Copy {
    state.withLock { state in
      let origins = state.origins.map { OriginCopy($0.key, $0.value) }
      return Copy(
        pool: state.pool, reasons: state.reasons, forgotten: state.forgotten, past: state.past, origins: origins)
    }
  }

  func metrics(_ format: MetricsFormat, _ budgets: ShownBudgets) -> String {
    let copy = copy
    return MetricsText(format, pool: copy.pool, origins: copy.shown, budgets: budgets).text
  }
}
