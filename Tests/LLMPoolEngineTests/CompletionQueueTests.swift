import Testing

@testable import LLMPoolEngine

@Suite struct CompletionQueueTests {
  private func records(_ count: Int, _ kind: EventKind = .done) -> [UnsafeMutablePointer<EventRecord>] {
    var allocator = EventAllocator()
    return (0..<count).map { _ in
      let record = allocator.makeRecord(bytes: 0, parts: 0)
      record.pointee.kind = kind
      return record
    }
  }

  private func take(_ queue: CompletionQueue, _ capacity: Int) -> Int? {
    queue.take(capacity) { record in
      EventRecord.release(record)
      return true
    }
  }

  @Test(arguments: [false, true]) func takenEventsMakeRoomWhileSomeAreLeft(drives: Bool) {
    let queue = CompletionQueue(drives: drives)
    for _ in 0..<100 {
      _ = queue.publish(records(1_000), now: 0, quietly: false, mayWait: false)
      #expect(take(queue, 999) == 999)
    }
    #expect(queue.state.withLock { $0.events.count } < 20_000)
    _ = queue.close()
  }

  /// With sixteen events at hand and more, of one wake.
  @Test func whoHasMuchAtHandIsBusy() {
    let queue = CompletionQueue(coalesceMicroseconds: 1_000)
    let inbox = Inbox()
    #expect(queue.attach(inbox) == false)
    for now in Int64(1)...3 {
      _ = queue.publish(records(20), now: now * 1_000_000_000, quietly: false, mayWait: false)
      #expect(queue.attach(inbox) == false)
      #expect(take(queue, 10) == 10)
      #expect(take(queue, 100) == 10)
      #expect(take(queue, 100) == 0)
      #expect((0..<6).map { _ in queue.attach(inbox) } == [true, true, true, true, false, false])
    }
    _ = queue.close()
    #expect(queue.attach(inbox) == nil)
  }

  @Test func whatIsPutInQuietlyEndsAPutOff() {
    let queue = CompletionQueue(coalesceMicroseconds: 1_000, drives: true)
    let start: Int64 = 1_000_000_000
    #expect(queue.publish(records(1), now: start, quietly: false, mayWait: true) == nil)
    #expect(take(queue, 1) == 1)
    #expect(queue.publish(records(1), now: start + 1, quietly: false, mayWait: true) == start + 1_000_000)
    #expect(queue.publish(records(1), now: start + 2, quietly: true, mayWait: false) == nil)
    #expect(queue.wait(timeout: 0) == .ready)
    #expect(take(queue, 2) == 2)
    _ = queue.close()
  }

  /// A wake for many pieces of streams costs each of them little.
  @Test func whatIsEnoughForAWakeIsNotPutOff() {
    let queue = CompletionQueue(coalesceMicroseconds: 1_000, streamCoalesceMicroseconds: 5_000)
    let start: Int64 = 1_000_000_000
    #expect(queue.publish(records(1, .sse), now: start, quietly: false, mayWait: true) == nil)
    #expect(take(queue, 1) == 1)
    let due = start + 5_000_000
    #expect(queue.publish(records(10, .sse), now: start + 1, quietly: false, mayWait: true) == due)
    #expect(queue.publish(records(5, .data), now: start + 2, quietly: false, mayWait: true) == due)
    #expect(queue.publish(records(1, .sse), now: start + 3, quietly: false, mayWait: true) == nil)
    #expect(queue.wait(timeout: 0) == .ready)
    #expect(take(queue, 100) == 16)
    // Of answers a wake tells as many as come.
    #expect(queue.publish(records(40), now: start + 4, quietly: false, mayWait: true) == start + 1_000_003)
    _ = queue.close()
  }
}
