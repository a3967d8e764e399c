import CLLMPoolSystem
import LLMPoolCore

/// One connection of the engine: dialled by libcurl, secured by `ByteStream`, spoken on by an `HTTPSession`.
final class Connection {
  enum Phase {
    /// libcurl has it. Can transition to: handshaking, open, closed
    case dialing
    /// TLS, or before it the wait for the system's CA store. Can transition to: open, closed
    case handshaking
    /// Can transition to: closed
    case open
    case closed
  }
  /// As much is read of one connection before the next one's turn comes.
  static let readBudget = 65_536

  let id: ConnectionID
  let origin: Origin
  let route: Route
  /// Outlives every connection, and may hold it on a list of connections to read from when it ends: not counted, which
  /// would keep both.
  unowned(unsafe) let engine: Engine
  let startedAt: Int64
  var phase = Phase.dialing
  /// While the connection is open.
  private(set) var session: HTTPSession?
  private var openStream: ByteStream?
  /// TLS begins when its authorities have been read.
  private var awaitedContext: TLSContext?
  private(set) var version = WireVersion.http1
  private(set) var address: AddressID?
  private(set) var peer = ""
  var resolvedAt: Int64 = 0
  var connectedAt: Int64 = 0
  var securedAt: Int64 = 0
  private var countedReceived: UInt64 = 0
  private var countedSent: UInt64 = 0
  /// It is on the engine's list of connections to read from, or to flush.
  var isToRead = false
  var isToFlush = false

  init(_ id: ConnectionID, _ origin: Origin, _ engine: Engine) {
    self.id = id
    self.origin = origin
    route = origin.route
    self.engine = engine
    startedAt = engine.now
  }

  var stream: ByteStream { openStream! }
  var description: String { peer.isEmpty || peer == origin.name ? origin.name : "\(origin.name) at \(peer)" }
  /// The slot and the generation, as epoll gives them back.
  var tag: UInt64 { UInt64(id.generation) << 32 | UInt64(UInt32(bitPattern: id.slot)) }
  /// For the application: unique in the pool.
  var number: UInt64 { Connection.number(id) }
  static func number(_ id: ConnectionID) -> UInt64 {
    UInt64(id.generation) << 32 | UInt64(UInt32(bitPattern: id.slot)) + 1
  }

  // MARK: Opening

  /// libcurl has connected; from now on the descriptor is ours.
  func connected(_ descriptor: Int32, _ peer: String, _ address: AddressID?) {
    self.peer = peer
    self.address = address
    connectedAt = engine.now
    engine.record(.connect, UInt64(max(0, connectedAt - resolvedAt)) / 1_000, of: origin.id.slot)
    let stream = ByteStream(descriptor: descriptor)
    openStream = stream
    let events = LP_EPOLLIN | LP_EPOLLOUT | LP_EPOLLRDHUP | LP_EPOLLET
    guard lp_epoll_control(engine.epoll, EPOLL_CTL_ADD, descriptor, events, tag) == 0 else {
      return dialFailed(Fault(.outOfMemory, "epoll_ctl failed for \(origin.name)"))
    }
    guard origin.isTLS else { return open(engine.settings.core.httpVersions == .http2 ? .http2 : .http1) }
    phase = .handshaking
    let context = engine.tls
    engine.readAuthorities()
    if context.hasAuthorities { secure(context) } else { awaitedContext = context }
  }

  func authoritiesRead(_ context: TLSContext) {
    guard phase == .handshaking, awaitedContext === context else { return }
    awaitedContext = nil
    secure(context)
  }

  private func secure(_ context: TLSContext) {
    stream.startTLS(context, serverName: origin.serverName, sessionKey: engine.sessionKey(origin))
    handshake()
  }

  private func handshake() {
    let step = stream.handshake()
    countBytes()
    switch step {
    case .again: return
    case .failed(let failure): dialFailed(Fault(failure.failure, located(failure.message)))
    case .done(let version, let resumed):
      engine.now = monotonicNow()  // what a handshake computes is no part of what follows
      securedAt = engine.now
      engine.record(.tls, UInt64(securedAt - connectedAt) / 1_000, of: origin.id.slot)
      count { $0.tlsHandshakes += 1 }
      if resumed { count { $0.tlsResumptions += 1 } }
      open(version)
    }
  }

  private func open(_ version: WireVersion) {
    phase = .open
    origin.lastDialFailure = nil
    self.version = version
    session = version == .http1 ? Http1Connection(self, engine) : Http2Connection(self, engine)
    engine.tell(.dialed(id, version, address))
    engine.needsReading(self)
  }

  func dialFailed(_ failure: Fault) {
    origin.lastDialFailure = failure.message
    shut(goodbye: false)
    engine.tell(.dialFailed(id, failure.failure))
  }

  // MARK: Readiness

  func ready(_ events: UInt32) {
    guard let openStream, phase != .closed else { return }
    let hangup = events & (LP_EPOLLRDHUP | LP_EPOLLHUP | LP_EPOLLERR) != 0
    if events & LP_EPOLLIN != 0 || hangup {
      openStream.noteReadable(hangup: hangup)
      engine.needsReading(self)
    }
    if events & LP_EPOLLOUT != 0 {
      openStream.noteWritable()
      if phase == .open { engine.needsFlush(self) } else { engine.needsReading(self) }
    }
  }

  /// Reads what there is, up to a budget; stays on the list while more is known to be there.
  func read() {
    if phase == .handshaking, awaitedContext == nil { handshake() }
    var budget = Connection.readBudget
    defer { countBytes() }
    while budget > 0, phase == .open, let session, session.wantsInput {
      switch stream.read(into: engine.readBuffer) {
      case .bytes(let count):
        budget -= count
        session.receive(UnsafeRawBufferPointer(rebasing: engine.readBuffer[..<count]))
      case .wouldBlock: return
      case .endOfFile(let clean): return session.endOfInput(clean: clean, failure: nil)
      case .failed(let failure): return session.endOfInput(clean: false, failure: failure)
      }
      guard phase == .open, stream.hasBufferedInput else { return }
    }
    if phase == .open, session?.wantsInput == true, stream.hasBufferedInput { engine.needsReading(self) }
  }

  /// Whether a kept connection can carry a request. Over HTTP/1.1 what lies there unread is nobody's answer, or the
  /// end: it is read first, while the core still takes back what it has just sent here.
  func isQuiet() -> Bool {
    guard !version.isMultiplexed, stream.holdsInput() else { return true }
    read()
    if phase == .open, stream.holdsInput() { lost(.strayBytes) }
    return phase == .open
  }

  func flush() {
    guard phase == .open else { return }
    session?.flush()
    countBytes()
  }

  /// What the socket has carried since the last call: below TLS, its handshake and its last words included.
  private func countBytes() {
    guard let openStream else { return }
    let (received, sent) = (openStream.bytesReceived, openStream.bytesSent)
    guard received != countedReceived || sent != countedSent else { return }
    count {
      $0.bytesReceived += Int(received - countedReceived)
      $0.bytesSent += Int(sent - countedSent)
    }
    (countedReceived, countedSent) = (received, sent)
  }

  /// Of the pool and of the origin alike.
  private func count(_ change: (inout WireCounters) -> Void) {
    change(&engine.counters)
    change(&origin.counters)
  }

  // MARK: Closing

  func lost(_ reason: CloseReason) {
    guard phase != .closed else { return }
    shut(goodbye: false)
    engine.tell(.connectionClosed(id, reason))
  }

  /// The core wants it closed.
  func close() {
    guard phase != .closed else { return }
    if phase == .dialing { engine.dialer.cancel(tag) }
    if phase == .open { session?.sayGoodbye() }
    shut(goodbye: true)
  }

  private func shut(goodbye: Bool) {
    guard phase != .closed else { return }
    phase = .closed
    session = nil
    if let openStream, openStream.descriptor >= 0 {
      _ = lp_epoll_control(engine.epoll, EPOLL_CTL_DEL, openStream.descriptor, 0, 0)
      openStream.close(goodbye: goodbye)
      countBytes()
    }
    engine.removed(self)
  }
}

extension Connection: SessionTransport {
  var isTLS: Bool { origin.isTLS }
  var bytesSent: UInt64 { stream.bytesSent }

  // The engine, which is not held, would be counted: only where it is needed.
  func needsFlush() { if !isToFlush { engine.needsFlush(self) } }
  func needsReading() { if !isToRead { engine.needsReading(self) } }
  func write(_ head: UnsafeRawBufferPointer, _ body: UnsafeRawBufferPointer) -> IOResult { stream.write(head, body) }
  func read(_ body: (UnsafeRawBufferPointer) -> Void) -> Bool {
    guard case .bytes(let count) = stream.read(into: engine.readBuffer) else { return false }
    body(UnsafeRawBufferPointer(rebasing: engine.readBuffer[..<count]))
    return true
  }
  func holdsInput() -> Bool { stream.holdsInput() }
  func peerRefusedInput() -> Bool { stream.peerRefusedInput() }
  func isUnacknowledged(from position: UInt64) -> Bool { stream.isUnacknowledged(from: position) }
  func located(_ message: String) -> String { "\(message) (\(description))" }
}
