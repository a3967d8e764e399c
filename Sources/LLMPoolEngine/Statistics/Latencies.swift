/// The latencies of an origin.
struct Latencies: Sendable {
  /// From submission to a connection.
  var admitted = Histogram()
  /// From submission to the first byte of the answer.
  var firstByte = Histogram()
  /// From submission to the end.
  var total = Histogram()
}
