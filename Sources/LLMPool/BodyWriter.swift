import LLMPoolEngine

/// Takes the pieces of a body to the engine, as fast as the server takes them.
final class BodyWriter: Sendable {
  /// Gives all pieces to a writer, and ends the body.
  typealias Source = @Sendable (BodyWriter) async throws -> Void

  private struct State {
    var engine: Engine?
    var id: UInt64 = 0
    /// The request is over, or was never taken.
    var isOver = false
    /// Something has happened that nobody has waited for yet.
    var isSignalled = false
    var waiting: UnsafeContinuation<Void, Never>?
    var failure: (any Error)?
  }
  private let state = Guarded(State())

  static func source<Body: AsyncSequence & Sendable>(_ body: Body) -> Source where Body.Element: Collection<UInt8> {
    { writer in
      for try await piece in body {
        while try !writer.add(piece) { await writer.signalled() }
      }
      // Many a sequence ends where its reader is cancelled: what came is not the body then.
      try Task.checkCancellation()
      while try !writer.add([], last: true) { await writer.signalled() }
    }
  }

  /// Why the body could not be sent, if it is not the request's end.
  var failure: (any Error)? { state.withLock { $0.failure } }

  /// Once the request is submitted. What goes wrong ends the request.
  func write(_ source: Source) async {
    await signalled()
    guard !state.withLock({ $0.isOver }) else { return }
    do { try await source(self) } catch {
      let (engine, id) = state.withLock { state in
        if !state.isOver { state.failure = error }
        return (state.engine, state.id)
      }
      _ = engine?.cancel(id)
    }
  }

  /// False: it is full, and a signal will come.
  private func add(_ piece: some Collection<UInt8>, last: Bool = false) throws -> Bool {
    try piece.withContiguousStorageIfAvailable { try add(UnsafeRawBufferPointer($0), last) }
      ?? Array(piece).withUnsafeBytes { try add($0, last) }
  }

  private func add(_ piece: UnsafeRawBufferPointer, _ last: Bool) throws -> Bool {
    let (engine, id, isOver) = state.withLock { ($0.engine, $0.id, $0.isOver) }
    guard let engine, !isOver else { throw CancellationError() }
    do throws(Fault) { return try engine.write(id, piece, last: last) } catch {
      guard error.failure == .notFound else { throw PoolError(error) }
      // It is over, of which we shall hear.
      ended()
      throw CancellationError()
    }
  }

  func submitted(_ engine: Engine, _ id: UInt64) {
    state.withLock { state in
      state.engine = engine
      state.id = id
    }
    signal()
  }

  /// There is room again.
  func signal() {
    let waiting = state.withLock { state in
      let waiting = state.waiting
      state.waiting = nil
      state.isSignalled = waiting == nil
      return waiting
    }
    waiting?.resume()
  }

  /// No piece is taken any more.
  func ended() {
    state.withLock { $0.isOver = true }
    signal()
  }

  private func signalled() async {
    await withUnsafeContinuation { continuation in
      let isThere = state.withLock { state in
        if state.isSignalled || state.isOver {
          state.isSignalled = false
          return true
        }
        state.waiting = continuation
        return false
      }
      if isThere { continuation.resume() }
    }
  }
}
