import LLMPoolCore

/// A seeded generator: a failing run can be run again.
package struct Random: RandomNumberGenerator {
  private var source: RandomSource

  package init(_ seed: UInt64) { source = RandomSource(seed: seed) }

  package mutating func next() -> UInt64 { source.next() }

  package mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }
}
