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
    let port = ports[ObjectIdentifier(queue)] ?? addPort(of: queue)
    lastPort = port
    return port
  }

  private func addPort(of queue: CompletionQueue) -> QueuePort {
    let port = QueuePort(queue)
    // Those of queues that are gone are dropped here, so that short-lived queues leave nothing behind.
    if ports.count >= 256 { ports = ports.filter { !$0.value.queue.isClosed } }
    ports[ObjectIdentifier(queue)] = port
    return port
  }

  private func fill(_ record: UnsafeMutablePointer<EventRecord>, _ request: RequestState, _ kind: EventKind) {
    record.pointee.requestID = request.id.value
    record.pointee.userData = request.userData
    record.pointee.kind = kind
    if request.isReused { record.pointee.flags = .reused }
    record.pointee.connectionID = request.connection?.number ?? 0
  }

  /// Status, reason, headers and peer, as HEAD and DONE carry them.
  private func fillHead(
    _ record: UnsafeMutablePointer<EventRecord>, _ chunk: EventChunk, _ request: RequestState
  ) {
    let answer = request.answer
    record.pointee.httpStatus = UInt32(answer.status)
    record.pointee.httpVersion = answer.version
    record.pointee.reason = chunk.copy(answer.reason)
    var peer = request.connection?.peer ?? ""
    record.pointee.peer = peer.withUTF8 { chunk.copy(UnsafeRawBufferPointer($0)) }
  }

  func stageHead(_ request: RequestState) {
    let answer = request.answer
    let size = answer.head.count + (request.connection?.peer.utf8.count ?? 0)
    let (record, chunk) = events.makeRecord(bytes: size, parts: 3)
    fill(record, request, .head)
    fillHead(record, chunk, request)
    record.pointee.headers = chunk.copy(answer.headers)
    stage(record, request)
  }

  /// Returns how many of the bytes the application had given credit for before they came.
  func stageData(_ request: RequestState, _ bytes: UnsafeRawBufferPointer) -> Int {
    // Where events were asked for and the answer is none of them, its first byte counts after all.
    if request.timings.firstData == 0 { request.timings.firstData = microseconds(since: request) }
    var rest = bytes
    while rest.count > 0 {
      let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(Engine.dataLimit))
      let (record, chunk) = events.makeRecord(bytes: piece.count, parts: 1)
      fill(record, request, .data)
      record.pointee.data = chunk.copy(piece)
      record.pointee.credit = UInt32(piece.count)
      if !request.flags.contains(.manualCredit) { record.pointee.creditor = Unmanaged.passRetained(request) }
      stage(record, request)
      rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(Engine.dataLimit))
    }
    let ahead = takeCreditAhead(request, bytes.count)
    noteUncredited(request, bytes.count - ahead)
    return ahead
  }

  /// While the application holds more than half of the window the server may be silent for that reason: its read
  /// clock stands still.
  private func noteUncredited(_ request: RequestState, _ bytes: Int) {
    let answer = request.answer
    answer.uncredited += bytes
    guard !answer.isHeld, answer.uncredited > streamWindow / 2, !answer.isComplete else { return }
    answer.isHeld = true
    request.port?.isPressed = true
    progressed(request, .heldByApplication)
  }

  /// Stages the events of a stream of server-sent events; returns what may be credited at once: what the application
  /// cannot release (comments, the part of an event), or had given credit for before.
  func stageSSE(_ request: RequestState, _ stream: SSEStream, _ bytes: UnsafeRawBufferPointer) -> Int {
    var input = bytes
    var staged = 0
    while true {
      let step = stream.parser.next(input)
      switch step.event {
      case .needMore:
        stageJoined(request)
        let ahead = takeCreditAhead(request, staged)
        noteUncredited(request, staged - ahead)
        return stream.parser.takePendingCredit() + ahead
      case .event(let event):
        if request.timings.firstData == 0 { request.timings.firstData = microseconds(since: request) }
        if request.flags.contains(.joinSSE), event.isPlain {
          joined.add(event)
        } else {
          stageJoined(request)
          stageSSEEvent(request, event)
        }
        staged += event.credit
      case .failed(let error, _):
        stageJoined(request)
        request.failureMessage = error.message
        giveUp(request, .tooLarge)
        return 0
      }
      input = UnsafeRawBufferPointer(rebasing: input[step.consumed...])
    }
  }

  private func stageSSEEvent(_ request: RequestState, _ event: SSEEvent) {
    let size = event.data.count + event.event.count + event.id.count
    let (record, chunk) = makeSSERecord(request, bytes: size, count: 1, credit: event.credit)
    record.pointee.data = chunk.copy(event.data)
    if !event.event.isEmpty { record.pointee.sseEvent = chunk.copy(event.event) }
    record.pointee.sseID = chunk.copy(event.id)
    record.pointee.sseIDIsUnchanged = !event.hasID
    record.pointee.sseRetry = event.retryMilliseconds ?? .max
    stage(record, request)
  }

  private func stageJoined(_ request: RequestState) {
    guard joined.count > 0 else { return }
    let size = joined.data.count + joined.id.count
    let (record, chunk) = makeSSERecord(request, bytes: size, count: joined.count, credit: joined.credit)
    record.pointee.data = chunk.copy(joined.data)
    record.pointee.sseID = chunk.copy(joined.id)
    record.pointee.sseIDIsUnchanged = true
    joined.removeAll()
    stage(record, request)
  }

  private func makeSSERecord(
    _ request: RequestState, bytes: Int, count: UInt32, credit: Int
  ) -> (UnsafeMutablePointer<EventRecord>, EventChunk) {
    let (record, chunk) = events.makeRecord(bytes: bytes, parts: 3)
    fill(record, request, .sse)
    record.pointee.sseEvent = Engine.messageType
    record.pointee.sseCount = count
    record.pointee.credit = UInt32(clamping: credit)
    if !request.flags.contains(.manualCredit) { record.pointee.creditor = Unmanaged.passRetained(request) }
    return (record, chunk)
  }

  /// The type of an event whose server named none (HTML Living Standard, section 9.2.6).
  private static var messageType: EventBytes {
    let name: StaticString = "message"
    return EventBytes(base: UnsafeRawPointer(name.utf8Start).assumingMemoryBound(to: CChar.self), count: 7)
  }

  private func takeCreditAhead(_ request: RequestState, _ bytes: Int) -> Int {
    let ahead = min(bytes, request.answer.creditAhead)
    request.answer.creditAhead -= ahead
    return ahead
  }

  func stageWritable(_ request: RequestState) {
    let (record, _) = events.makeRecord(bytes: 0, parts: 0)
    fill(record, request, .writable)
    stage(record, request)
  }

  func stageNotice(
    _ watcher: Watcher, _ kind: NoticeMask, _ fields: String, _ message: String, _ connection: ConnectionID?
  ) {
    var (fields, message) = (fields, message)
    let (record, chunk) = events.makeRecord(bytes: fields.utf8.count + message.utf8.count, parts: 2)
    record.pointee.kind = .notice
    record.pointee.userData = watcher.userData
    record.pointee.notice = kind.rawValue
    record.pointee.connectionID = connection.map(Connection.number) ?? 0
    record.pointee.headers = fields.withUTF8 { chunk.copy(UnsafeRawBufferPointer($0)) }
    record.pointee.message = message.withUTF8 { chunk.copy(UnsafeRawBufferPointer($0)) }
    stage(record, on: port(of: watcher.queue))
  }

  func stageDone(_ request: RequestState, _ completion: Completion) {
    let answer = request.answer
    let hasAnswer = completion.failure == nil
    let collects = hasAnswer && !request.isStreamed
    var message = completion.failure.map { text(of: $0, request) } ?? ""
    let copiesBody = collects && answer.body.count <= Engine.copiedBodyLimit
    var size = answer.reason.count + message.utf8.count + (request.connection?.peer.utf8.count ?? 0)
    if collects { size += answer.headers.count + (copiesBody ? answer.body.count : 0) }
    let (record, chunk) = events.makeRecord(bytes: size, parts: 5)
    fill(record, request, .done)
    if hasAnswer { fillHead(record, chunk, request) }
    if collects {
      record.pointee.headers = chunk.copy(answer.headers)
      if let body = answer.wholeBody {
        record.pointee.data = body.bytes
        record.pointee.bodyChunk = Unmanaged.passRetained(body.chunk)
      } else if copiesBody {
        record.pointee.data = chunk.copy(answer.body.readable)
      } else {
        let count = answer.body.count
        if let memory = answer.body.handOver() {
          record.pointee.ownedBody = memory
          record.pointee.data = EventBytes(
            base: UnsafePointer(memory.assumingMemoryBound(to: CChar.self)), count: count)
        }
      }
    }
    record.pointee.status = completion.failure?.rawValue ?? 0
    record.pointee.attempts = completion.attempts
    if completion.unseen { record.pointee.flags.insert(.unseen) }
    record.pointee.timings = request.timings
    record.pointee.message = message.withUTF8 { chunk.copy(UnsafeRawBufferPointer($0)) }
    stage(record, request)
  }
}
