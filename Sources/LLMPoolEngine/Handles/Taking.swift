// Calls that wait are calls that do not, and a wait.
extension Engine {
  /// Runs one request and blocks until it is done; returns its DONE.
  package func perform(
    _ input: RequestInput, identified: (UInt64) -> Void
  ) throws(Fault) -> UnsafeMutablePointer<EventRecord> {
    guard !input.flags.isSubset(of: .known) || input.flags.isDisjoint(with: [.stream, .sse, .upload]) else {
      throw Fault(.invalidArgument, "flags: llmpool_perform() collects the answer; use llmpool_submit() to stream")
    }
    let queue = QueueCache.take()
    do throws(Fault) { try submit(input, queue: queue, identified: identified) } catch {
      QueueCache.give(queue)
      throw error
    }
    var done: UnsafeMutablePointer<EventRecord>?
    while done == nil {
      let result = queue.wait(timeout: -1)
      try queue.checkProcess()
      if result == .closed { throw CompletionQueue.isClosedError }
      _ = queue.takeOrHelp(1) { record in
        done = record
        return true
      }
    }
    QueueCache.give(queue)
    return done!
  }
}

extension CompletionQueue {
  fileprivate static let isClosedError = Fault(.closed, "queue: it is closed")

  /// For a call that was interrupted by a signal whose handler has forked, and goes on in the child; or by the end of
  /// the process.
  fileprivate func checkProcess() throws(Fault) {
    try Gate.checkEnd()
    guard generation == ProcessHooks.generation else {
      throw Fault(.forked, "the process has forked during the call, which was the parent's")
    }
  }

  /// Takes up to `capacity` events and waits for the first: 0 ms not at all, negative for ever.
  package func drain(
    _ capacity: Int, timeoutMilliseconds: Int32, _ body: (UnsafeMutablePointer<EventRecord>) -> Void
  ) throws(Fault) -> Int {
    let deadline = timeoutMilliseconds < 0 ? Int64.max : monotonicNow() + Int64(timeoutMilliseconds) * 1_000_000
    while true {
      let taken = takeOrHelp(capacity) { record in
        body(record)
        return true
      }
      guard let taken else { throw CompletionQueue.isClosedError }
      guard taken == 0, timeoutMilliseconds != 0 else { return taken }
      // Another thread may be quicker: then the wait goes on.
      let result = wait(timeout: deadline == .max ? -1 : max(0, deadline - monotonicNow()))
      try checkProcess()
      switch result {
      case .ready: continue
      case .timedOut, .interrupted: return 0
      case .closed: throw CompletionQueue.isClosedError
      }
    }
  }

  /// Takes events as long as `body` copies them, and releases them.
  package func read(
    _ capacity: Int, _ body: (UnsafeMutablePointer<EventRecord>) -> Bool
  ) throws(Fault) -> Int {
    var copied: [UnsafeMutablePointer<EventRecord>] = []
    let taken = takeOrHelp(capacity) { record in
      guard body(record) else { return false }
      copied.append(record)
      return true
    }
    guard let taken else { throw CompletionQueue.isClosedError }
    for record in copied { EventRecord.release(record) }
    return taken
  }
}
