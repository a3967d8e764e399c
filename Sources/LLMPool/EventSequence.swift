import Glibc
import LLMPoolCore
import LLMPoolEngine

/// The events of one request, in their order. Nothing is sent before the first is asked for; each iteration sends
/// the request once more.
public struct EventSequence: AsyncSequence, Sendable {
  public typealias Element = Event
  let pool: Pool
  let request: Request
  /// Where it comes in pieces.
  let body: BodyWriter.Source?

  /// Sends nothing yet: the first `next()` does.
  public func makeAsyncIterator() -> Iterator { Iterator(sequence: self) }

  /// One reading of the answer. When it is gone, so is the request. One task at a time may read.
  public struct Iterator: AsyncIteratorProtocol {
    private let sequence: EventSequence
    /// Its end ends the request.
    private var reader: EventReader?

    fileprivate init(sequence: EventSequence) { self.sequence = sequence }

    /// The next event as soon as it is here; nil at the end of the answer.
    ///
    /// - Throws: `PoolError` when the answer ends early; `CancellationError` where the task was cancelled.
    public mutating func next() async throws -> Event? {
      if reader == nil { reader = try sequence.begin() }
      do { return try await reader!.inbox.event() } catch { throw reader!.inbox.writer?.failure ?? error }
    }
  }

  private func begin() throws -> EventReader {
    let inbox = EventInbox()
    inbox.writer = body.map { _ in BodyWriter() }
    do throws(Fault) {
      try pool.submit(request, flags: body == nil ? [.sse, .joinSSE] : [.sse, .joinSSE, .upload], for: inbox)
    } catch {
      throw PoolError.thrown(for: error)
    }
    return EventReader(inbox, body)
  }
}

/// Cancels the request when its iterator is gone.
private final class EventReader {
  let inbox: EventInbox
  private let writing: Task<Void, Never>?

  init(_ inbox: EventInbox, _ body: BodyWriter.Source?) {
    self.inbox = inbox
    writing = body.map { body in Task { [writer = inbox.writer!] in await writer.write(body) } }
  }

  deinit {
    writing?.cancel()
    inbox.abandon()
  }
}

/// Events between the engine and the task that reads them. An event is released, and with it the server let on, when
/// it is read.
private final class EventInbox: Receiver, @unchecked Sendable {
  private let lock = Lock()
  /// What has come since the reader looked last; the lock's, as is what follows.
  private var arrived: [UnsafeMutablePointer<EventRecord>] = []
  private var waiting: UnsafeContinuation<Event?, any Error>?
  private var isAbandoned = false

  /// What the reader has taken at once; the reader's, as is what follows.
  private var taken: [UnsafeMutablePointer<EventRecord>] = []
  private var next = 0
  /// Events that came together, and where the next of them begins.
  private var joined: (record: UnsafeMutablePointer<EventRecord>, at: Int)?
  /// DONE was read; nil until then.
  private var end: Result<Event?, any Error>?

  override func receive(_ record: UnsafeMutablePointer<EventRecord>) {
    lock.lock()
    guard !isAbandoned else {
      lock.unlock()
      return EventRecord.release(record)
    }
    let reader = waiting
    waiting = nil
    if reader == nil { arrived.append(record) }
    lock.unlock()
    // It waits, so that all that is the reader's is at hand here.
    if let reader { reader.resume(with: read(record)) }
  }

  func event() async throws -> Event? {
    if Task.isCancelled { cancel() }
    if let result = ready() { return try result.get() }
    return try await withTaskCancellationHandler {
      try await withUnsafeThrowingContinuation { continuation in
        lock.lock()
        guard arrived.isEmpty else {
          lock.unlock()
          return continuation.resume(with: ready()!)
        }
        waiting = continuation
        lock.unlock()
      }
    } onCancel: {
      cancel()
    }
  }

  /// Nil: nothing has come.
  private func ready() -> Result<Event?, any Error>? {
    if let joined { return .success(.message(nextJoined(joined.record, joined.at))) }
    if let end { return end }
    if next == taken.count {
      taken.removeAll(keepingCapacity: true)
      next = 0
      lock.lock()
      swap(&taken, &arrived)
      lock.unlock()
      guard !taken.isEmpty else { return nil }
    }
    next += 1
    return read(taken[next - 1])
  }

  /// Turns a record into what the reader gets, and gives it back.
  private func read(_ record: UnsafeMutablePointer<EventRecord>) -> Result<Event?, any Error> {
    let result: Result<Event?, any Error>
    switch record.pointee.kind {
    case .head: result = .success(.head(Event.Head(record.pointee)))
    case .sse where record.pointee.sseCount > 1: return .success(.message(nextJoined(record, 0)))
    case .sse: result = .success(.message(ServerSentEvent(record.pointee)))
    case .data:
      let data = record.pointee.data
      result = .success(.data(Array(UnsafeRawBufferPointer(start: data.base, count: data.count))))
    case .done, .notice, .writable:
      result = record.pointee.status == 0 ? .success(nil) : .failure(PoolError.thrown(for: record.pointee))
      end = result
    }
    EventRecord.release(record)
    return result
  }

  /// Of several in a record, their data separated by CR. With the last one the record is given back.
  private func nextJoined(_ record: UnsafeMutablePointer<EventRecord>, _ start: Int) -> ServerSentEvent {
    let data = record.pointee.data
    let all = UnsafeRawBufferPointer(start: data.base, count: data.count)
    let found = memchr(all.baseAddress! + start, 0x0D, all.count - start)
    let end = found.map { UnsafeRawPointer($0) - all.baseAddress! }
    let event = ServerSentEvent(
      data: String(decoding: all[start..<(end ?? all.count)], as: UTF8.self), event: "message",
      id: record.pointee.sseID.text, retry: nil)
    joined = end.map { (record, $0 + 1) }
    if end == nil { EventRecord.release(record) }
    return event
  }

  /// Nobody reads any more: the request is cancelled where it is not over.
  func abandon() {
    lock.lock()
    isAbandoned = true
    let left = arrived
    arrived = []
    lock.unlock()
    for record in (joined.map { [$0.record] } ?? []) + taken[next...] + left { EventRecord.release(record) }
    joined = nil
    taken = []
    next = 0
    if end == nil { cancel() }
  }
}

extension Event.Head {
  init(_ record: EventRecord) {
    status = Int(record.httpStatus)
    headers = Headers(record.headers)
    httpVersion = Response.version(record)
    isReused = record.flags.contains(.reused)
    peer = String(cString: record.peer.base)
  }
}

extension ServerSentEvent {
  init(_ record: EventRecord) {
    data = record.data.text
    event = record.sseEvent.text
    id = record.sseID.text
    retry = record.sseRetry == .max ? nil : .milliseconds(record.sseRetry)
  }
}
