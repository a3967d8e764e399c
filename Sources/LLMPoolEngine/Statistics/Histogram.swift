/// Counts of durations, in the cumulative form of Prometheus. The bounds suit calls to LLM APIs: milliseconds on
/// loopback, minutes for an answer that is thought about.
struct Histogram: Sendable {
  /// Upper bounds, in microseconds.
  static let bounds: [UInt64] = [
    1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
    30_000_000, 60_000_000, 300_000_000,
  ]
  /// One more than bounds: the last counts what is beyond all of them. Inline: copied with every snapshot.
  private(set) var counts = InlineArray<16, UInt64>(repeating: 0)
  private(set) var sum: UInt64 = 0
  private(set) var count: UInt64 = 0

  mutating func add(_ microseconds: UInt64) {
    sum += microseconds
    count += 1
    let index = Histogram.bounds.firstIndex { microseconds <= $0 } ?? Histogram.bounds.count
    counts[index] += 1
  }
}
