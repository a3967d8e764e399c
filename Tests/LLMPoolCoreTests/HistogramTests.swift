import LLMPoolCore
import Testing

/// What must hold of a histogram whatever is counted, tried with values of every size.
@Suite struct HistogramTests {
  /// As many of each power of two, so that small and large ones come alike.
  private static func values(_ count: Int, seed: UInt64) -> [UInt64] {
    var random = RandomSource(seed: seed)
    return (0..<count).map { _ in
      let value = UInt64.random(in: 0 ... .max, using: &random)
      return value >> UInt64.random(in: 20...63, using: &random)
    }
  }

  private static func counted(_ values: some Sequence<UInt64>) -> Histogram {
    var counter = HistogramCounter()
    for value in values { counter.add(value) }
    return counter.histogram
  }

  @Test func theBucketsLieSideBySide() {
    var begin: UInt64 = 0
    for index in 0..<Histogram.Buckets.count {
      let end = Histogram.Buckets.end(of: index)
      #expect(Histogram.Buckets.index(of: begin) == index)
      #expect(Histogram.Buckets.index(of: end - 1) == index)
      #expect(end - begin <= max(1, begin / 8), "bucket \(index) is wider than an eighth of its values")
      begin = end
    }
    #expect(begin == 1 << 32)
    #expect(Histogram.Buckets.index(of: .max) == Histogram.Buckets.count - 1)
  }

  @Test(arguments: 1...20) func aPercentileIsAnEighthTooLargeAtMost(seed: UInt64) {
    let values = HistogramTests.values(1 + Int(seed) * 97, seed: seed)
    let sorted = values.sorted()
    let histogram = HistogramTests.counted(values)
    #expect(histogram.count == UInt64(values.count))
    #expect(histogram.sum == values.reduce(0, &+))
    #expect(histogram.max == sorted.last)
    #expect(histogram.buckets.reduce(0, +) == histogram.count)
    for percent in [0, 1, 25, 50, 90, 99, 99.9, 100] {
      let rank = max(1, Int((Double(values.count) * percent / 100).rounded(.up)))
      let exact = sorted[rank - 1]
      let found = histogram.percentile(percent)
      #expect(found >= exact)
      // Beyond an hour all is one bucket, of which the largest is told.
      if exact < 1 << 32 { #expect(found - exact <= exact / 8) } else { #expect(found == histogram.max) }
    }
  }

  @Test(arguments: 1...10) func countedTogetherIsCountedApart(seed: UInt64) {
    let (left, right) = (HistogramTests.values(500, seed: seed), HistogramTests.values(300, seed: ~seed))
    var sum = HistogramTests.counted(left)
    sum.merge(HistogramTests.counted(right))
    #expect(sum == HistogramTests.counted(left + right))
    sum.merge(Histogram())
    #expect(sum == HistogramTests.counted(left + right))
  }

  @Test func nothingIsCounted() {
    #expect(HistogramCounter().histogram == Histogram())
    for percent in [-1, 0, 50, 100, 101, Double.nan, .infinity] { #expect(Histogram().percentile(percent) == 0) }
  }

  @Test func percentsBeyondTheirRangeAreItsEnds() {
    let histogram = HistogramTests.counted([1, 2, 3])
    #expect(histogram.percentile(-5) == 1)
    #expect(histogram.percentile(.nan) == 1)
    #expect(histogram.percentile(1_000) == 3)
  }

  /// A bucket has 32 bits, which a busy stream of events fills in days.
  @Test func aBucketCountsOnWhereItsBitsEnd() {
    var counter = HistogramCounter()
    for _ in 0..<5 { counter.add(3, times: .max) }
    counter.add(3, times: 7)
    counter.add(4)
    let expected = 5 * UInt64(UInt32.max) + 7
    #expect(counter.count(inBucket: 3) == expected)
    #expect(counter.histogram.buckets[3] == expected)
    #expect(counter.histogram.count == expected + 1)
    #expect(counter.histogram.sum == 3 * expected + 4)
  }

  @Test func aCopyKeepsWhatItHas() {
    var counter = HistogramCounter()
    counter.add(10)
    let copy = counter
    counter.add(10)
    #expect(copy.histogram == HistogramTests.counted([10]))
    #expect(counter.histogram == HistogramTests.counted([10, 10]))
  }
}
