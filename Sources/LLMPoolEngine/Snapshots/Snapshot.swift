import LLMPoolCore

/// A pool at one moment, in JSON, as docs/monitoring.md describes it: counts and names, and nothing of a request's
/// head, body or query.
struct Snapshot {
  /// Requests beyond so many, the oldest, are only counted.
  private static let requestsShown = 200

  private let name: String
  private let settings: PoolSettings
  private let counts: PublishedStatistics.Copy
  private let budgets: [LabelledBudget]
  private let requests: [InFlight]

  init(_ name: String, _ settings: PoolSettings, _ engine: Engine) {
    self.name = name
    self.settings = settings
    counts = engine.upToDate.copy
    budgets = engine.budgets
    requests = engine.inFlight
  }

  func write(_ json: inout JSONText) {
    json.object { json in
      json.field("name", name)
      json.object("options") { json in
        for option in PoolSettings.numbers { json.field(option.name, option.read(settings)) }
      }
      Snapshot.write(counts.pool, counts.histograms, counts.reasons, &json)
      json.array("origins") { json in
        for origin in counts.origins { Snapshot.write(origin, &json) }
      }
      json.array("budgets") { json in
        for budget in budgets { Snapshot.write(budget.label, budget.view, &json) }
      }
      json.array("requests") { json in
        for request in requests.prefix(Snapshot.requestsShown) { Snapshot.write(request, &json) }
      }
      json.field("requests_left_out", max(0, requests.count - Snapshot.requestsShown))
    }
  }

  private static func write(_ origin: OriginCopy, _ json: inout JSONText) {
    json.object { json in
      json.field("origin", origin.name)
      write(origin.statistics, origin.histograms.all, origin.reasons, &json)
    }
  }

  /// Of the pool and of an origin alike.
  private static func write(
    _ statistics: Statistics, _ histograms: [Histogram], _ reasons: ReasonCounts, _ json: inout JSONText
  ) {
    json.object("stats") { json in
      for row in Statistics.rows { json.field(row.name, row.read(statistics)) }
      json.field("utilization", statistics.utilization)
    }
    write(histograms, &json)
    write(reasons, &json)
  }

  /// Those in which something was counted, and of them the buckets in which something was.
  private static func write(_ histograms: [Histogram], _ json: inout JSONText) {
    json.object("histograms") { json in
      for (kind, histogram) in zip(HistogramKind.allCases, histograms) where histogram.count > 0 {
        json.object("\(kind.name)") { json in
          json.field("count", histogram.count)
          json.field("sum_us", histogram.sum)
          json.field("max_us", histogram.max)
          json.array("buckets") { json in
            for (index, count) in histogram.buckets.enumerated() where count > 0 {
              json.array { json in
                json.number(index)
                json.number(count)
              }
            }
          }
        }
      }
    }
  }

  private static func write(_ reasons: ReasonCounts, _ json: inout JSONText) {
    json.object("reasons") { json in
      for kind in ReasonKind.allCases {
        json.object("\(kind)") { json in
          for (index, row) in ReasonRow.all.enumerated() where row.kind == kind && reasons[index] > 0 {
            json.field(row.word, reasons[index])
          }
        }
      }
    }
  }

  private static func write(_ name: String, _ budget: BudgetView, _ json: inout JSONText) {
    json.object { json in
      json.field("name", name)
      json.field("in_flight", budget.inFlight)
      json.field("waiting", budget.waiting)
      json.field("stopped_us", budget.stoppedFor / 1_000)
      json.field("refusals", budget.refusals)
      if let share = budget.share { write(share, &json) }
      json.array("limits") { json in
        for limit in budget.limits { write(limit, of: budget, &json) }
      }
    }
  }

  private static func write(_ share: ShareView, _ json: inout JSONText) {
    json.object("share") { json in
      json.field("leased", share.isLeased ? 1 : 0)
      json.field("members", share.members)
      json.field("lease_us", share.validFor / 1_000)
      json.field("lapses", share.lapses)
    }
  }

  private static func write(_ limit: BudgetView.Limit, of budget: BudgetView, _ json: inout JSONText) {
    json.object { json in
      json.field("unit", limit.unit.word)
      json.field("limit", limit.limit)
      json.field("remaining", limit.remaining)
      json.field("window_us", limit.window / 1_000)
      json.field("source", limit.source)
      guard budget.share != nil else { return }
      json.field("part", Double(budget.part(of: limit)) / 1_000)
      json.field("spent", limit.spent)
    }
  }

  private static func write(_ request: InFlight, _ json: inout JSONText) {
    json.object { json in
      json.field("id", request.id)
      json.field("origin", request.origin)
      json.field("phase", request.phase.word)
      json.field("age_us", request.age / 1_000)
      json.field("attempts", request.attempts)
      json.field("sent", request.bytesSent)
      json.field("received", request.bytesReceived)
    }
  }
}

extension RequestPhase {
  fileprivate var word: String {
    switch self {
    case .budget, .pool, .connecting, .sending, .waiting, .receiving: "\(self)"
    case .backingOff: "backing-off"
    case .handingOver: "handing-over"
    }
  }
}
