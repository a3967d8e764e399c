import LLMPoolCore

extension Engine {
  /// Counts a duration of an origin, once it is published. LLMPOOL_NO_RECORDING is for measuring what this costs.
  @inline(__always)
  func record(_ kind: HistogramKind, _ microseconds: UInt64, times: UInt32 = 1, of origin: Int32) {
    #if !LLMPOOL_NO_RECORDING
      samples.append(Sample(kind: kind, origin: origin, times: times, microseconds: microseconds))
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

  func publishStatistics() {
    let limit = settings.core.maxConnections
    let isConfigured = limit != lastPublishedLimit
    let isCounted = core.hasTouchedOrigins || counters != lastPublishedWire || !samples.isEmpty
    guard isCounted || isConfigured || !forgotten.isEmpty else { return }
    lastPublishedWire = counters
    lastPublishedLimit = limit
    published.update { state in
      if isConfigured {
        for origin in state.origins.values { origin.statistics.measure(maxConnections: limit) }
      }
      for name in forgotten { state.forget(name) }
      state.pool.take(core.counters, counters, maxConnections: limit)
      state.reasons = core.reasons
      core.takeTouchedOrigins { id, counts, reasons in
        guard let origin = origins[Int(id.slot)] else { return }
        if !origin.isPublished {
          origin.isPublished = true
          state.add(origin.name, origin.published)
        }
        origin.published.statistics.take(counts, origin.counters, maxConnections: limit)
        if let reasons { origin.published.reasons = reasons }
      }
      for sample in samples { origins[Int(sample.origin)]?.published.histograms.add(sample) }
    }
    if !forgotten.isEmpty { forgotten.removeAll() }
    samples.removeAll(keepingCapacity: samples.capacity <= Engine.keptSamples)
  }
  /// A burst's memory is given back.
  private static let keptSamples = 4_096
}
