/// The durations of which there are histograms, in the order in which they are shown: in microseconds.
package enum HistogramKind: Int, CaseIterable, Sendable {
  case poolWait, budgetWait, connect, tls, firstByte, firstToken, eventGap, total

  /// Each with its name in `llmpool.h`, that of its family in the metrics, and what it is.
  private static let rows: [(name: StaticString, metric: String, help: String)] = [
    (
      "pool_wait", "pool_wait_seconds",
      "From submission, or from when its budget had room for the request, to its first connection."
    ),
    ("budget_wait", "budget_wait_seconds", "From submission until its budget had room for the request."),
    ("connect", "connect_seconds", "From the addresses of a name to a connection, through its proxy if it has one."),
    ("tls", "tls_seconds", "TLS handshakes that succeeded."),
    ("first_byte", "first_byte_seconds", "From submission to the first byte of the answer that counted."),
    ("first_token", "first_token_seconds", "From submission to the first server-sent event."),
    ("event_gap", "event_gap_seconds", "Between the server-sent events of a stream; 0 where they came together."),
    ("total", "request_duration_seconds", "From submission to the end, however it ended."),
  ]

  package var name: StaticString { HistogramKind.rows[rawValue].name }
  var metric: String { HistogramKind.rows[rawValue].metric }
  var help: String { HistogramKind.rows[rawValue].help }
}
