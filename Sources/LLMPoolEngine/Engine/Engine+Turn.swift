import CLLMPoolSystem
import Glibc
import LLMPoolCore

extension Engine {
  /// Marks libcurl's descriptors among the tags of epoll; no connection reaches this generation.
  static let dialTag = UInt64(UInt32.max) << 32
  static let eventCapacity = 256

  func run() {
    let events = UnsafeMutablePointer<epoll_event>.allocate(capacity: Engine.eventCapacity)
    defer { events.deallocate() }
    turn.lock()
    while !isStopped {
      let sleep = nextSleep()
      turn.unlock()
      let count = self.sleep(sleep, events)
      turn.lock()
      takeTurn(events, count)
    }
    tearDown()
    turn.unlock()
  }

  private enum Sleep {
    case none
    /// Until something happens, or the deadline.
    case watching(until: Int64)
    /// Until another thread has a message, or the deadline; the sockets are looked at afterwards.
    case dozing(until: Int64)
  }

  /// Whoever posts a message wakes us once this is not `none`.
  private func nextSleep() -> Sleep {
    guard toRead.isEmpty, toFlush.isEmpty else { return .none }
    let mustNotSleep = inbox.withLock { shared in
      guard shared.messages.isEmpty else { return true }
      shared.isSleeping = true
      return false
    }
    guard !mustNotSleep else { return .none }
    var deadline = core.nextDeadline?.nanoseconds ?? .max
    if let dial = dialer.nextDeadline { deadline = min(deadline, dial) }
    if let interval = resolver.reliefInterval { deadline = min(deadline, now + interval) }
    for port in portsToWake { deadline = min(deadline, port.wakeDue ?? .max) }
    if let doze = reviewDriver() { return .dozing(until: min(deadline, now + doze)) }
    if let doze = timeNobodyHears() { return .dozing(until: min(deadline, now + doze)) }
    return .watching(until: deadline)
  }

  /// Where the wake of every queue with requests in flight is put off, what comes meanwhile is told to nobody: for so
  /// long an answer that comes now may be left where it is. Nil: something is to be done or told at once.
  private func timeNobodyHears() -> Int64? {
    guard !portsToWake.isEmpty, core.counters.connecting == 0 else { return nil }
    var putOff = 0
    var time = Int64.max
    for port in portsToWake where port.live > 0 {
      putOff += 1
      time = min(time, port.queue.coalesce)
    }
    return putOff == livePorts && time > 0 ? time : nil
  }

  private func sleep(_ sleep: Sleep, _ events: UnsafeMutablePointer<epoll_event>) -> Int {
    switch sleep {
    case .none: return look(events, milliseconds: 0)
    case .watching(.max): return look(events, milliseconds: -1)
    case .watching(let deadline):
      // Rounded up, so that what is due is due when epoll returns.
      let left = max(0, deadline - monotonicNow() + 999_999) / 1_000_000
      return look(events, milliseconds: Int32(min(left, 60_000)))
    case .dozing(let deadline):
      if lp_wait_readable(inbox.wakeDescriptor, max(0, deadline - monotonicNow())) == 0 {
        lp_eventfd_clear(inbox.wakeDescriptor)
      }
      return look(events, milliseconds: 0)
    }
  }

  func look(_ events: UnsafeMutablePointer<epoll_event>, milliseconds: Int32) -> Int {
    Int(max(0, epoll_wait(epoll, events, Int32(Engine.eventCapacity), milliseconds)))
  }

  func takeTurn(_ events: UnsafeMutablePointer<epoll_event>, _ count: Int, byDriver: Bool = false) {
    now = monotonicNow()
    for index in 0..<count { descriptorReady(events + index, byDriver) }
    readConnections()
    takeInbox(byDriver)
    resolver.relieve()
    dialer.advance(now: now)
    takeDialResults()
    recording?.append(nil, Instant(nanoseconds: now))
    core.advance(to: Instant(nanoseconds: now), into: &actions)
    runActions()
    flushConnections()
    handOut()
  }

  private func descriptorReady(_ event: UnsafePointer<epoll_event>, _ byDriver: Bool) {
    let tag = lp_epoll_tag(event)
    let ready = lp_epoll_events(event)
    if tag == Engine.wakeTag {
      // It is the engine's thread that is to wake.
      if !byDriver { lp_eventfd_clear(inbox.wakeDescriptor) }
    } else if tag >= Engine.dialTag {
      dialer.descriptorReady(
        Int32(truncatingIfNeeded: tag), readable: ready & LP_EPOLLIN != 0, writable: ready & LP_EPOLLOUT != 0,
        error: ready & (LP_EPOLLERR | LP_EPOLLHUP) != 0)
    } else {
      connection(tag)?.ready(ready)
    }
  }

  private func connection(_ tag: UInt64) -> Connection? {
    let slot = Int(UInt32(truncatingIfNeeded: tag))
    guard slot < connections.count, let connection = connections[slot], connection.tag == tag else { return nil }
    return connection
  }

  /// So many actions are enough for a turn.
  private static let actionLimit = 256

  /// Each connection that has input once; those with more are looked at again after everything else had its turn.
  /// With much to do the rest waits for the next turn: what this one has read is handed out, and the requests that come
  /// for it are sent, while they lie in the processor's cache.
  private func readConnections() {
    guard !toRead.isEmpty else { return }
    swap(&toRead, &working)
    var next = 0
    while next < working.count, actions.count < Engine.actionLimit {
      let connection = working[next]
      connection.isToRead = false
      connection.read()
      next += 1
    }
    if next < working.count { toRead.insert(contentsOf: working[next...], at: 0) }
    working.removeAll(keepingCapacity: true)
    runActions()
  }

  func needsReading(_ connection: Connection) {
    guard !connection.isToRead else { return }
    connection.isToRead = true
    toRead.append(connection)
  }

  func needsFlush(_ connection: Connection) {
    guard !connection.isToFlush else { return }
    connection.isToFlush = true
    toFlush.append(connection)
  }

  /// Flushing may fail connections, which moves their requests to others, which are then to be flushed.
  private func flushConnections() {
    while !toFlush.isEmpty {
      swap(&toFlush, &working)
      for connection in working {
        connection.isToFlush = false
        connection.flush()
      }
      working.removeAll(keepingCapacity: true)
      runActions()
    }
  }

  // MARK: The core

  func tell(_ event: Event) {
    recording?.append(event, Instant(nanoseconds: now))
    core.handle(event, now: Instant(nanoseconds: now), into: &actions)
  }

  /// Actions may cause events, which cause actions; they run in the order in which they were decided.
  private func runActions() {
    while !actions.isEmpty {
      // Two arrays by turns: a copy that is held would make each turn allocate.
      swap(&actions, &running)
      for action in running { run(action) }
      running.removeAll(keepingCapacity: true)
    }
  }

  private func run(_ action: Action) {
    switch action {
    case .send(let attempt, let id, let connection, let isReused): send(attempt, id, connection, isReused)
    case .complete(let id, let completion): complete(id, completion)
    case .deliver(let attempt): if let request = request(attempt) { deliver(request) }
    case .discard(let attempt): if let request = request(attempt) { discard(request) }
    case .abort(let attempt, _): abort(attempt)
    case .close(let id, _): connection(id)?.close()
    case .dial(let id, let origin, let rotation): dial(id, origin, rotation)
    case .resolve(let host): resolve(host)
    case .ping(let id): connection(id)?.session?.ping()
    case .forget(let origin): forget(origin)
    case .notice(let notice): note(notice)
    case .stopped: isStopped = true
    }
  }

  func connection(_ id: ConnectionID) -> Connection? {
    let slot = Int(id.slot)
    guard slot < connections.count, let connection = connections[slot], connection.id == id else { return nil }
    return connection
  }

  func request(_ attempt: AttemptID) -> RequestState? {
    guard let request = requests[Int(attempt.slot)], request.attempt == attempt else { return nil }
    return request
  }

  func removed(_ connection: Connection) {
    if connections[Int(connection.id.slot)] === connection { connections[Int(connection.id.slot)] = nil }
  }

  // MARK: The inbox

  private func takeInbox(_ byDriver: Bool) {
    var batch: [Message] = []
    inbox.withLock { shared in
      if !byDriver { shared.isSleeping = false }
      swap(&batch, &shared.messages)
    }
    guard !batch.isEmpty else { return }
    for message in batch { take(message) }
    runActions()
    batch.removeAll(keepingCapacity: true)
    inbox.withLock { shared in
      if shared.messages.isEmpty, shared.messages.capacity < batch.capacity { swap(&batch, &shared.messages) }
    }
  }

  private func take(_ message: Message) {
    switch message {
    case .submit(let request): admit(request)
    case .cancel(let id): tell(.cancelled(id))
    case .credit(let id, let bytes): credit(id, bytes)
    case .queueClosed(let queue): cancelAll(of: queue)
    case .configure(let settings, let context, let rules): apply(settings, context, rules)
    case .warm(let request, let connections): tell(.warm(origin(of: request).id, connections: connections))
    case .watch(let watcher): watch(watcher)
    case .written(let id): written(id)
    case .lookedUp(let result):
      resolver.cameBack()
      lookedUp(result)
    case .authoritiesRead(let context): authoritiesRead(context)
    case .close(let deadline): tell(.closing(deadline: Instant(nanoseconds: deadline)))
    }
  }

  private func cancelAll(of queue: CompletionQueue) {
    ports[ObjectIdentifier(queue)] = nil
    lastPort = nil
    unwatch(queue)
    if driving.queue === queue { endDriving() }
    inbox.withLock { if $0.loneQueue === queue { $0.loneQueue = nil } }
    for case let request? in requests where request.queue === queue { tell(.cancelled(request.id)) }
  }

  private func apply(_ settings: PoolSettings, _ context: TLSContext, _ rules: ProxyRules) {
    let identityChanged = !settings.sharesConnections(with: self.settings) || rules != proxyRules
    self.settings = settings
    if identityChanged {
      tls = context
      proxyRules = rules
      chooseRoutes()
      if origins.contains(where: { $0?.isTLS == true }) { readAuthorities() }
    }
    tell(.reconfigured(settings.poolOptions, identityChanged: identityChanged))
  }

  // MARK: The end of a turn

  /// In the words of the design: statistics first, then the ids, then the events, so that whoever sees a DONE finds
  /// everything else as of then.
  func handOut() {
    publishStatistics()
    if !completed.isEmpty {
      inbox.withLock { shared in
        for id in completed {
          shared.live[id.slot] = nil
          shared.freeSlots.append(Int32(truncatingIfNeeded: id.slot))
        }
      }
      completed.removeAll(keepingCapacity: true)
    }
    for port in touchedPorts {
      let due = port.queue.publish(
        port.staged, now: now, quietly: port.queue === driving.taker, mayWait: port.live > 1 && !port.isPressed)
      port.isPressed = false
      port.staged.removeAll(keepingCapacity: true)
      if port.wakeDue == nil, due != nil { portsToWake.append(port) }
      port.wakeDue = due
    }
    touchedPorts.removeAll(keepingCapacity: true)
    guard !portsToWake.isEmpty else { return }
    portsToWake.removeAll { port in
      guard let due = port.wakeDue else { return true }
      guard due <= now else { return false }
      port.wakeDue = nil
      port.queue.wakePutOff(now: now)
      return true
    }
  }

  // MARK: The end

  /// Every request is over and every connection closed.
  private func tearDown() {
    endDriving()
    for case let connection? in connections { connection.close() }
    leavingThreads = resolver.stop() + authorityReadings.compactMap { $0.stop() }
    authorityReadings.removeAll()
    dialer.shutdown()
    Descriptors.close(epoll)
    Descriptors.close(inbox.wakeDescriptor)
    inbox.end()
    // What OpenSSL keeps for this thread would else be freed at its end, when nothing holds a fork or an exit back.
    OPENSSL_thread_stop()
  }
}
