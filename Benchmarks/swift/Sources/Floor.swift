import Dispatch
import Synchronization

/// What tasks and continuations cost by themselves: a thread takes those that wait, all at once, and resumes them, each
/// with a status and the bytes of an answer. What is left out is HTTP, and whatever makes an API pleasant.
final class Floor: Client {
  private struct State {
    var waiting: [CheckedContinuation<[UInt8], Never>] = []
    var isClosed = false
  }
  private let state = Mutex(State())
  private let called = DispatchSemaphore(value: 0)
  private let answer = [UInt8](repeating: UInt8(ascii: "y"), count: 1024)

  init() {
    DispatchQueue(label: "floor").async { [self] in while resumeAll() {} }
  }

  private func resumeAll() -> Bool {
    called.wait()
    let (waiting, isClosed) = state.withLock { state in
      defer { state.waiting.removeAll(keepingCapacity: true) }
      return (state.waiting, state.isClosed)
    }
    for continuation in waiting { continuation.resume(returning: Array(answer)) }
    return !isClosed
  }

  private func answered() async -> [UInt8] {
    await withCheckedContinuation { continuation in
      let isFirst = state.withLock { state in
        state.waiting.append(continuation)
        return state.waiting.count == 1
      }
      if isFirst { called.signal() }
    }
  }

  func post(_ url: String) async throws {
    guard await answered().count > 0 else { throw Failed("no body") }
  }

  /// In batches of 64, as many as come with one read of 16 KiB.
  func events(_ url: String) async throws -> Int {
    for _ in 0..<32 { _ = await answered() }
    return 2048
  }

  func close() async throws {
    state.withLock { $0.isClosed = true }
    called.signal()
  }
}
