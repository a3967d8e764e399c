import LLMPoolCore

extension Engine {
  func publishStatistics() {
    guard core.hasTouchedOrigins || counters != lastPublishedWire else { return }
    lastPublishedWire = counters
    let limit = settings.core.maxConnections
    published.update { state in
      for name in forgotten { state.origins[name] = nil }
      state.pool = Statistics(core.counters, counters, maxConnections: limit)
      core.takeTouchedOrigins { id, counts in
        guard let origin = origins[Int(id.slot)] else { return }
        if !origin.isPublished {
          origin.isPublished = true
          state.origins[origin.name] = origin.published
        }
        origin.published.statistics = Statistics(counts, origin.counters, maxConnections: limit)
        origin.published.latencies = origin.latencies
      }
    }
    if !forgotten.isEmpty { forgotten.removeAll() }
  }
}
