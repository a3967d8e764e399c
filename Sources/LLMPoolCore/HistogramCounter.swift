/// A histogram while it is counted: in a kilobyte, and in none before the first value. A copy costs nothing; what is
/// counted after it was made costs that kilobyte once.
public struct HistogramCounter: Sendable {
  public private(set) var count: UInt64 = 0
  public private(set) var sum: UInt64 = 0
  private var max: UInt64 = 0
  private var low: [UInt32] = []
  /// How often the 32 bits of a bucket have begun anew, by its index.
  private var high: [Int: UInt64] = [:]

  public init() {}

  public mutating func add(_ value: UInt64, times: UInt32 = 1) {
    if low.isEmpty { low = [UInt32](repeating: 0, count: Histogram.Buckets.count) }
    count &+= UInt64(times)
    sum &+= value &* UInt64(times)
    if value > max { max = value }
    add(times, toBucket: Histogram.Buckets.index(of: value))
  }

  /// Adds what the other has counted: as if all had been counted here.
  public mutating func merge(_ other: HistogramCounter) {
    guard count > 0 else {
      self = other
      return
    }
    count &+= other.count
    sum &+= other.sum
    max = Swift.max(max, other.max)
    for (index, each) in other.low.enumerated() where each > 0 { add(each, toBucket: index) }
    for (index, times) in other.high { high[index, default: 0] += times }
  }

  @inline(__always) private mutating func add(_ times: UInt32, toBucket index: Int) {
    let (total, isOver) = low[index].addingReportingOverflow(times)
    low[index] = total
    if isOver { high[index, default: 0] += 1 }
  }

  /// How many values lie in a bucket.
  public func count(inBucket index: Int) -> UInt64 {
    low.isEmpty ? 0 : UInt64(low[index]) + (high.isEmpty ? 0 : high[index, default: 0] << 32)
  }

  public var histogram: Histogram {
    guard count > 0 else { return Histogram() }
    let buckets = (0..<Histogram.Buckets.count).map { count(inBucket: $0) }
    return Histogram(count: count, sum: sum, max: max, buckets: buckets)
  }
}
