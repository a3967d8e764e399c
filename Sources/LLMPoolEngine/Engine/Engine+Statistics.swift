import LLMPoolCore

extension Engine {
  func publishStatistics() {
    let limit = settings.core.maxConnections
    let isConfigured = limit != lastPublishedLimit
    let isChanged = core.hasTouchedOrigins || counters != lastPublishedWire || !forgotten.isEmpty
    guard isChanged || isConfigured else { return }
    lastPublishedWire = counters
    lastPublishedLimit = limit
    published.update { state in
      if isConfigured {
        for origin in state.origins.values { origin.statistics.measure(maxConnections: limit) }
      }
      for name in forgotten { state.origins[name] = nil }
      state.pool.take(core.counters, counters, maxConnections: limit)
      core.takeTouchedOrigins { id, counts in
        guard let origin = origins[Int(id.slot)] else { return }
        if !origin.isPublished {
          origin.isPublished = true
          state.origins[origin.name] = origin.published
        }
        origin.published.statistics.take(counts, origin.counters, maxConnections: limit)
        guard origin.hasNewLatencies else { return }
        origin.hasNewLatencies = false
        origin.published.latencies = origin.latencies
      }
    }
    if !forgotten.isEmpty { forgotten.removeAll() }
  }
}
