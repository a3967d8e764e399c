import LLMPoolWire

/// The body of a request that comes in pieces: the application puts them in on any thread, the connection takes them
/// out on the engine's.
final class Upload: Sendable {
  /// While so much waits to be sent, nothing more is taken.
  static let limit = 1 << 20

  enum AddResult: Equatable {
    case taken
    /// A WRITABLE event will say when to go on.
    case full
    case refused(String)
    case outOfMemory
  }

  private final class State: @unchecked Sendable {
    var bytes = ByteBuffer()
    /// Of all pieces so far.
    var total: UInt64 = 0
    var isEnded = false
    var wantsWritable = false
    /// The engine was told that something is here, and has not looked yet.
    var isAnnounced = false
  }
  private let lock = Lock()
  private let state = State()
  /// What the application's Content-Length says; nil: the body is as long as it gets.
  let declaredLength: UInt64?

  init(declaredLength: UInt64?) { self.declaredLength = declaredLength }

  /// Adds a piece; `announce` is called where the engine must hear of it.
  func add(_ piece: UnsafeRawBufferPointer, last: Bool, announce: () -> Void) -> AddResult {
    lock.lock()
    defer { lock.unlock() }
    guard !state.isEnded else { return .refused("data: the body was ended by last") }
    guard state.bytes.count < Upload.limit else {
      state.wantsWritable = true
      return .full
    }
    let total = state.total + UInt64(piece.count)
    if let declaredLength, total > declaredLength || (last && total != declaredLength) {
      return .refused("size: the body has \(total) bytes, but content-length is \(declaredLength)")
    }
    guard state.bytes.reserve(piece.count) else { return .outOfMemory }
    state.bytes.append(piece)
    state.total = total
    state.isEnded = last
    if !state.isAnnounced {
      state.isAnnounced = true
      announce()
    }
    return .taken
  }

  /// Nothing waits to be sent, and more may come.
  var isDrained: Bool {
    lock.lock()
    defer { lock.unlock() }
    return state.bytes.isEmpty && !state.isEnded
  }

  struct Taken {
    let count: Int
    /// Nothing comes after these bytes.
    let isLast: Bool
    /// There is room again for an application that waits for it.
    let isWritable: Bool
  }

  /// Gives up to `limit` bytes to `body`.
  func take(_ limit: Int, _ body: (UnsafeRawBufferPointer) -> Void) -> Taken {
    lock.lock()
    defer { lock.unlock() }
    state.isAnnounced = false
    let count = min(limit, state.bytes.count)
    if count > 0 {
      body(UnsafeRawBufferPointer(rebasing: state.bytes.readable.prefix(count)))
      state.bytes.consume(count)
    }
    let isWritable = state.wantsWritable && state.bytes.count <= Upload.limit / 2
    if isWritable { state.wantsWritable = false }
    return Taken(count: count, isLast: state.isEnded && state.bytes.isEmpty, isWritable: isWritable)
  }
}
