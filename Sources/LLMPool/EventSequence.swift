import LLMPoolCore
import LLMPoolEngine

/// The events of one request, in their order. Nothing is sent before the first is asked for; each iteration sends
/// the request once more.
public struct EventSequence: AsyncSequence, Sendable {
  public typealias Element = Event
  let pool: Pool
  let request: Request

  /// Sends nothing yet: the first `next()` does.
  public func makeAsyncIterator() -> Iterator { Iterator(pool: pool, request: request) }

  /// One reading of the answer. When it is gone, so is the request. One task at a time may read.
  public struct Iterator: AsyncIteratorProtocol {
    private let pool: Pool
    private let request: Request
    /// Its end ends the request.
    private var reader: EventReader?

    fileprivate init(pool: Pool, request: Request) {
      self.pool = pool
      self.request = request
    }

    /// The next event as soon as it is here; nil at the end of the answer.
    ///
    /// - Throws: `PoolError` when the answer ends early; `CancellationError` where the task was cancelled.
    public mutating func next() async throws -> Event? {
      if reader == nil {
        let inbox = EventInbox()
        do throws(Fault) {
          try pool.submit(request, flags: .sse, for: inbox)
        } catch {
          throw PoolError.thrown(for: error)
        }
        reader = EventReader(inbox)
      }
      return try await reader!.inbox.next()
    }
  }
}

/// Cancels the request when its iterator is gone.
private final class EventReader {
  let inbox: EventInbox
  init(_ inbox: EventInbox) { self.inbox = inbox }
  deinit { inbox.abandon() }
}

/// Events between the engine and the task that reads them. An event is released, and with it the server let on, when
/// it is read.
private final class EventInbox: Receiver, @unchecked Sendable {
  private var records: [UnsafeMutablePointer<EventRecord>] = []
  private var first = 0
  private var waiting: CheckedContinuation<Event?, any Error>?
  private var isAbandoned = false
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
    if reader == nil { records.append(record) }
    lock.unlock()
    if let reader { reader.resume(with: read(record)) }
  }

  func next() async throws -> Event? {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        if let result = take(orWait: continuation) { continuation.resume(with: result) }
      }
    } onCancel: {
      cancel()
    }
  }

  private func take(orWait continuation: CheckedContinuation<Event?, any Error>) -> Result<Event?, any Error>? {
    lock.lock()
    if let end {
      lock.unlock()
      return end
    }
    guard first < records.count else {
      records.removeAll(keepingCapacity: true)
      first = 0
      waiting = continuation
      lock.unlock()
      return nil
    }
    let record = records[first]
    first += 1
    lock.unlock()
    return read(record)
  }

  /// Turns a record into what the reader gets, and gives it back.
  private func read(_ record: UnsafeMutablePointer<EventRecord>) -> Result<Event?, any Error> {
    let result: Result<Event?, any Error>
    switch record.pointee.kind {
    case .head: result = .success(.head(Event.Head(record.pointee)))
    case .sse: result = .success(.message(ServerSentEvent(record.pointee)))
    case .data:
      let data = record.pointee.data
      result = .success(.data(Array(UnsafeRawBufferPointer(start: data.base, count: data.count))))
    case .done, .notice, .writable:
      result = record.pointee.status == 0 ? .success(nil) : .failure(PoolError.thrown(for: record.pointee))
      lock.lock()
      end = result
      lock.unlock()
    }
    EventRecord.release(record)
    return result
  }

  /// Nobody reads any more: the request is cancelled where it is not over.
  func abandon() {
    lock.lock()
    isAbandoned = true
    let left = Array(records[first...])
    records = []
    first = 0
    let isOver = end != nil
    lock.unlock()
    for record in left { EventRecord.release(record) }
    if !isOver { cancel() }
  }
}

extension Event.Head {
  init(_ record: EventRecord) {
    status = Int(record.httpStatus)
    headers = Response.headers(record)
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
