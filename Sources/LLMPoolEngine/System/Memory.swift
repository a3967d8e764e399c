import Glibc
import LLMPoolWire

/// Where memory comes from whose size a caller or a peer decides.
enum Memory {
  /// To be given to `free`; nil: there is none. What Swift's pointers allocate comes from posix_memalign, which passes
  /// by malloc's caches.
  static func allocate(_ bytes: Int) -> UnsafeMutableRawPointer? { malloc(bytes) }

  /// Of what no request can be failed for: without it the process ends.
  static func require(_ bytes: Int) -> UnsafeMutableRawPointer {
    guard let memory = allocate(bytes) else { fatalError("llmpool: out of memory") }
    return memory
  }

  /// The sum of sizes that a caller or a peer decides; nil where it is none that memory could have.
  static func sum<let count: Int>(_ sizes: InlineArray<count, Int>) -> Int? {
    var sum = 0
    for index in sizes.indices {
      let (next, isTooMuch) = sum.addingReportingOverflow(sizes[index])
      guard sizes[index] >= 0, !isTooMuch else { return nil }
      sum = next
    }
    return sum
  }

  /// Buffers of the codecs come from malloc, too, which may refuse what is large.
  static let isPrepared: Void = { ByteBuffer.allocator = { allocate($0) } }()
}
