import Glibc
import LLMPoolCore
import LLMPoolWire

/// What has arrived of the answer to one attempt. A part of its request, which is reached without being counted.
struct Answer: ~Copyable {
  enum Delivery {
    /// The core has not yet said whether the head goes out.
    case held
    /// Events go out as bytes come; or, collected, with DONE.
    case delivering
    /// A retry replaces it.
    case discarded
  }
  var status: UInt16 = 0
  var version: UInt32 = 0
  var hasHead = false
  var isComplete = false
  /// What Content-Length says of the body that follows; nil: nothing.
  var announcedLength: UInt64?
  var delivery = Delivery.held
  /// Of a refusal that the core has not been told of: its body may say that it is for good.
  var unheardAdvice: RetryAdvice?
  /// The reason phrase, and behind it the header lines.
  var head = ByteBuffer()
  var reasonCount = 0
  /// Of a body that is collected.
  var body = BodyBuffer()
  /// Of one that is not: what came before the head may go out, or while the application holds as many events as it
  /// may. It goes out when that ends.
  var waiting = ByteBuffer()
  /// The body instead, where it came in one piece: in the memory that its event will point to.
  var wholeBody: PlacedBytes?
  /// Bytes that went out in events and were not credited.
  var uncredited = 0
  /// The application holds the window closed; the core was told.
  var isHeld = false
  var sse: SSEStream?
  /// Of a stream of events whose event clock runs.
  var watch: WatchedEvents?
  /// Memory of event records beside the bytes of the stream, as far as is known: handed out and not given back.
  var recordBytes = 0
  /// The part of it that no event gives back yet.
  var unclaimedRecordBytes = 0
  /// The pool is being closed: what waits goes out whatever the application holds.
  var holdsAll = false
  /// Where records of its own lie once the application holds many: one in the memory of all would keep others' events.
  var events: EventAllocator?

  /// The request is over. What it needed memory for goes on the thread that it came from.
  mutating func leave() {
    head.removeAll(keepingCapacity: false)
    wholeBody = nil
  }

  /// What has come of the body before the head goes out.
  var heldBody: UnsafeRawBufferPointer {
    if !waiting.isEmpty { return waiting.readable }
    return wholeBody?.readable ?? body.readable
  }
  var reason: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: head.readable[..<reasonCount]) }
  var headers: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: head.readable[reasonCount...]) }
  /// HTML Living Standard, section 9.2.3: only such a 200, unencoded, is a stream of events. The rest is for people, or
  /// JSON.
  var isEventStream: Bool { status == 200 && HeaderBlock.kind(headers) == .events }
}

/// What the event clock is told by, and what its message says.
struct WatchedEvents {
  var events: EventWatch
  let headAt: Int64
  /// When the last byte after the head came, and the last event that says something; 0: none has.
  var lastByte: Int64 = 0
  var lastEvent: Int64 = 0
}

/// Bytes in an event's memory before there is an event.
struct PlacedBytes {
  let bytes: EventBytes
  let chunk: EventChunk
  var readable: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: bytes.base, count: bytes.count) }
}

/// An answer whose body may say that it refuses for good.
struct UnheardRefusal {
  let request: RequestState
  let attempt: AttemptID
  /// By then the core is told of it, whatever has come of the body.
  let due: Int64
}
