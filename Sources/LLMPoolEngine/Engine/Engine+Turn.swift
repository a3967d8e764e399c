import CLLMPoolSystem
import Glibc
import LLMPoolCore

extension Engine: TurnHolder {
  /// Marks libcurl's descriptors among the tags of epoll; no connection reaches this generation.
  static let dialTag = UInt64(UInt32.max) << 32
  static let readinessCapacity = 256

  func run() {
    turn.lock()
    while !isStopped {
      let rest = fallAsleep()
      // From here on its threads may take the turn, in which another may get the ear, or none.
      var heard: CompletionQueue?
      if case .asleep(.queue, _) = rest { heard = hearer }
      turn.unlock()
      heard?.unmute()
      let count = wait(rest)
      turn.lock()
      inbox.awoke()
      // Where others may have taken turns meanwhile only what is harvested under the lock is certain to be true.
      takeTurn(count ?? look(milliseconds: 0))
    }
    tearDown()
    turn.unlock()
  }

  /// When the first of everything that has a time is due.
  private var nextDue: Int64 {
    var due = core.nextDeadline?.nanoseconds ?? .max
    if let dial = dialer.nextDeadline { due = min(due, dial) }
    if let refusal = unheardRefusals.first { due = min(due, refusal.due) }
    if let interval = resolver.reliefInterval { due = min(due, now + interval) }
    for port in portsToWake { due = min(due, port.wakeDue ?? .max) }
    return due
  }
  private var hasWorkLeft: Bool { !toRead.isEmpty || !toFlush.isEmpty }

  /// Decides who has the ear, says so in the inbox, and hangs the epoll there. From then on messages wake us.
  private func fallAsleep() -> Rest {
    guard !hasWorkLeft else { return .awake }
    var situation = Situation(now: now, due: nextDue)
    situation.isDialing = core.counters.connecting > 0
    situation.isPressed = core.counters.pending > core.counters.awaitingBudget || sending > 0
    situation.putOff = timeOfPutOffWakes
    if impatientPorts == 0 { situation.patience = patience }
    let rest = inbox.rests { shared in
      situation.live = shared.liveCount
      situation.streak = shared.streak
      return resting.decide(situation)
    }
    switch rest {
    case .awake: return rest
    case .asleep(let ear, _): if give(ear) { return rest }
    case .napping: if give(.nobody) { return rest }
    }
    return inbox.rests { _ in .asleep(.thread, alarm: situation.due) }
  }

  /// False: the queue cannot have it, as it is closed, another pool's, or the kernel refuses.
  private func give(_ ear: Ear) -> Bool {
    guard case .queue(let identity) = ear else {
      takeEarBack()
      return true
    }
    if hearer?.identity == identity { return true }
    takeEarBack()
    guard let queue = ports[identity]?.queue, queue.hang(self) else { return false }
    hearer = queue
    return true
  }

  private func takeEarBack() {
    hearer?.unhang(self)
    hearer = nil
  }

  /// Where the wake of every queue with requests in flight is put off: for how long.
  private var timeOfPutOffWakes: Int64? {
    guard !portsToWake.isEmpty else { return nil }
    var putOff = 0
    var time = Int64.max
    for port in portsToWake where port.live > 0 {
      putOff += 1
      time = min(time, port.queue.rest)
    }
    return putOff == livePorts ? time : nil
  }

  /// Returns how many descriptors are ready; nil where others may have looked meanwhile.
  private func wait(_ rest: Rest) -> Int? {
    switch rest {
    case .awake: return look(milliseconds: 0)
    case .asleep(.thread, .max): return look(milliseconds: -1)
    case .asleep(.thread, let alarm):
      let left = max(0, alarm - monotonicNow())
      // epoll counts in milliseconds, rounded up: what is due is due when it returns. Less is waited for exactly.
      if left > 0, left < 1_000_000 {
        _ = lp_wait_readable(epoll, left)
        return look(milliseconds: 0)
      }
      return look(milliseconds: Int32(min((left + 999_999) / 1_000_000, 60_000)))
    case .asleep(_, let alarm), .napping(let alarm):
      _ = lp_wait_readable(inbox.wakeDescriptor, max(0, alarm - monotonicNow()))
      return nil
    }
  }

  private func look(milliseconds: Int32) -> Int {
    Int(max(0, epoll_wait(epoll, readiness, Int32(Engine.readinessCapacity), milliseconds)))
  }

  func alarm(heardBy queue: CompletionQueue) -> Int64? {
    if case .asleep(.queue(queue.identity), let alarm) = inbox.rest { alarm } else { nil }
  }

  func takeTurn(for queue: CompletionQueue, takes: Bool, before alarm: Int64) {
    taker = takes ? queue : nil
    takeTurn(look(milliseconds: 0))
    taker = nil
    // What takes longer, is for the thread alone, or is due before its alarm.
    let isForThread = isStopped || hasWorkLeft || core.counters.connecting > 0 || nextDue < alarm
    queue.leaveTurn(of: self)
    if isForThread { inbox.wake() }
  }

  private func takeTurn(_ count: Int) {
    now = monotonicNow()
    noteSuspension()
    for index in 0..<count { descriptorReady(readiness + index) }
    readConnections()
    takeInbox()
    resolver.relieve()
    dialer.advance(now: now)
    takeDialResults()
    hearRefusals()
    recording?.append(nil, Instant(nanoseconds: now))
    core.advance(to: Instant(nanoseconds: now), into: &actions)
    runActions()
    flushConnections()
    handOut()
  }

  private func descriptorReady(_ event: UnsafePointer<epoll_event>) {
    let tag = lp_epoll_tag(event)
    let ready = lp_epoll_events(event)
    if tag == Engine.wakeTag { return }  // it has done what it is for; the thread clears it when it wakes
    if tag >= Engine.dialTag {
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

  func tell(_ attempt: AttemptID, _ phase: Phase) {
    recording?.append(.progressed(attempt, phase), Instant(nanoseconds: now))
    core.progressed(attempt, phase, now: Instant(nanoseconds: now))
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
    case .send(let attempt, let id, let connection, let isReused): with(id) { send($0, attempt, connection, isReused) }
    case .complete(let id, let completion): with(id) { complete($0, completion) }
    case .hedge(let attempt, let id, let connection, let isReused): hedge(attempt, id, connection, isReused)
    case .promoted(let attempt): promote(attempt)
    case .deliver(let attempt): with(attempt) { deliver($0) }
    case .discard(let attempt): if let request = request(attempt) { discard(request) }
    case .abort(let attempt, _): abort(attempt)
    case .close(let id, _): connection(id)?.close()
    case .dial(let id, let origin, let rotation, let deadline): dial(id, origin, rotation, deadline)
    case .resolve(let host): resolve(host)
    case .ping(let id): connection(id)?.session?.ping()
    case .releaseResets(let id): connection(id)?.session?.releaseResets()
    case .forget(let origin): forget(origin)
    case .admitted(let id): budgeted(id)
    case .forgetBudget(let id, let refusals): forgetBudget(id, refusals)
    case .leaseWanted(let id): wantLease(id)
    case .notice(let notice): note(notice)
    case .stopped:
      isStopped = true
      unheardRefusals = []
      endAllWaiting()
    }
  }

  func connection(_ id: ConnectionID) -> Connection? {
    let slot = Int(id.slot)
    guard slot < connections.count, let connection = connections[slot], connection.id == id else { return nil }
    return connection
  }

  func request(_ attempt: AttemptID) -> RequestState? {
    guard let request = requests[Int(attempt.slot)]?.takeUnretainedValue(), request.attempt.id == attempt
    else { return twin(attempt) }
    return request
  }

  /// The same for `body`, without being counted.
  @inline(__always)
  private func with(_ attempt: AttemptID, _ body: (RequestState) -> Void) {
    let isFound = requests[Int(attempt.slot)]?._withUnsafeGuaranteedRef { request in
      guard request.attempt.id == attempt else { return false }
      body(request)
      return true
    }
    if isFound != true, let twin = twin(attempt) { body(twin) }
  }

  /// Calls `body` with the request, if it is not over, without its being counted.
  @inline(__always)
  private func with(_ id: RequestID, _ body: (RequestState) -> Void) {
    requests[id.slot]?._withUnsafeGuaranteedRef { if $0.id == id { body($0) } }
  }

  /// Those that are not over.
  var liveRequests: [RequestState] { requests.compactMap { $0?.takeUnretainedValue() } }

  func twin(_ attempt: AttemptID) -> RequestState? {
    guard !twins.isEmpty, let twin = twins[attempt.slot], twin.attempt.id == attempt else { return nil }
    return twin
  }

  func removed(_ connection: Connection) {
    if connections[Int(connection.id.slot)] === connection { connections[Int(connection.id.slot)] = nil }
  }

  // MARK: The inbox

  private func takeInbox() {
    // Two arrays by turns, as for actions.
    inbox.withLock { shared in
      swap(&messages, &shared.messages)
      patience = shared.patience
      shared.patience = nil
    }
    guard !messages.isEmpty else { return }
    for message in messages { take(message) }
    runActions()
    messages.removeAll(keepingCapacity: messages.capacity <= Engine.keptMessages)
  }
  /// A burst's memory is given back.
  private static let keptMessages = 16_384

  private func take(_ message: Message) {
    switch message {
    case .submit(let request): request._withUnsafeGuaranteedRef { admit($0) }
    case .cancel(let id): cancel(id)
    case .credit(let id, let bytes, let records): credit(id, bytes, records: records)
    case .queueClosed(let queue): cancelAll(of: queue)
    case .configure(let configuration): apply(configuration)
    case .configureBudget(let configuration):
      tell(.budgetConfigured(budget(named: configuration.name), configuration.options))
    case .share(let sharing): take(sharing)
    case .grant(let grant): take(grant)
    case .settle(let id, let input, let output): tell(.settled(id, input: input, output: output))
    case .warm(let request, let connections): tell(.warm(originID(of: request), connections: connections))
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
    ports[queue.identity] = nil
    lastPort = nil
    unwatch(queue)
    if hearer === queue { takeEarBack() }
    inbox.withLock { if $0.streak.queue == queue.identity { $0.streak.end() } }
    for request in liveRequests where request.queue === queue { cancel(request.id) }
  }

  private func apply(_ configuration: Configuration) {
    let new = configuration.settings
    let identityChanged =
      !new.sharesConnections(with: settings) || !configuration.tls.isSame(as: tls)
      || configuration.proxyRules != proxyRules
    // Those under way keep what they were submitted with, which the messages of their ends will say.
    for request in liveRequests { request.options = request.options.resolved(with: settings.core) }
    for twin in twins.values { twin.options = twin.options.resolved(with: settings.core) }
    settings = new
    quietEvents = new.quietEventNames
    if identityChanged {
      tls = configuration.tls
      proxyRules = configuration.proxyRules
      chooseRoutes()
      if origins.contains(where: { $0?.isTLS == true }) { readAuthorities() }
    }
    tell(.reconfigured(settings.core, identityChanged: identityChanged))
  }

  // MARK: The end of a turn

  /// In the words of the design: statistics first, then the ids, then the events, so that whoever sees a DONE finds
  /// everything else as of then.
  func handOut() {
    #if !LLMPOOL_NO_RECORDING
      if completed.isEmpty, touchedPorts.isEmpty, !isStopped { leaveUnpublished() } else { publishStatistics() }
    #endif
    if !completed.isEmpty {
      inbox.withLock { shared in
        for each in completed {
          each.giveAway(shared.live[each.slot].take()!)
          shared.freeSlots.append(Int32(truncatingIfNeeded: each.slot))
        }
      }
      completed.removeAll(keepingCapacity: true)
    }
    for port in touchedPorts {
      let due = port.queue.publish(
        port.staged, now: now, quietly: port.queue === taker, mayWait: port.live > 1 && !port.isPressed)
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
    takeEarBack()
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
