import CLLMPoolSystem
import Glibc

/// The pools that this process shows on its socket, and that socket: there while there is a pool to show. A forked
/// child begins without.
enum SnapshotServer {
  private struct State {
    var generation = ProcessHooks.generation
    var path = ""
    var listener: SnapshotListener?
    var pools: [(name: String, handle: PoolHandle)] = []
    var named = 0
  }
  private static let state = Guarded(State())

  /// Of every pool, without a word in the program; nil: none.
  static var environmentPath: String? {
    guard let value = lp_secure_getenv("LLMPOOL_STATS_DIR"), value.pointee != 0 else { return nil }
    return String(cString: value)
  }

  /// Twice is once.
  static func show(_ handle: PoolHandle, in path: String) throws(Fault) {
    let fault: Fault? = state.withLock { state in
      beginAnewInChild(&state)
      do throws(Fault) { try show(handle, in: path, &state) } catch { return error }
      return nil
    }
    if let fault { throw fault }
  }

  private static func show(_ handle: PoolHandle, in path: String, _ state: inout State) throws(Fault) {
    if state.path == path, state.listener?.isThere == false { stop(&state) }
    if state.listener == nil {
      state.listener = try SnapshotListener(path) { document }
      state.path = path
    }
    guard state.path == path else {
      throw Fault(.invalidArgument, "directory: the pools of this process are shown in \(state.path) already")
    }
    guard !state.pools.contains(where: { $0.handle === handle }) else { return }
    state.pools.append((name(of: handle, &state), handle))
  }

  /// One that is shown again is the same to whoever counts.
  private static func name(of handle: PoolHandle, _ state: inout State) -> String {
    if handle.isShared { return "shared" }
    if handle.shownAs == 0 {
      state.named += 1
      handle.shownAs = state.named
    }
    return "pool-\(handle.shownAs)"
  }

  static func hide(_ handle: PoolHandle) {
    state.withLock { state in
      beginAnewInChild(&state)
      state.pools.removeAll { $0.handle === handle }
      if state.pools.isEmpty { stop(&state) }
    }
  }

  /// The process ends.
  static func end() {
    _ = state.ifFree { state in
      beginAnewInChild(&state)
      stop(&state)
    }
  }

  private static func stop(_ state: inout State) {
    state.listener?.stop()
    state.listener = nil
  }

  /// The parent's socket, thread and file are the parent's.
  private static func beginAnewInChild(_ state: inout State) {
    if state.generation != ProcessHooks.generation { state = State() }
  }

  /// What a client is given. Made without the lock: a pool may be closed meanwhile.
  private static var document: [UInt8] {
    let pools = state.withLock { $0.pools }
    var json = JSONText()
    json.object { json in
      json.field("schema", 1)
      json.field("version", "\(LLMPOOL_VERSION_MAJOR).\(LLMPOOL_VERSION_MINOR).\(LLMPOOL_VERSION_PATCH)")
      json.field("pid", getpid())
      json.field("name", processName)
      json.field("started_us", started / 1_000)
      json.field("monotonic_us", monotonicNow() / 1_000)
      json.array("pools") { json in
        for (name, handle) in pools { handle.snapshot(name)?.write(&json) }
      }
    }
    return json.bytes
  }

  /// When the process first showed something: with its number it is told from another that has the number later.
  private static let started = monotonicNow()

  /// Not its arguments, in which there may be anything.
  private static var processName: String {
    let name = (try? NamedFile.read("/proc/self/comm", field: "comm")) ?? []
    return String(decoding: name.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
  }
}
