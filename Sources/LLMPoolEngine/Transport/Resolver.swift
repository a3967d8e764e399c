import CLLMPoolSystem
import Glibc
import LLMPoolCore

package struct LookupResult: Equatable, Sendable {
  package enum Outcome: Equatable, Sendable {
    /// Not empty, in getaddrinfo's order (RFC 6724), with port 0.
    case addresses([SocketAddress])
    case failed(Fault)
  }

  package let token: UInt64
  package let host: String
  package let outcome: Outcome
}

/// Names to addresses by getaddrinfo, on four threads that start when needed and end when idle. Lookups of a name that
/// is being looked up join it. While the four are stuck with names that do not answer, more are added for the others.
///
/// Everything but the handler runs on the engine thread. The handler is called on a resolver thread, with no lock
/// held, and never after `shutdown` has returned.
package final class Resolver {
  typealias Lookup = @Sendable (String) -> LookupResult.Outcome

  private let state: ResolverState
  private let threadLimit: Int
  /// Given to the threads and not yet seen to come back by `cameBack`.
  private var outstanding = 0

  package convenience init(handler: @escaping @Sendable (LookupResult) -> Void) {
    self.init(threads: 4, idleMilliseconds: 10_000, lookup: systemLookup, handler: handler)
  }

  init(
    threads: Int, idleMilliseconds: Int, lookup: @escaping Lookup,
    handler: @escaping @Sendable (LookupResult) -> Void
  ) {
    threadLimit = threads
    state = ResolverState(
      threadLimit: threads, idleMilliseconds: idleMilliseconds, lookup: lookup, handler: handler)
  }

  deinit { shutdown() }

  /// How many times getaddrinfo was asked.
  package var lookupsStarted: UInt64 { state.lookupsStarted }

  /// Starts a lookup, whose result goes to the handler; or answers at once where no lookup is needed (an IP literal)
  /// or possible. Then the handler is not called.
  package func lookup(host: String, token: UInt64) -> LookupResult? {
    if let address = SocketAddress(literal: host, port: 0) {
      return LookupResult(token: token, host: host, outcome: .addresses([address]))
    }
    guard isDialable(host) else {
      let failure = Fault(.resolve, "\"\(host)\" is not a host name")
      return LookupResult(token: token, host: host, outcome: .failed(failure))
    }
    guard state.enqueue(host: host, token: token) else {
      let failure = Fault(.outOfMemory, "no thread to look up \(host): the resolver could not start one")
      return LookupResult(token: token, host: host, outcome: .failed(failure))
    }
    outstanding += 1
    return nil
  }

  /// For each result that the handler has passed on.
  package func cameBack() { outstanding -= 1 }

  /// More lookups are under way than there are threads: `relieve` should be called in such intervals.
  package var reliefInterval: Int64? { outstanding > threadLimit ? 100_000_000 : nil }

  /// Adds a thread if names wait and no thread has ended a lookup for long.
  package func relieve() {
    if outstanding > threadLimit { state.relieve() }
  }

  /// Ends the threads and waits for them, except those within getaddrinfo: they end by themselves, without a call of
  /// the handler. Lookups under way get no result.
  package func shutdown() {
    for thread in state.stop() { pthread_join(thread, nil) }
  }

  /// As `shutdown`, but leaves the waiting to the caller: the threads that are about to end.
  func stop() -> [pthread_t] { state.stop() }
}

/// What the threads share. They hold it, not the resolver: a thread stuck in getaddrinfo outlives that.
private final class ResolverState: @unchecked Sendable {
  private final class Worker {
    var thread = pthread_t()
    /// Within getaddrinfo, for as long as that may take.
    var isLookingUp = false
  }

  // Set at the start.
  private let threadLimit: Int
  private let idleMilliseconds: Int
  private let lookup: Resolver.Lookup
  private let handler: @Sendable (LookupResult) -> Void
  private let lock = Lock()
  /// Counts what there was to wake a thread for; idle ones sleep on it.
  private let work = UnsafeMutablePointer<UInt32>.allocate(capacity: 1)

  // Under the lock.
  private var waiting: [String] = []
  private var waitingHead = 0
  /// Who waits for a name, from the first lookup until its result is given out.
  private var tokens: [String: [UInt64]] = [:]
  private var workers: [ObjectIdentifier: Worker] = [:]
  private var idleWorkers = 0
  private var isShutDown = false
  private var started: UInt64 = 0
  /// When a lookup last began or ended.
  private var lastStep: Int64 = 0

  /// So long nothing moves before another thread is added, up to so many.
  private static let stuckNanoseconds: Int64 = 300_000_000
  private static let mostThreads = 32

  init(
    threadLimit: Int, idleMilliseconds: Int, lookup: @escaping Resolver.Lookup,
    handler: @escaping @Sendable (LookupResult) -> Void
  ) {
    (self.threadLimit, self.idleMilliseconds) = (threadLimit, idleMilliseconds)
    (self.lookup, self.handler) = (lookup, handler)
    work.initialize(to: 0)
  }

  deinit { work.deallocate() }

  private func locked<Result>(_ body: () -> Result) -> Result {
    lock.lock()
    defer { lock.unlock() }
    return body()
  }

  private func wake(_ count: Int32) {
    lp_atomic_increment(work)
    lp_futex_wake(work, count)
  }

  var lookupsStarted: UInt64 { locked { started } }

  // MARK: engine thread

  /// False where there is no thread for it and none can be started.
  func enqueue(host: String, token: UInt64) -> Bool {
    locked {
      if isShutDown { return false }
      if tokens[host] != nil {
        tokens[host]!.append(token)
        return true
      }
      let queued = waiting.count - waitingHead
      if queued >= idleWorkers && workers.count < threadLimit && !startWorker() && workers.isEmpty { return false }
      tokens[host] = [token]
      waiting.append(host)
      wake(1)
      return true
    }
  }

  func relieve() {
    locked {
      guard waitingHead < waiting.count, idleWorkers == 0, !isShutDown, workers.count < ResolverState.mostThreads,
        monotonicNow() - lastStep > ResolverState.stuckNanoseconds
      else { return }
      _ = startWorker()
    }
  }

  /// The threads that are to be joined: they wait for nothing any more.
  func stop() -> [pthread_t] {
    locked {
      if isShutDown { return [] }
      var ending: [pthread_t] = []
      isShutDown = true
      waiting = []
      waitingHead = 0
      tokens = [:]
      for worker in workers.values {
        if worker.isLookingUp { pthread_detach(worker.thread) } else { ending.append(worker.thread) }
      }
      workers = [:]
      wake(.max)
      return ending
    }
  }

  /// Under the lock: the thread's first step waits for it, and by then `worker.thread` is set.
  private func startWorker() -> Bool {
    let worker = Worker()
    let id = ObjectIdentifier(worker)
    guard startThread(&worker.thread, "llmpool-resolve", { self.run(id) }) == 0 else { return false }
    workers[id] = worker
    return true
  }

  // MARK: resolver threads

  func run(_ id: ObjectIdentifier) {
    while let host = nextHost(id) {
      let outcome = lookup(host)
      let receivers = locked { () -> [UInt64] in
        workers[id]?.isLookingUp = false
        lastStep = monotonicNow()
        return isShutDown ? [] : tokens.removeValue(forKey: host) ?? []
      }
      for token in receivers { handler(LookupResult(token: token, host: host, outcome: outcome)) }
    }
  }

  private enum Next {
    case host(String)
    /// Nothing to do since the word had this value.
    case nothing(UInt32)
    case end
  }

  /// Nil: the thread ends.
  private func nextHost(_ id: ObjectIdentifier) -> String? {
    let deadline = monotonicNow() + Int64(idleMilliseconds) * 1_000_000
    var wasIdle = false
    while true {
      let left = deadline - monotonicNow()
      switch next(id, isLate: left <= 0, wasIdle: wasIdle) {
      case .host(let host): return host
      case .end: return nil
      case .nothing(let seen):
        _ = Gate.sleep(on: work, while: seen, left)
        wasIdle = true
      }
    }
  }

  private func next(_ id: ObjectIdentifier, isLate: Bool, wasIdle: Bool) -> Next {
    locked {
      if wasIdle { idleWorkers -= 1 }
      guard !isShutDown else { return .end }
      if waitingHead < waiting.count {
        workers[id]?.isLookingUp = true
        started += 1
        lastStep = monotonicNow()
        return .host(takeWaiting())
      }
      guard !isLate else {
        // Nobody joins a thread that leaves by itself.
        if let worker = workers.removeValue(forKey: id) { pthread_detach(worker.thread) }
        return .end
      }
      idleWorkers += 1
      return .nothing(lp_atomic_load(work))
    }
  }

  private func takeWaiting() -> String {
    let host = waiting[waitingHead]
    waitingHead += 1
    if waitingHead == waiting.count {
      waiting.removeAll(keepingCapacity: true)
      waitingHead = 0
    }
    return host
  }
}

// MARK: getaddrinfo

/// Blocks.
@Sendable private func systemLookup(_ host: String) -> LookupResult.Outcome {
  // AI_ADDRCONFIG spares dials to a family that this machine does not have; the loopback does not count as having
  // one, so that it would hide the addresses of localhost.
  let name = host.lowercased()
  let isLocal = name == "localhost" || name.hasSuffix(".localhost")
  var (code, addresses) = askSystem(host, flags: isLocal ? 0 : AI_ADDRCONFIG)
  if code == CSYSTEM_EAI_ADDRFAMILY && !isLocal { (code, addresses) = askSystem(host, flags: 0) }
  let systemError = errno
  guard code == 0, !addresses.isEmpty else {
    let reason = code == EAI_SYSTEM ? errnoText(systemError) : code == 0 ? "no address" : gaiText(code)
    return .failed(Fault(.resolve, "cannot resolve \(host): \(reason)"))
  }
  return .addresses(addresses)
}

private func gaiText(_ code: Int32) -> String {
  gai_strerror(code).map { String(cString: $0) } ?? "error \(code)"
}

private func askSystem(_ host: String, flags: Int32) -> (code: Int32, addresses: [SocketAddress]) {
  var hints = addrinfo()
  hints.ai_family = AF_UNSPEC
  hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
  hints.ai_flags = flags
  var list: UnsafeMutablePointer<addrinfo>?
  let code = getaddrinfo(host, nil, &hints, &list)
  guard code == 0 else { return (code, []) }
  defer { freeaddrinfo(list) }
  var found: [SocketAddress] = []
  var entry = list
  while let current = entry {
    if let address = current.pointee.ai_addr.flatMap({ SocketAddress($0) }), !found.contains(address) {
      found.append(address)
    }
    entry = current.pointee.ai_next
  }
  return (0, found)
}
