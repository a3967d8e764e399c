import CLLMPoolSystem
import Glibc
import Synchronization

/// What the process does to every engine at once: fork and exit.
package enum ProcessHooks {
  private final class Registry: @unchecked Sendable {
    let lock = Lock()
    var engines: [Engine] = []
    var handlers: [ForkHandler] = []
  }
  private static let registry = Registry()
  /// Counts the forks that led to this process: a handle made in another generation is the parent's.
  private static let forks = Atomic<UInt32>(0)
  package static var generation: UInt32 { forks.load(ordering: .relaxed) }

  private static let installed: Void = {
    // After OpenSSL's own handler was registered, so that ours runs before it.
    _ = Libraries.initialized
    pthread_atfork({ ProcessHooks.park() }, { ProcessHooks.unpark() }, { ProcessHooks.inChild() })
    atexit { ProcessHooks.parkForExit() }
  }()

  /// Something with a lock of its own that must be whole in the child: locked before a fork, unlocked after it on
  /// both sides, and told in the child.
  package struct ForkHandler: Sendable {
    package let prepare: @Sendable () -> Void
    package let parent: @Sendable () -> Void
    package let child: @Sendable () -> Void
    package init(
      prepare: @escaping @Sendable () -> Void, parent: @escaping @Sendable () -> Void,
      child: @escaping @Sendable () -> Void
    ) {
      self.prepare = prepare
      self.parent = parent
      self.child = child
    }
  }

  package static func onFork(_ handler: ForkHandler) {
    _ = installed
    registry.lock.lock()
    registry.handlers.append(handler)
    registry.lock.unlock()
  }

  static func register(_ engine: Engine) {
    _ = installed
    registry.lock.lock()
    registry.engines.append(engine)
    registry.lock.unlock()
  }

  static func unregister(_ engine: Engine) {
    registry.lock.lock()
    registry.engines.removeAll { $0 === engine }
    registry.lock.unlock()
  }

  /// Before a fork: no engine is in the middle of a turn, and nobody reads the CA store, so that the child inherits no
  /// half-done work and no lock that a thread of ours holds.
  private static func park() {
    // The handlers' locks come first, as whoever holds one may make an engine, which takes the registry's.
    for handler in registry.handlers { handler.prepare() }
    registry.lock.lock()
    for engine in registry.engines { engine.turn.lock() }
    AuthorityReading.lock.lock()
  }

  private static func unpark() {
    AuthorityReading.lock.unlock()
    for engine in registry.engines { engine.turn.unlock() }
    registry.lock.unlock()
    for handler in registry.handlers { handler.parent() }
  }

  /// In the child: the generation first, so that every inherited handle is known as such; then the inherited
  /// descriptors, without a byte on the wire, without OpenSSL, libcurl or the epoll that the parent goes on using.
  private static func inChild() {
    forks.add(1, ordering: .relaxed)
    AuthorityReading.lock.unlock()
    for engine in registry.engines {
      engine.abandonAfterFork()
      engine.turn.unlock()
    }
    // The objects stay where they are: taking them apart would touch what the parent still uses.
    abandoned += registry.engines.map { Unmanaged.passRetained($0) }
    registry.engines.removeAll()
    registry.lock.unlock()
    for handler in registry.handlers { handler.child() }
  }
  private nonisolated(unsafe) static var abandoned: [Unmanaged<Engine>] = []

  /// A process that ends takes OpenSSL apart while threads of ours may be in it: they are kept out from here on.
  private static func parkForExit() {
    guard registry.lock.lock(milliseconds: 200) else { return }
    for engine in registry.engines { _ = engine.turn.lock(milliseconds: 200) }
    _ = AuthorityReading.lock.lock(milliseconds: 200)
  }
}

extension Engine {
  /// Closes what was inherited. Called with the engine parked, in a process that has no other thread.
  func abandonAfterFork() {
    for case let connection? in connections { connection.abandonAfterFork() }
    dialer?.abandonAfterFork()
    resolver.abandonAfterFork()
    Glibc.close(epoll)
    Glibc.close(inbox.wakeDescriptor)
  }
}
