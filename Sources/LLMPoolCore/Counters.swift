/// The counts of a pool or of one origin. Identities, asserted in debug builds:
/// submitted == pending + active + backingOff + succeeded + failed + cancelled
/// opened == connecting + inUse + idle + closed
public struct Counters: Sendable, Equatable {
  public var submitted = 0
  public var succeeded = 0
  public var failed = 0
  public var cancelled = 0
  public var retries = 0
  public var pending = 0
  public var awaitingBudget = 0
  public var active = 0
  public var backingOff = 0
  public var connecting = 0
  public var inUse = 0
  public var idle = 0
  public var opened = 0
  public var closed = 0
  public var reused = 0
  public var connectFailures = 0
  public var dnsLookups = 0
  public var dnsCacheHits = 0
  public var breakersOpen = 0
  public var breakerRejections = 0
  public var hedges = 0
  public var hedgesWon = 0

  public init() {}

  /// Each with its name in `llmpool.h`.
  public static let rows: [CounterRow<Counters>] = [
    .counter("submitted", \.submitted, "requests_submitted_total", "Requests accepted."),
    .counter(
      "succeeded", \.succeeded, "requests_succeeded_total", "Requests that got an answer, whatever its status."),
    .counter("failed", \.failed, "requests_failed_total", "Requests that got none."),
    .counter("cancelled", \.cancelled, "requests_cancelled_total", "Requests cancelled by the application."),
    .counter("retries", \.retries, "retries_total", "Attempts after the first."),
    .gauge("pending", \.pending, "requests_pending", "Requests waiting for a connection, or for their budget."),
    .gauge(
      "awaiting_budget", \.awaitingBudget, "requests_awaiting_budget", "Requests of those waiting for their budget."),
    .gauge("active", \.active, "requests_active", "Requests on a connection."),
    .gauge("backing_off", \.backingOff, "requests_backing_off", "Requests waiting to be tried again."),
    .gauge("connecting", \.connecting, "connections_connecting", "Connections being opened."),
    .gauge("in_use", \.inUse, "connections_in_use", "Connections with a request."),
    .gauge("idle", \.idle, "connections_idle", "Connections without one."),
    .counter("opened", \.opened, "connections_opened_total", "Connections that were begun."),
    .counter("closed", \.closed, "connections_closed_total", "Connections that ended."),
    .counter("reused", \.reused, "connections_reused_total", "Requests that an open connection carried."),
    .counter("connect_failures", \.connectFailures, "connect_failures_total", "Dials that failed."),
    .counter("dns_lookups", \.dnsLookups, "dns_lookups_total", "Names that were looked up."),
    .counter("dns_cache_hits", \.dnsCacheHits, "dns_cache_hits_total", "Dials whose name was known."),
    .gauge("breakers_open", \.breakersOpen, "breakers_open", "Origins whose breaker is open."),
    .counter(
      "breaker_rejections", \.breakerRejections, "breaker_rejections_total", "Requests that an open breaker ended."),
    .counter("hedges", \.hedges, "hedges_total", "Second attempts sent while the first was silent."),
    .counter("hedges_won", \.hedgesWon, "hedges_won_total", "Second attempts whose answer was taken."),
  ]

  /// Connections that count against the limits.
  public var connections: Int { connecting + inUse + idle }
  public var requestsAddUp: Bool { submitted == pending + active + backingOff + succeeded + failed + cancelled }
  public var connectionsAddUp: Bool { opened == connecting + inUse + idle + closed }
}
