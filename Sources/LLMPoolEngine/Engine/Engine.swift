import CLLMPoolSystem
import Glibc
import LLMPoolCore
import LLMPoolWire
import Synchronization

/// Does what the core decides: one thread that owns every socket, and the inbox by which the others reach it.
///
/// A turn: wait for descriptors, the inbox or the next deadline; move bytes and tell the core what happened; take the
/// inbox; let the core do what is due; run its actions; flush every touched connection once; hand out the events.
package final class Engine: @unchecked Sendable {
  // MARK: For any thread

  let inbox: Inbox
  let published = PublishedStatistics()
  /// A turn was taken since.
  let hasUnpublished = Atomic<Bool>(false)
  /// One was named or configured.
  let hasBudgets = Atomic<Bool>(false)
  /// Held by the engine's thread except while it waits: who holds it instead has parked the engine.
  let turn = Lock()
  /// Its waiters: the engine's thread, or those of the queue that has the ear, through the queue's descriptor.
  let epoll: Int32
  private var thread = pthread_t()
  private let generation = ProcessHooks.generation
  /// 1 once the thread has ended its work; who closes the pool sleeps on it.
  private let ended = UnsafeMutablePointer<UInt32>.allocate(capacity: 1)

  // MARK: For the engine's thread alone

  var core: PoolStateMachine
  let recording: EventRecording?
  var settings: PoolSettings
  var tls: TLSContext
  var authorityReadings: [AuthorityReading] = []
  var proxyRules: ProxyRules
  var dialer: Dialer!
  private let dialWatcher: DialWatcher
  var resolver: Resolver!
  var now: Int64
  var actions: [Action] = []
  var running: [Action] = []
  var messages: [Message] = []
  /// By their slots. Not counted: the inbox holds each until the end of the turn in which it is over.
  var requests: [Unmanaged<RequestState>?] = []
  /// Those of whose answers the core has not been told, the oldest first.
  var unheardRefusals: [UnheardRefusal] = []
  /// Second attempts, beside the request in the same slot.
  var twins: [Int32: RequestState] = [:]
  var connections: [Connection?] = []
  var origins: [Origin?] = []
  var originByName: [String: Int] = [:]
  /// Of the last request without a server name, and what its URL said.
  var lastOrigin: OriginID?
  var lastOriginText: [UInt8] = []
  var budgetNames = BudgetNames()
  /// Of those without series of their own that the core has forgotten.
  var refusalsOfForgotten = 0
  /// Of the last request that had one.
  var lastBudget: (name: [UInt8], id: BudgetID)?
  /// Some budget is or was shared with other processes.
  var isSharing = false
  /// How single budgets are shared, by their names, since something was said of all.
  var sharings: [String: BudgetSharing] = [:]
  /// For how long the machine has been suspended, as it was looked at last.
  var suspended: Int64 = 0
  /// Budgets of which it was said that they want a lease, and nobody has asked for one since.
  var wantedLeases: Set<BudgetID> = []
  var hosts: [Host?] = []
  var hostByNames: [HostNames: Int] = [:]
  var hostGeneration: UInt32 = 0
  var addressIDs: [SocketAddress: AddressID] = [:]
  /// Of the pool; each origin has its own beside.
  var counters = WireCounters()
  /// What `settings` has as text.
  var quietEvents: [[UInt8]]
  let http2Workspace = Http2Workspace()
  let readBuffer: UnsafeMutableRawBufferPointer
  var toRead: [Connection] = []
  var toFlush: [Connection] = []
  var working: [Connection] = []
  var events = EventAllocator()
  var joined = JoinedEvents()
  var ports: [ObjectIdentifier: QueuePort] = [:]
  /// The one used last, as a rule the next one too.
  var lastPort: QueuePort?
  var touchedPorts: [QueuePort] = []
  /// Whose wake was put off.
  var portsToWake: [QueuePort] = []
  /// Queues with requests in flight.
  var livePorts = 0
  /// Those of them whose wakes are never put off.
  var impatientPorts = 0
  /// See `Inbox.State`; of the messages that were taken last.
  var patience: Int64?
  /// Requests that were begun and not sent to their end.
  var sending = 0
  var watchers: [Watcher] = []
  var resting = Resting()
  /// The queue in whose descriptor the epoll hangs.
  var hearer: CompletionQueue?
  /// The queue whose thread takes its events right after the turn that it takes now.
  var taker: CompletionQueue?
  /// What epoll reports.
  let readiness = UnsafeMutablePointer<epoll_event>.allocate(capacity: Engine.readinessCapacity)
  var completed: [Completed] = []
  /// Origins that were forgotten since the statistics were published.
  var forgotten: [String] = []
  /// Durations of this turn.
  var samples: [Sample] = []
  /// So many of them; the rest is room for others.
  var sampleCount = 0
  var lastPublishedWire = WireCounters()
  var lastPublishedLimit = Int.max
  var isStopped = false
  /// Of its own, which are about to end when it does.
  var leavingThreads: [pthread_t] = []

  var streamWindow: Int { Int(settings.streamWindow) }

  /// Starts the thread. Files that the options name are read here.
  package convenience init(_ settings: PoolSettings, recording: EventRecording? = nil) throws(Fault) {
    try self.init(try Configuration(settings), recording: recording)
  }

  /// Starts the thread.
  init(_ configuration: Configuration, recording: EventRecording? = nil) throws(Fault) {
    Memory.isPrepared
    settings = configuration.settings
    quietEvents = configuration.settings.quietEventNames
    tls = configuration.tls
    proxyRules = configuration.proxyRules
    now = monotonicNow()
    let seed = UInt64.random(in: .min ... .max)
    core = PoolStateMachine(options: settings.core, seed: seed)
    self.recording = recording
    recording?.begin(seed: seed, options: settings.core)
    ended.initialize(to: 0)
    inbox = Inbox()
    epoll = lp_epoll_create()
    Descriptors.note(epoll)
    readBuffer = .allocate(byteCount: Connection.readBudget, alignment: 16)
    dialWatcher = DialWatcher(epoll: epoll)
    do throws(Fault) {
      try open()
    } catch {
      dialer?.shutdown()
      Descriptors.close(epoll)
      Descriptors.close(inbox.wakeDescriptor)
      throw error
    }
  }

  private func open() throws(Fault) {
    guard epoll >= 0, inbox.wakeDescriptor >= 0,
      lp_epoll_control(epoll, EPOLL_CTL_ADD, inbox.wakeDescriptor, LP_EPOLLIN | LP_EPOLLET, Engine.wakeTag) == 0
    else {
      throw Fault(.outOfMemory, "no descriptors for the pool's event loop: \(String(cString: strerror(errno)))")
    }
    dialer = try Dialer(watcher: dialWatcher)
    resolver = Resolver { [inbox] result in inbox.post(.lookedUp(result)) }
    try start()
  }

  deinit {
    readBuffer.deallocate()
    readiness.deallocate()
    ended.deallocate()
  }

  // MARK: Calls of the application

  private static let serials = Atomic<UInt64>(0)

  /// Takes the request. `identified` is called with its id before any event of it can be seen.
  package func submit(
    _ input: RequestInput, queue: CompletionQueue, identified: (UInt64) -> Void
  ) throws(Fault) {
    let request = try RequestState(input, queue: queue, now: monotonicNow())
    request.inbox = inbox
    guard let isBusy = queue.attach(inbox) else { throw Fault(.closed, "queue: it is closed") }
    let serial = Engine.serials.add(1, ordering: .relaxed).newValue
    enum Step { case taken, lone, closed, full }
    let step: Step = inbox.withLock { shared in
      guard !shared.isClosing else { return .closed }
      let slot: Int
      if let free = shared.freeSlots.popLast() {
        slot = Int(free)
      } else {
        slot = shared.live.count
        guard slot < RequestID.slotLimit else { return .full }
        shared.live.append(nil)
      }
      request.id = RequestID(serial: serial, slot: slot)
      shared.live[slot] = request
      identified(request.id.value)
      let taker = shared.noteSubmission(of: queue, isBusy: isBusy, inbox.rest)
      inbox.deliver(.submit(.passUnretained(request)), quietly: taker != .waked, &shared)
      return taker == .caller ? .lone : .taken
    }
    switch step {
    case .taken: return
    case .lone: if !queue.help(self) { inbox.wake() }
    case .closed: throw Fault(.closed, "pool: it is closed")
    case .full:
      throw Fault(.queueFull, "pool: \(RequestID.slotLimit) requests are in flight, the most there can be")
    }
  }

  /// False: there is no such request, or it is over.
  package func cancel(_ id: UInt64) -> Bool { postIfLive(id) { .cancel($0) } }
  package func credit(_ id: UInt64, _ bytes: Int) -> Bool { postIfLive(id) { .credit($0, bytes, records: 0) } }

  private func postIfLive(_ id: UInt64, _ message: (RequestID) -> Message) -> Bool {
    inbox.withLock { shared in
      guard let request = Engine.live(id, shared) else { return false }
      inbox.deliver(message(request.id), &shared)
      return true
    }
  }

  private static func live(_ id: UInt64, _ shared: borrowing Inbox.State) -> RequestState? {
    let slot = RequestID(value: id).slot
    guard slot < shared.live.count, let request = shared.live[slot], request.id.value == id else { return nil }
    return request
  }

  /// Adds a piece to the body of an upload. False: nothing was taken, a WRITABLE event says when to go on.
  package func write(_ id: UInt64, _ piece: UnsafeRawBufferPointer, last: Bool) throws(Fault) -> Bool {
    guard let request = inbox.withLock({ Engine.live(id, $0) }) else {
      throw Fault(.notFound, "request_id: no request \(id), or it is over")
    }
    guard let upload = request.upload else {
      throw Fault(.invalidArgument, "request_id: request \(id) was not submitted with LLMPOOL_REQUEST_UPLOAD")
    }
    switch upload.add(piece, last: last, announce: { post(.written(request.id)) }) {
    case .taken: return true
    case .full: return false
    case .refused(let reason): throw Fault(.invalidArgument, reason)
    case .outOfMemory: throw Fault(.outOfMemory, "size: no memory for a piece of \(piece.count) bytes")
    }
  }

  /// Sends notices of these kinds to the queue; an empty mask ends it.
  package func watch(_ queue: CompletionQueue, _ notices: UInt32, userData: UInt64) throws(Fault) {
    let mask = NoticeMask(rawValue: notices)
    guard mask.isSubset(of: .all) else { throw Fault(.unsupported, "notices: unknown bits in \(notices)") }
    guard queue.attach(inbox) != nil else { throw Fault(.closed, "queue: it is closed") }
    post(.watch(Watcher(queue: queue, mask: mask, userData: userData)))
  }

  package func metrics(_ format: MetricsFormat) -> String { upToDate.metrics(format, shownBudgets) }

  /// Opens connections to the URL's origin ahead of need.
  package func warm(_ url: UnsafeRawBufferPointer, connections: Int) throws(Fault) {
    var input = RequestInput()
    input.url = url
    let request = try RequestState(input, queue: CompletionQueue(), now: monotonicNow())
    post(.warm(request, connections: connections))
  }

  package func configure(_ settings: PoolSettings) throws(Fault) { configure(try Configuration(settings)) }

  func configure(_ configuration: Configuration) {
    post(.configure(configuration))
  }

  package var statistics: Statistics { upToDate.pool }
  package func statistics(ofOrigin name: String) throws(Fault) -> Statistics {
    try known(name, upToDate.origin(name))
  }
  /// One of each kind, in their order: of an origin, or, nil, of the pool with the origins that it has forgotten.
  package func histograms(ofOrigin name: String?) throws(Fault) -> [Histogram] {
    guard let name else { return upToDate.histograms }
    return try known(name, upToDate.histograms(ofOrigin: name))
  }
  /// Of an origin, or, nil, of the pool.
  package func reasons(ofOrigin name: String?) throws(Fault) -> ReasonCounts {
    guard let name else { return upToDate.reasons }
    return try known(name, upToDate.reasons(ofOrigin: name))
  }

  private func known<Value>(_ name: String, _ value: Value?) throws(Fault) -> Value {
    if let value { return value }
    guard name.hasPrefix("http://") || name.hasPrefix("https://") else {
      throw Fault(.invalidArgument, "origin: expected \"scheme://host:port\", as llmpool_origins() lists them")
    }
    throw Fault(.notFound, "origin: the pool knows no \(name)")
  }
  package var originNames: [String] { upToDate.originNames }

  /// Takes no more requests; returns when every one is over and the thread has ended. False: closed before.
  package func close(drain milliseconds: UInt32) -> Bool {
    let wasOpen = inbox.withLock { shared in
      guard !shared.isClosing else { return false }
      shared.isClosing = true
      inbox.deliver(.close(deadline: monotonicNow() + Int64(milliseconds) * 1_000_000), &shared)
      return true
    }
    guard wasOpen else { return false }
    while lp_atomic_load(ended) == 0 {
      // At the end of the process the thread stands still for good.
      guard Gate.sleep(on: ended, while: 0, -1) != ECANCELED else { return true }
      // A signal's handler has forked, and this is the child, which has no such thread.
      guard generation == ProcessHooks.generation else { return true }
    }
    pthread_join(thread, nil)
    return true
  }

  func post(_ message: Message) { inbox.post(message) }

  /// After a look at what is the engine's: who found the turn taken meanwhile has muted his descriptor and waits for
  /// the thread.
  func giveTurnBack() {
    turn.unlock()
    inbox.wake()
  }

  // MARK: The thread

  static let wakeTag = UInt64.max

  private func start() throws(Fault) {
    let result = startThread(&thread, "llmpool") {
      self.run()
      for thread in self.leavingThreads { pthread_join(thread, nil) }
      lp_atomic_increment(self.ended)
      lp_futex_wake(self.ended, .max)
    }
    guard result == 0 else { throw Fault(.outOfMemory, "no thread for the pool: \(errnoText(result))") }
  }
}

/// Puts libcurl's descriptors into the engine's epoll.
private final class DialWatcher: DescriptorWatcher {
  private let epoll: Int32
  init(epoll: Int32) { self.epoll = epoll }

  func watch(_ descriptor: Int32, read: Bool, write: Bool) {
    let events = (read ? LP_EPOLLIN : 0) | (write ? LP_EPOLLOUT : 0)
    let tag = Engine.dialTag | UInt64(UInt32(bitPattern: descriptor))
    if lp_epoll_control(epoll, EPOLL_CTL_MOD, descriptor, events, tag) != 0 {
      _ = lp_epoll_control(epoll, EPOLL_CTL_ADD, descriptor, events, tag)
    }
  }
  func unwatch(_ descriptor: Int32) { _ = lp_epoll_control(epoll, EPOLL_CTL_DEL, descriptor, 0, 0) }
}
