/// What the application holds of a pool. It lives as long as the process: after the pool was closed it is a tombstone
/// that answers `closed`, in a forked child one that answers `forked`, unless it is the shared pool's.
package final class PoolHandle: @unchecked Sendable {
  /// The pool of this process, made on first use and never closed. In a child it becomes the child's own.
  package static let shared: PoolHandle = {
    let handle = PoolHandle(isShared: true)
    ProcessHooks.onFork(
      ProcessHooks.ForkHandler(
        prepare: { handle.lock.lock() }, parent: { handle.lock.unlock() },
        child: {
          // The engine is the parent's; the next call makes one with the same settings.
          handle.engine = nil
          handle.generation = ProcessHooks.generation
          handle.lock.unlock()
        }))
    return handle
  }()

  package let isShared: Bool
  private let lock = Lock()
  private var engine: Engine?
  private var settings = PoolSettings()
  private var isClosed = false
  private var generation = ProcessHooks.generation
  /// What `llmpool_options_get` lent out; kept until the pool is next configured.
  package var lentStrings: AnyObject?

  private init(isShared: Bool) { self.isShared = isShared }

  package init(_ settings: PoolSettings) throws(CallError) {
    isShared = false
    self.settings = settings
    engine = try Engine(settings)
  }

  private static var closedError: CallError { CallError(.closed, "pool: it is closed") }

  /// Comes before the lock, which may be the parent's.
  private func check() throws(CallError) {
    guard isShared || generation == ProcessHooks.generation else {
      throw CallError(.forked, "pool: it belongs to the parent process; use the shared pool, or open another")
    }
  }

  /// The engine to call; the shared pool's is made here.
  package func open() throws(CallError) -> Engine { try openEngine(nil).engine }

  private func openEngine(_ settings: PoolSettings?) throws(CallError) -> (engine: Engine, isNew: Bool) {
    try check()
    lock.lock()
    defer { lock.unlock() }
    guard !isClosed else { throw PoolHandle.closedError }
    if let engine { return (engine, false) }
    let engine = try Engine(settings ?? self.settings)
    self.engine = engine
    return (engine, true)
  }

  package func configure(_ settings: PoolSettings) throws(CallError) {
    // Files are read outside the lock, for which submissions would wait. A shared pool that was not made yet is made
    // with these settings.
    let made = try openEngine(settings)
    if !made.isNew { try made.engine.configure(settings) }
    lock.lock()
    defer { lock.unlock() }
    self.settings = settings
    lentStrings = nil
  }

  /// Also where they make no pool, as with an unsupported proxy in the environment: to be changed by `configure`.
  package func currentSettings() throws(CallError) -> PoolSettings {
    try check()
    lock.lock()
    defer { lock.unlock() }
    guard !isClosed else { throw PoolHandle.closedError }
    return settings
  }

  /// Keeps what was lent to the application until the pool is next configured.
  package func lend(_ strings: AnyObject) {
    lock.lock()
    lentStrings = strings
    lock.unlock()
  }

  package func close(drain milliseconds: UInt32) throws(CallError) {
    guard !isShared else {
      throw CallError(.invalidArgument, "pool: the shared pool lives as long as the process and is not closed")
    }
    guard generation == ProcessHooks.generation else { return }
    let engine = try open()
    guard engine.close(drain: milliseconds) else { throw CallError(.closed, "pool: it is closed") }
    lock.lock()
    self.engine = nil
    isClosed = true
    lock.unlock()
  }
}
