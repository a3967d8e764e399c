import LLMPoolCore

extension Engine {
  /// Counts a duration of an origin, once it is published. LLMPOOL_NO_RECORDING is for measuring what this costs.
  @inline(__always)
  func record(_ kind: HistogramKind, _ microseconds: UInt64, times: UInt32 = 1, of origin: Int32) {
    #if !LLMPOOL_NO_RECORDING
      let sample = Sample(kind: kind, origin: origin, times: times, microseconds: microseconds)
      if sampleCount < samples.count { samples[sampleCount] = sample } else { samples.append(sample) }
      sampleCount += 1
    #endif
  }

  /// Those that have come together have one gap before them, and none between them; before the first there is none.
  func recordEvents(_ request: RequestState, _ stream: SSEStream) {
    // One that waits for its reader outlives what the pool remembers of its origin, whose slot may be another's.
    guard stream.arrived > 0, request.ending == nil || isRemembered(request) else { return }
    if stream.lastEventAt == 0 {
      record(.firstToken, request.attempt.timings.firstData, of: request.origin)
    } else {
      record(.eventGap, UInt64(now - stream.lastEventAt) / 1_000, of: request.origin)
    }
    if stream.arrived > 1 { record(.eventGap, 0, times: stream.arrived - 1, of: request.origin) }
    stream.arrived = 0
    stream.lastEventAt = now
  }

  private func isRemembered(_ request: RequestState) -> Bool {
    origins[Int(request.origin)]?.name == request.originName
  }

  /// Nobody is told anything of this turn, who would look then: published once somebody looks, or with a later turn.
  /// Half of the turns of a lone request are such.
  func leaveUnpublished() {
    if hasNews { hasUnpublished.store(true, ordering: .relaxed) }
  }

  private var hasNews: Bool {
    core.hasTouchedOrigins || counters != lastPublishedWire || sampleCount > 0 || !forgotten.isEmpty
      || settings.core.maxConnections != lastPublishedLimit
  }

  /// What readers look at, as of the last turn.
  var upToDate: PublishedStatistics {
    if hasUnpublished.load(ordering: .relaxed) {
      turn.lock()
      publishStatistics()
      giveTurnBack()
    }
    return published
  }

  func publishStatistics() {
    guard hasNews else { return }
    hasUnpublished.store(false, ordering: .relaxed)
    let limit = settings.core.maxConnections
    let isConfigured = limit != lastPublishedLimit
    lastPublishedWire = counters
    lastPublishedLimit = limit
    published.update { state in
      if isConfigured {
        state.pool.maxConnections = limit
        for origin in state.origins.values { origin.statistics.maxConnections = limit }
      }
      for name in forgotten { state.forget(name) }
      state.pool.counters = core.counters
      state.pool.wire = counters
      var hasNewReasons = false
      core.takeTouchedOrigins { id, counts, reasons in
        if reasons != nil { hasNewReasons = true }
        guard let origin = origins[Int(id.slot)] else { return }
        if !origin.isPublished {
          origin.isPublished = true
          origin.published.statistics.maxConnections = limit
          state.add(origin.name, origin.published)
        }
        origin.published.statistics.counters = counts.pointee
        origin.published.statistics.wire = origin.counters
        if let reasons { origin.published.reasons = reasons }
      }
      if hasNewReasons { state.reasons = core.reasons }
      for index in 0..<sampleCount { origins[Int(samples[index].origin)]?.published.histograms.add(samples[index]) }
    }
    if !forgotten.isEmpty { forgotten.removeAll() }
    sampleCount = 0
    if samples.count > Engine.keptSamples { samples = [] }
  }
  /// A burst's memory is given back.
  private static let keptSamples = 4_096
}
