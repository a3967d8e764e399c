import LLMPoolEngine

/// Those who watch a pool, to be told of its end.
final class Watches: Sendable {
  private struct State {
    var last = 0
    var ends: [Int: @Sendable () -> Void] = [:]
  }
  private let state = Guarded(State())

  func add(_ end: @escaping @Sendable () -> Void) -> Int {
    state.withLock { state in
      state.last += 1
      state.ends[state.last] = end
      return state.last
    }
  }

  func remove(_ number: Int) { state.withLock { _ = $0.ends.removeValue(forKey: number) } }

  func end() {
    let ends = state.withLock { state in
      defer { state.ends = [:] }
      return Array(state.ends.values)
    }
    for end in ends { end() }
  }
}
