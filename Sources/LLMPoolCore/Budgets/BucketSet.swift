/// Some of the buckets of a budget, by their places, in their order.
struct BucketSet: Sequence, IteratorProtocol, Equatable {
  private var bits: UInt16 = 0
  static var all: BucketSet { BucketSet(bits: 1 << UInt16(BudgetRecord.bucketCount) - 1) }
  /// Those that can be configured.
  static var configurable: BucketSet { BucketSet(bits: 1 << UInt16(BudgetOptions.limitCount) - 1) }

  init() {}
  private init(bits: UInt16) { self.bits = bits }

  var isEmpty: Bool { bits == 0 }
  func contains(_ kind: Int) -> Bool { bits & 1 << UInt16(kind) != 0 }
  func intersection(_ other: BucketSet) -> BucketSet { BucketSet(bits: bits & other.bits) }
  mutating func set(_ kind: Int, _ isIn: Bool = true) {
    if isIn { bits |= 1 << UInt16(kind) } else { bits &= ~(1 << UInt16(kind)) }
  }
  mutating func next() -> Int? {
    guard bits != 0 else { return nil }
    defer { bits &= bits &- 1 }
    return bits.trailingZeroBitCount
  }
}
