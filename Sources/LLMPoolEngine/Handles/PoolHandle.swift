import LLMPoolCore

/// What the application holds of a pool. It lives as long as the process: after the pool was closed it is a tombstone
/// that answers `closed`, in a forked child one that answers `forked`, unless it is the shared pool's.
package final class PoolHandle: @unchecked Sendable {
  /// The pool of this process, made on first use and never closed. In a child it becomes the child's own.
  package static let shared = PoolHandle()

  package let isShared: Bool
  private let lock = Lock()
  private var engine: Engine?
  private var settings = PoolSettings()
  /// As they were configured: a child of the process has them, too.
  private var budgets: [String: BudgetConfiguration] = [:]
  /// How they are shared; under "" all that are not named.
  private var sharings: [String: BudgetSharing] = [:]
  private var isClosed = false
  /// Where it is shown; nil: nowhere, or where the environment says.
  private var shownIn: String?
  /// Its number among those that were ever shown; 0: it was not. Under the lock of `SnapshotServer`.
  var shownAs = 0
  private var generation = ProcessHooks.generation
  /// Engines of the processes that this one was forked from: never taken apart, as the parent still uses them.
  private var inherited: [Engine] = []
  /// What `llmpool_options_get` lends, by what it says. Kept: whoever got it may be about to configure with it, when
  /// somebody else has.
  private var lent: [[String?]: AnyObject] = [:]

  private init() { isShared = true }

  package init(_ settings: PoolSettings) throws(Fault) {
    isShared = false
    self.settings = settings
    engine = try Engine(settings)
    show()
  }

  private static var closedError: Fault { Fault(.closed, "pool: it is closed") }

  private func check() throws(Fault) {
    guard isShared || generation == ProcessHooks.generation else {
      throw Fault(.forked, "pool: it belongs to the parent process; use the shared pool, or open another")
    }
  }

  /// Under the lock: a child's shared pool begins anew, with the same settings.
  private func noteFork() {
    guard generation != ProcessHooks.generation else { return }
    generation = ProcessHooks.generation
    if let engine { inherited.append(engine) }
    engine = nil
  }

  private func locked<Result>(_ body: () throws(Fault) -> Result) throws(Fault) -> Result {
    try check()
    lock.lock()
    defer { lock.unlock() }
    if isShared { noteFork() }
    guard !isClosed else { throw PoolHandle.closedError }
    return try body()
  }

  /// The engine to call; the shared pool's is made here.
  package func open() throws(Fault) -> Engine {
    if let engine = try locked({ engine }) { return engine }
    // Files are read outside the lock, for which submissions would wait. Somebody may be quicker meanwhile.
    while true {
      let settings = try currentSettings()
      let configuration = try Configuration(settings)
      let made: Engine? = try locked { () throws(Fault) in
        guard engine == nil else { return engine }
        guard settings == self.settings else { return nil }
        return try make(configuration)
      }
      if let made {
        show()
        return made
      }
    }
  }

  private func make(_ configuration: Configuration) throws(Fault) -> Engine {
    let made = try Engine(configuration)
    for budget in budgets.values { made.configureBudget(budget) }
    if let all = sharings[""] { made.share(all) }
    for sharing in sharings.values where sharing.name != nil { made.share(sharing) }
    engine = made
    return made
  }

  package func configureBudget(_ configuration: BudgetConfiguration) throws(Fault) {
    let engine = try open()
    try locked { () throws(Fault) in
      budgets[configuration.name] = configuration
      engine.configureBudget(configuration)
    }
  }

  package func share(_ sharing: BudgetSharing) throws(Fault) {
    let engine = try open()
    try locked { () throws(Fault) in
      if sharing.name == nil { sharings = [:] }
      sharings[sharing.name ?? ""] = sharing
      engine.share(sharing)
    }
  }

  /// Those that the engine knows, and those that it will know with its next turn.
  package func budgetNames() throws(Fault) -> [String] {
    let known = try open().knownBudgets
    return Set(known).union(try locked { Array(budgets.keys) }).sorted()
  }

  /// What the engine has of it, or will have with its next turn; nil: it is not known.
  package func budget(_ name: String) throws(Fault) -> BudgetView? {
    let view = try open().budget(name)
    guard let configuration = try locked({ budgets[name] }), view?.options != configuration.options else { return view }
    return BudgetView(configuration.options)
  }

  /// Whatever is configured last is what both the engine and the handle have: told to both in one step. A shared pool
  /// that was not made yet is made with these settings.
  package func configure(_ settings: PoolSettings) throws(Fault) {
    _ = try currentSettings()
    let configuration = try Configuration(settings)
    let isMade = try locked { () throws(Fault) in
      let isMade = engine == nil
      if let engine { engine.configure(configuration) } else { _ = try make(configuration) }
      self.settings = settings
      return isMade
    }
    if isMade { show() }
  }

  /// Also where they make no pool, as with an unsupported proxy in the environment: to be changed by `configure`.
  package func currentSettings() throws(Fault) -> PoolSettings { try locked { settings } }

  /// The settings, and what the application borrows of their texts: the same for all who ask.
  package func lend<Lent: AnyObject>(_ make: (PoolSettings) -> Lent) throws(Fault) -> (PoolSettings, Lent) {
    try locked {
      let texts = PoolSettings.texts.map { settings[keyPath: $0.path] }
      if let known = lent[texts] as? Lent { return (settings, known) }
      let made = make(settings)
      lent[texts] = made
      return (settings, made)
    }
  }

  package func close(drain milliseconds: UInt32) throws(Fault) {
    guard !isShared else {
      throw Fault(.invalidArgument, "pool: the shared pool lives as long as the process and is not closed")
    }
    guard generation == ProcessHooks.generation else { return }
    let engine = try open()
    guard engine.close(drain: milliseconds) else { throw PoolHandle.closedError }
    guard generation == ProcessHooks.generation else { return }
    try locked { () throws(Fault) in
      self.engine = nil
      isClosed = true
    }
    SnapshotServer.hide(self)
  }

  // MARK: Looked at from outside

  /// On the socket of the process in this directory; nil: no more.
  package func show(in path: String?) throws(Fault) {
    _ = try open()
    if let path { try SnapshotServer.show(self, in: path) } else { SnapshotServer.hide(self) }
    try locked { () throws(Fault) in shownIn = path }
  }

  /// Of a pool that was made just now, in a child, too. One that cannot be shown serves all the same.
  private func show() {
    guard let path = (try? locked { shownIn }) ?? SnapshotServer.environmentPath else { return }
    try? SnapshotServer.show(self, in: path)
  }

  /// Nil: there is none. None is made for it.
  func snapshot(_ name: String) -> Snapshot? {
    guard let (engine, settings) = try? locked({ (engine, settings) }), let engine else { return nil }
    return Snapshot(name, settings, engine)
  }
}
