import Glibc
import LLMPoolWire

/// Bytes in one malloc'ed run that can be handed to an event, which frees it.
struct BodyBuffer: ~Copyable {
  private var base: UnsafeMutableRawPointer?
  private(set) var count = 0
  private var capacity = 0
  private var expected = 0

  deinit { free(base) }

  var readable: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

  /// Makes room with the first byte for all that is announced, within reason: a server's word costs no memory that it
  /// does not fill.
  mutating func expect(_ size: UInt64) { expected = size <= 1 << 20 ? Int(size) : 0 }

  private mutating func reserve(_ more: Int) -> Bool {
    guard count + more + 1 > capacity else { return true }
    let wanted = max(count + more + 1, capacity * 2, expected + 1, 512)
    guard let grown = realloc(base, wanted) else { return false }
    base = grown
    capacity = wanted
    return true
  }

  /// False: there is no memory for them.
  mutating func append(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard let source = bytes.baseAddress, bytes.count > 0 else { return true }
    guard reserve(bytes.count) else { return false }
    (base! + count).copyMemory(from: source, byteCount: bytes.count)
    count += bytes.count
    return true
  }

  /// Gives the memory away, ended by a NUL.
  mutating func handOver() -> UnsafeMutableRawPointer? {
    guard let memory = base else { return nil }
    memory.storeBytes(of: 0, toByteOffset: count, as: UInt8.self)
    base = nil
    count = 0
    capacity = 0
    return memory
  }

  mutating func removeAll() {
    count = 0
    expected = 0
  }
}

/// What has arrived of the answer to one attempt.
final class Answer {
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
  /// Memory of event records beside the bytes of the stream, as far as is known: handed out and not given back.
  var recordBytes = 0
  /// The part of it that no event gives back yet.
  var unclaimedRecordBytes = 0
  /// The pool is being closed: what waits goes out whatever the application holds.
  var holdsAll = false
  /// Where records of its own lie once the application holds many: one in the memory of all would keep others' events.
  var events: EventAllocator?

  var reason: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: head.readable[..<reasonCount]) }
  var headers: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: head.readable[reasonCount...]) }
}

/// Bytes in an event's memory before there is an event.
struct PlacedBytes {
  let bytes: EventBytes
  let chunk: EventChunk
  var readable: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: bytes.base, count: bytes.count) }
}

/// Events of one stream that came together and go out as one.
struct JoinedEvents: ~Copyable {
  private(set) var count: UInt32 = 0
  private(set) var credit = 0
  private var dataBuffer = ByteBuffer()
  private var idBuffer = ByteBuffer()

  var isShort: Bool { dataBuffer.isShort || idBuffer.isShort }

  /// Separated by CR, which ends lines and so is in no event's data.
  var data: UnsafeRawBufferPointer { dataBuffer.readable }
  var id: UnsafeRawBufferPointer { idBuffer.readable }

  mutating func add(_ event: SSEEvent) {
    if count == 0 { idBuffer.append(event.id) } else { dataBuffer.append(0x0D) }
    dataBuffer.append(event.data)
    count += 1
    credit += event.credit
  }

  mutating func removeAll() {
    (count, credit) = (0, 0)
    dataBuffer.removeAll(keepingCapacityUpTo: 262_144)
    idBuffer.removeAll(keepingCapacity: true)
  }
}
