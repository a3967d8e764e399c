/// How many values there were of each size: counts in buckets that are at most an eighth of their values wide, whatever
/// the values are, so that a percentile is off by 12.5 % at most, and histograms can be added up. The memory is fixed.
public struct Histogram: Sendable, Equatable {
  public private(set) var count: UInt64 = 0
  public private(set) var sum: UInt64 = 0
  /// The largest value; 0 where there is none.
  public private(set) var max: UInt64 = 0
  /// How many values lie in each bucket.
  public private(set) var buckets = [UInt64](repeating: 0, count: Buckets.count)

  public init() {}

  /// - Parameter buckets: `Buckets.count` of them.
  public init(count: UInt64, sum: UInt64, max: UInt64, buckets: [UInt64]) {
    self.count = count
    self.sum = sum
    self.max = max
    self.buckets = buckets
  }

  /// Adds what the other has counted: as if all had been counted here.
  public mutating func merge(_ other: Histogram) {
    count &+= other.count
    sum &+= other.sum
    max = Swift.max(max, other.max)
    for index in buckets.indices { buckets[index] &+= other.buckets[index] }
  }

  /// What so many percent of the values, 0 to 100, are not larger than: never less than the true value, at most 12.5 %
  /// more, and never more than the largest. 0 where there are none.
  public func percentile(_ percent: Double) -> UInt64 {
    let wanted = percent > 0 ? (Double(count) * Swift.min(percent, 100) / 100).rounded(.up) : 0
    let rank = wanted < 0x1p63 ? Swift.max(1, UInt64(wanted)) : count
    var seen: UInt64 = 0
    for (index, inBucket) in buckets.enumerated() {
      seen &+= inBucket
      if seen >= rank { return index == Buckets.count - 1 ? max : Swift.min(max, Buckets.end(of: index) - 1) }
    }
    return max
  }

  /// Which values lie in which bucket: 0 to 7 have one each, and from there on each power of two has eight. The last
  /// one has what is beyond, too. In microseconds that begins after an hour and seven minutes.
  public enum Buckets {
    public static let count = 240

    @inline(__always) public static func index(of value: UInt64) -> Int {
      guard value >= 8 else { return Int(truncatingIfNeeded: value) }
      guard value <= UInt64(UInt32.max) else { return count - 1 }
      let power = 63 - value.leadingZeroBitCount
      return (power - 2) * 8 + Int(truncatingIfNeeded: (value >> UInt64(power - 3)) & 7)
    }

    /// The values of the bucket are below this, and not below that of the one before.
    public static func end(of index: Int) -> UInt64 {
      guard index >= 8 else { return UInt64(index) + 1 }
      return UInt64(index % 8 + 9) << UInt64(index / 8 - 1)
    }
  }
}
