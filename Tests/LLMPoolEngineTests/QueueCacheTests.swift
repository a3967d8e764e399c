import Testing

@testable import LLMPoolEngine

@Suite struct QueueCacheTests {
  /// Engines that ran a request for it still know it: they are told by its closing.
  @Test func closesWhatItDoesNotKeep() {
    let queues = (0..<300).map { _ in QueueCache.take() }
    for queue in queues { QueueCache.give(queue) }
    #expect(queues.filter(\.isClosed).count == 300 - 256)
    #expect(!QueueCache.take().isClosed)
  }
}
