import LLMPoolCore
import LLMPoolEngine

/// A pool of HTTP connections: to any number of servers, with limits, timeouts and a bounded queue. Made to live as
/// long as the program and to be shared by all of it.
public final class Pool: Sendable {
  /// The pool that all Swift code of this program shares, and its C code by the product `LLMPoolC`. Never closed. A
  /// libllmpool.so that the program loads beside, as the Python package does, has a pool of its own: that library
  /// carries its own copy of this code. See docs/swift.md.
  public static let shared = Pool(handle: .shared)

  let handle: PoolHandle
  private let queue: CompletionQueue
  private let traces: Traces
  let watches = Watches()

  /// A pool of one's own. End it with `close`.
  ///
  /// - Throws: `PoolError`, where the options cannot be meant or a file that they name cannot be read.
  public convenience init(_ options: Options = Options()) throws {
    do { self.init(handle: try PoolHandle(options.checked())) } catch { throw PoolError(error) }
  }

  private init(handle: PoolHandle) {
    self.handle = handle
    let traces = Traces()
    self.traces = traces
    queue = CompletionQueue { Pool.resume($0, traces) }
  }

  /// Sends a request and waits for the whole answer. Cancelling the task cancels the request.
  ///
  /// - Throws: `PoolError`; `CancellationError` where the task was cancelled. An answer with a status of 4xx or 5xx is
  ///   not an error.
  public func send(_ request: Request) async throws -> Response { try await send(request, flags: [], nil) }

  func send(_ request: Request, flags: RequestFlags, _ writer: BodyWriter?) async throws -> Response {
    let call = Call()
    call.writer = writer
    return try await withTaskCancellationHandler {
      try await withUnsafeThrowingContinuation { continuation in
        call.continuation = continuation
        do throws(Fault) {
          try submit(request, flags: flags, for: call)
        } catch {
          continuation.resume(throwing: PoolError.thrown(for: error))
        }
      }
    } onCancel: {
      call.cancel()
    }
  }

  /// Sends a request and gives its answer as it comes: the head, then the body in pieces, or, where the answer is a
  /// text/event-stream, server-sent events. The server is held back while nobody asks for the next event. Leaving
  /// the loop early, or cancelling its task, cancels the request.
  public func events(of request: Request) -> EventSequence {
    EventSequence(pool: self, request: request, body: nil)
  }

  /// Has a tracer follow each request from now on; nil: nobody does. What is in flight is followed to its end.
  public func trace(with tracer: (any RequestTracer)?) { traces.set(tracer) }

  /// Hands the request to the engine; `receiver` gets its events until DONE.
  func submit(_ request: Request, flags: RequestFlags, for receiver: Receiver) throws(Fault) {
    var request = request
    receiver.trace = traces.begin(&request)
    do throws(Fault) { try handOver(request, flags, receiver) } catch {
      if let trace = receiver.trace {
        var report = AttemptReport()
        report.error = PoolError.thrown(for: error)
        trace.ended(report)
      }
      throw error
    }
  }

  private func handOver(_ request: Request, _ flags: RequestFlags, _ receiver: Receiver) throws(Fault) {
    let engine = try handle.open()
    // Otherwise it would race its own cancellation, and a call that nobody wants may cost money.
    guard !Task.isCancelled else { throw Fault(.cancelled, "the task was cancelled before the request was sent") }
    if receiver.trace != nil { traces.watch(engine, queue) }
    try request.withInput { input throws(Fault) in
      var input = input
      input.flags.formUnion(flags)
      input.userData = UInt64(UInt(bitPattern: Unmanaged.passRetained(receiver).toOpaque()))
      do throws(Fault) {
        try engine.submit(input, queue: queue) { id in
          receiver.submitted(engine, id)
          if let trace = receiver.trace { traces.add(trace, id) }
        }
      } catch {
        Unmanaged.passUnretained(receiver).release()
        throw error
      }
    }
    receiver.cancelIfWanted()
  }

  /// Takes no more requests, waits up to `drain` for those it has and ends the rest; the thread that calls it waits as
  /// long. Its notices end. Not for the shared pool.
  public func close(drain: Duration = .zero) throws {
    do { try handle.close(drain: Request.milliseconds(drain)) } catch { throw PoolError(error) }
    watches.end()
  }

  /// On the engine's thread: hands the events to the tasks that wait for them.
  private static func resume(_ queue: CompletionQueue, _ traces: Traces) {
    var records: [UnsafeMutablePointer<EventRecord>] = []
    _ = queue.take(.max) { record in
      records.append(record)
      return true
    }
    for record in records {
      guard record.pointee.kind != .notice else {
        traces.note(record.pointee)
        EventRecord.release(record)
        continue
      }
      let pointer = UnsafeRawPointer(bitPattern: UInt(record.pointee.userData))!
      let receiver = Unmanaged<Receiver>.fromOpaque(pointer)
      let kind = record.pointee.kind
      receiver._withUnsafeGuaranteedRef {
        if kind == .done {
          if $0.trace != nil { traces.remove(record.pointee.requestID) }
          $0.writer?.ended()
        }
        if kind == .writable {
          $0.writer?.signal()
          return EventRecord.release(record)
        }
        $0.follow(record.pointee)
        $0.receive(record)
      }
      if kind == .done { receiver.release() }
    }
  }
}

/// One call of `send` while it waits.
private final class Call: Receiver, @unchecked Sendable {
  var continuation: UnsafeContinuation<Response, any Error>?

  override func receive(_ record: UnsafeMutablePointer<EventRecord>) {
    if record.pointee.status == 0 {
      continuation?.resume(returning: Response(record.pointee))
    } else {
      continuation?.resume(throwing: PoolError.thrown(for: record.pointee))
    }
    EventRecord.release(record)
  }
}

extension Response {
  init(_ record: EventRecord) {
    requestID = record.requestID
    status = Int(record.httpStatus)
    body = Array(UnsafeRawBufferPointer(start: record.data.base, count: record.data.count))
    headers = Headers(record.headers)
    httpVersion = Response.version(record)
    isReused = record.flags.contains(.reused)
    attempts = Int(record.attempts)
    peer = String(cString: record.peer.base)
    timings = Timings(record.timings)
  }

  static func version(_ record: EventRecord) -> String {
    record.httpVersion == 2 ? "HTTP/2" : record.httpVersion == 3 ? "HTTP/1.0" : "HTTP/1.1"
  }
}

extension EventBytes {
  var text: String { String(decoding: UnsafeRawBufferPointer(start: base, count: count), as: UTF8.self) }
}

extension PoolError {
  /// Nothing but the end of its task cancels a request: that has Swift's own error.
  static func thrown(for fault: Fault) -> any Error {
    fault.failure == .cancelled ? CancellationError() : PoolError(fault)
  }

  static func thrown(for record: EventRecord) -> any Error {
    let failure = Failure(rawValue: record.status) ?? .internalError
    guard failure != .cancelled else { return CancellationError() }
    let isUnseen = record.flags.contains(.unseen)
    return PoolError(failure, String(cString: record.message.base), isUnseen: isUnseen)
  }

  init(_ error: Fault) {
    self.init(error.failure, error.message, isUnseen: true)
  }

  private init(_ failure: Failure, _ message: String, isUnseen: Bool) {
    name = String(String(cString: Status.name(failure.rawValue)).dropFirst("LLMPOOL_".count))
    code = failure.rawValue
    self.message = message
    self.isUnseen = isUnseen
  }
}
