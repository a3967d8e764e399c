import CLLMPoolSystem
import Glibc
import LLMPoolCore
import LLMPoolWire

// Events are made here, in the memory that the application will hold.
extension Engine {
  /// DATA events are no longer than this.
  static let dataLimit = 65_536
  /// A collected body up to this size is copied beside its event; a larger one changes hands.
  static let copiedBodyLimit = 4_096

  private func stage(_ record: UnsafeMutablePointer<EventRecord>, _ request: RequestState) {
    if let port = request.port { stage(record, on: port) }
  }

  private func stage(_ record: UnsafeMutablePointer<EventRecord>, on port: QueuePort) {
    if port.staged.isEmpty { touchedPorts.append(port) }
    port.staged.append(record)
  }

  func port(of queue: CompletionQueue) -> QueuePort {
    if let lastPort, lastPort.queue === queue { return lastPort }
    let port = ports[queue.identity] ?? addPort(of: queue)
    lastPort = port
    return port
  }

  private func addPort(of queue: CompletionQueue) -> QueuePort {
    let port = QueuePort(queue)
    // Those of queues that are gone are dropped here, so that short-lived queues leave nothing behind.
    if ports.count >= 256 { ports = ports.filter { !$0.value.queue.isClosed } }
    ports[queue.identity] = port
    return port
  }

  private func fill(_ record: UnsafeMutablePointer<EventRecord>, _ request: RequestState, _ kind: EventKind) {
    record.pointee.requestID = request.id.value
    record.pointee.userData = request.userData
    record.pointee.kind = kind
    if request.attempt.isReused { record.pointee.flags = .reused }
    record.pointee.connectionID = request.attempt.connection?.number ?? 0
  }

  /// Status, reason, headers and peer, as HEAD and DONE carry them.
  private func fillHead(
    _ record: UnsafeMutablePointer<EventRecord>, _ request: RequestState
  ) {
    record.pointee.httpStatus = UInt32(request.answer.status)
    record.pointee.httpVersion = request.answer.version
    record.pointee.reason = record.copy(request.answer.reason)
    var peer = request.attempt.connection?.peer ?? ""
    record.pointee.peer = peer.withUTF8 { record.copy(UnsafeRawBufferPointer($0)) }
  }

  func stageHead(_ request: RequestState) {
    let size = request.answer.head.count + (request.attempt.connection?.peer.utf8.count ?? 0)
    let record = events.makeRecord(bytes: size, parts: 3)
    fill(record, request, .head)
    fillHead(record, request)
    record.pointee.headers = record.copy(request.answer.headers)
    record.pointee.attempts = request.attempt.number
    record.pointee.timings = request.attempt.timings
    record.pointee.hasTimings = true
    stage(record, request)
  }

  /// Stages bytes of `rest`, and takes them off it, as long as the application may hold more. Returns how many of them
  /// it had given credit for before they came.
  func stageData(_ request: RequestState, _ rest: inout UnsafeRawBufferPointer) -> Int {
    // Where events were asked for and the answer is none of them, its first byte counts after all.
    if request.attempt.timings.firstData == 0 { request.attempt.timings.firstData = microseconds(since: request) }
    var staged = 0
    while rest.count > 0, !isFull(request.answer) {
      let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(Engine.dataLimit))
      if !joinData(request, piece) {
        let record = makeRecord(request, bytes: piece.count, parts: 1)
        fill(record, request, .data)
        record.pointee.data = record.copy(piece)
        record.pointee.credit = UInt32(piece.count)
        lend(record, request, memory: Engine.recordMemory)
        stage(record, request)
      }
      staged += piece.count
      rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(piece.count))
    }
    let ahead = takeCreditAhead(request, staged)
    noteUncredited(request, staged - ahead)
    return ahead
  }

  /// Pieces of a body that come in one turn are one event, where nothing came between them.
  private func joinData(_ request: RequestState, _ piece: UnsafeRawBufferPointer) -> Bool {
    guard let last = request.port?.staged.last, last.pointee.kind == .data,
      last.pointee.requestID == request.id.value, last.pointee.data.count + piece.count <= Engine.dataLimit,
      let joined = last.pointee.chunk._withUnsafeGuaranteedRef({ $0.extend(last.pointee.data, by: piece) })
    else { return false }
    last.pointee.data = joined
    last.pointee.credit += UInt32(piece.count)
    return true
  }

  // MARK: What the application holds

  /// What an event takes beside its bytes: the record, its place in the queue, the ends of its runs.
  private static let recordMemory = EventChunk.rounded(MemoryLayout<EventRecord>.size) + 48
  /// In such steps the memory of records is given back.
  private static let recordStep = 16_384
  /// Beyond so much of it a stream's records lie by themselves.
  private static let sharedRecordLimit = 65_536

  /// The window bounds the bytes of an answer that the application holds, and as much again of the records that point
  /// to them: a server that sends byte by byte makes records a hundred times as large as what they carry.
  func isFull(_ answer: borrowing Answer) -> Bool { answer.recordBytes >= streamWindow && !answer.holdsAll }

  /// More than half of either: the server may be silent for that reason.
  func holdsMuch(_ answer: borrowing Answer) -> Bool {
    answer.uncredited > streamWindow / 2 || answer.recordBytes > streamWindow / 2
  }

  @inline(__always)
  private func makeRecord(
    _ request: RequestState, bytes: Int, parts: Int
  ) -> UnsafeMutablePointer<EventRecord> {
    guard request.answer.recordBytes > Engine.sharedRecordLimit else {
      return events.makeRecord(bytes: bytes, parts: parts)
    }
    if request.answer.events == nil { request.answer.events = EventAllocator() }
    return request.answer.events!.makeRecord(bytes: bytes, parts: parts)
  }

  /// For an event: the one record whose size the server decides within wide limits.
  @inline(__always)
  private func hasMemory(_ request: RequestState, _ bytes: Int) -> Bool {
    guard bytes > EventChunk.usualSize / 2 else { return true }
    guard request.answer.recordBytes > Engine.sharedRecordLimit else { return events.prepare(bytes: bytes, parts: 3) }
    if request.answer.events == nil { request.answer.events = EventAllocator() }
    return request.answer.events!.prepare(bytes: bytes, parts: 3)
  }

  /// Counts the memory of a record. One in so many gives back, when it is released, that of the ones before it, too:
  /// to be told of each would cost more than the events do.
  @inline(__always)
  private func lend(_ record: UnsafeMutablePointer<EventRecord>, _ request: RequestState, memory: Int) {
    request.answer.recordBytes += memory
    request.answer.unclaimedRecordBytes += memory
    if request.answer.unclaimedRecordBytes >= Engine.recordStep {
      record.pointee.recordBytes = UInt32(clamping: request.answer.unclaimedRecordBytes)
      record.pointee.isAwaited = request.answer.recordBytes > streamWindow / 4
      request.answer.unclaimedRecordBytes = 0
    } else if request.flags.contains(.manualCredit) {
      return
    }
    record.pointee.creditor = Unmanaged.passRetained(request)
  }

  /// While the application holds more than half of the window the server may be silent for that reason: its read
  /// clock stands still.
  private func noteUncredited(_ request: RequestState, _ bytes: Int) {
    request.answer.uncredited += bytes
    guard !request.answer.isHeld, holdsMuch(request.answer), !request.answer.isComplete else { return }
    request.answer.isHeld = true
    request.port?.isPressed = true
    progressed(request, .heldByApplication)
  }

  /// Stages the events of a stream of server-sent events, and takes their bytes off `input`, as long as the application
  /// may hold more; returns what may be credited at once: what it cannot release (comments, the part of an event), or
  /// had given credit for before.
  func stageSSE(_ request: RequestState, _ stream: SSEStream, _ input: inout UnsafeRawBufferPointer) -> Int {
    var staged = 0
    let limit = request.answer.holdsAll ? Int.max : streamWindow
    while true {
      guard request.answer.recordBytes < limit, request.answer.delivery == .delivering else {
        stageJoined(request, stream)
        let ahead = takeCreditAhead(request, staged)
        noteUncredited(request, staged - ahead)
        return ahead
      }
      let step = stream.parser.next(input)
      switch step.event {
      case .needMore:
        input = UnsafeRawBufferPointer(start: nil, count: 0)
        stageJoined(request, stream)
        let ahead = takeCreditAhead(request, staged)
        noteUncredited(request, staged - ahead)
        return stream.parser.takePendingCredit() + ahead
      case .event(let event):
        if request.attempt.timings.firstData == 0 { request.attempt.timings.firstData = microseconds(since: request) }
        if request.flags.contains(.joinSSE), event.isPlain {
          joined.add(event)
        } else {
          stageJoined(request, stream)
          stageSSEEvent(request, stream, event)
        }
        staged += event.credit
        stream.arrived += 1
      case .failed(let error, let kind):
        input = UnsafeRawBufferPointer(start: nil, count: 0)
        stageJoined(request, stream)
        request.attempt.failureMessage = error.message
        giveUp(request, kind == .outOfMemory ? .outOfMemory : .tooLarge)
        return 0
      }
      input = UnsafeRawBufferPointer(rebasing: input[step.consumed...])
    }
  }

  private func stageSSEEvent(_ request: RequestState, _ stream: SSEStream, _ event: SSEEvent) {
    var size = event.data.count + event.event.count
    if !event.id.isEmpty { size += stream.roomForID(event.id, isNew: event.hasID) }
    guard hasMemory(request, size) else { return outOfMemory(request, size) }
    let record = makeSSERecord(request, bytes: size, count: 1, credit: event.credit)
    record.pointee.data = record.copy(event.data)
    if !event.event.isEmpty { record.pointee.sseEvent = record.copy(event.event) }
    var memory = Engine.recordMemory
    if event.hasID || !event.id.isEmpty {
      memory += stream.giveID(event.id, isNew: event.hasID, to: record)
    }
    record.pointee.sseIDIsUnchanged = !event.hasID
    record.pointee.sseRetry = event.retryMilliseconds ?? .max
    lend(record, request, memory: memory)
    stage(record, request)
  }

  private func stageJoined(_ request: RequestState, _ stream: SSEStream) {
    guard joined.count > 0 else { return }
    let size = joined.data.count + stream.roomForID(joined.id, isNew: false)
    guard !joined.isShort, hasMemory(request, size) else {
      joined.removeAll()
      return outOfMemory(request, size)
    }
    let record = makeSSERecord(request, bytes: size, count: joined.count, credit: joined.credit)
    record.pointee.data = record.copy(joined.data)
    let inherited = stream.giveID(joined.id, isNew: false, to: record)
    record.pointee.sseIDIsUnchanged = true
    lend(record, request, memory: Engine.recordMemory + inherited)
    joined.removeAll()
    stage(record, request)
  }

  private func makeSSERecord(
    _ request: RequestState, bytes: Int, count: UInt32, credit: Int
  ) -> UnsafeMutablePointer<EventRecord> {
    let record = makeRecord(request, bytes: bytes, parts: 3)
    fill(record, request, .sse)
    record.pointee.sseEvent = Engine.messageType
    record.pointee.sseCount = count
    record.pointee.credit = UInt32(clamping: credit)
    return record
  }

  /// The type of an event whose server named none (HTML Living Standard, section 9.2.6).
  private static var messageType: EventBytes {
    let name: StaticString = "message"
    return EventBytes(base: UnsafeRawPointer(name.utf8Start).assumingMemoryBound(to: CChar.self), count: 7)
  }

  private func takeCreditAhead(_ request: RequestState, _ bytes: Int) -> Int {
    let ahead = min(bytes, request.creditAhead)
    request.creditAhead -= ahead
    return ahead
  }

  func stageWritable(_ request: RequestState) {
    let record = events.makeRecord(bytes: 0, parts: 0)
    fill(record, request, .writable)
    stage(record, request)
  }

  /// `request`: that it tells of; `isOfAttempt`: and of its attempt, which a failed dial is not.
  func stageNotice(
    _ watcher: Watcher, _ kind: NoticeMask, _ fields: String, _ message: String, _ connection: ConnectionID?,
    _ request: RequestState?, isOfAttempt: Bool, data: String
  ) {
    var (fields, message, data) = (fields, message, data)
    let size = fields.utf8.count + message.utf8.count + data.utf8.count
    let record = events.makeRecord(bytes: size, parts: 3)
    record.pointee.kind = .notice
    record.pointee.connectionID = connection.map(Connection.number) ?? 0
    if let request {
      if isOfAttempt {
        fill(record, request, .notice)
        record.pointee.timings = request.attempt.timings
      }
      record.pointee.requestID = request.id.value
      record.pointee.timings.done = microseconds(since: request)
      record.pointee.hasTimings = true
    }
    record.pointee.userData = watcher.userData
    record.pointee.notice = kind.rawValue
    record.pointee.headers = fields.withUTF8 { record.copy(UnsafeRawBufferPointer($0)) }
    record.pointee.message = message.withUTF8 { record.copy(UnsafeRawBufferPointer($0)) }
    if !data.isEmpty { record.pointee.data = data.withUTF8 { record.copy(UnsafeRawBufferPointer($0)) } }
    stage(record, on: port(of: watcher.queue))
  }

  func stageDone(
    _ request: RequestState, _ completion: Completion, on port: QueuePort
  ) -> UnsafeMutablePointer<EventRecord> {
    let hasAnswer = completion.failure == nil
    let collects = hasAnswer && !request.isStreamed
    var message =
      completion.isBroken
      ? breakerText(request, completion.attempts) : completion.failure.map { text(of: $0, request) } ?? ""
    let copiesBody = collects && request.answer.body.count <= Engine.copiedBodyLimit
    var size = request.answer.reason.count + message.utf8.count + (request.attempt.connection?.peer.utf8.count ?? 0)
    if collects { size += request.answer.headers.count + (copiesBody ? request.answer.body.count : 0) }
    let record = events.makeRecord(bytes: size, parts: 5)
    fill(record, request, .done)
    if hasAnswer { fillHead(record, request) }
    if collects {
      record.pointee.headers = record.copy(request.answer.headers)
      if let body = request.answer.wholeBody.take() {
        record.pointee.data = body.bytes
        record.pointee.bodyChunk = Unmanaged.passRetained(body.chunk)
      } else if copiesBody {
        record.pointee.data = record.copy(request.answer.body.readable)
      } else {
        let count = request.answer.body.count
        if let memory = request.answer.body.handOver() {
          record.pointee.ownedBody = memory
          record.pointee.data = EventBytes(
            base: UnsafePointer(memory.assumingMemoryBound(to: CChar.self)), count: count)
        }
      }
    }
    record.pointee.status = completion.failure?.rawValue ?? 0
    record.pointee.attempts = completion.attempts
    if completion.unseen { record.pointee.flags.insert(.unseen) }
    record.pointee.timings = request.attempt.timings
    record.pointee.hasTimings = true
    record.pointee.message = message.withUTF8 { record.copy(UnsafeRawBufferPointer($0)) }
    stage(record, on: port)
    return record
  }
}
