/// The durations of which there are histograms, in the order in which they are shown: in microseconds.
package enum HistogramKind: Int, CaseIterable, Sendable {
  case poolWait, budgetWait, connect, tls, firstByte, firstToken, eventGap, total

  private struct Row: Sendable {
    /// In `llmpool.h`.
    let name: StaticString
    /// Of the family in the metrics.
    let metric: String
    /// In the metrics, as powers of two of microseconds. The buckets of a histogram end at each of them, so that the
    /// counts are exact; they are few, as each is a series of each origin, and dense where the durations lie.
    let bounds: [UInt64]
    let help: String

    init(_ name: StaticString, _ metric: String, _ bounds: [UInt64], _ help: String) {
      self.name = name
      self.metric = metric
      self.bounds = bounds
      self.help = help
    }
  }

  private static let rows: [Row] = [
    Row(
      "pool_wait", "pool_wait_seconds", [10, 14, 17, 19, 20, 22, 24, 26],
      "From submission, or from when its budget had room for the request, to its first connection."
    ),
    Row(
      "budget_wait", "budget_wait_seconds", [14, 17, 20, 22, 24, 26, 28],
      "From submission until its budget had room for the request."),
    Row(
      "connect", "connect_seconds", [12, 14, 16, 18, 20, 22],
      "From the addresses of a name to a connection, through its proxy if it has one."),
    Row("tls", "tls_seconds", [12, 14, 16, 18, 20, 22], "TLS handshakes that succeeded."),
    Row(
      "first_byte", "first_byte_seconds", [14, 16, 18, 19, 20, 21, 22, 23, 24, 26],
      "From submission to the first byte of the answer that counted."),
    Row(
      "first_token", "first_token_seconds", [14, 16, 18, 19, 20, 21, 22, 23, 24, 26],
      "From submission to the first server-sent event."),
    Row(
      "event_gap", "event_gap_seconds", [12, 14, 15, 16, 17, 18, 20, 22, 24],
      "Between the server-sent events of a stream; 0 where they came together."),
    Row(
      "total", "request_duration_seconds", [16, 18, 20, 21, 22, 23, 24, 25, 26, 28],
      "From submission to the end, however it ended."),
  ]

  package var name: StaticString { HistogramKind.rows[rawValue].name }
  package var metric: String { HistogramKind.rows[rawValue].metric }
  package var bounds: [UInt64] { HistogramKind.rows[rawValue].bounds }
  var help: String { HistogramKind.rows[rawValue].help }
}
