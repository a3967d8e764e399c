/// A server-sent event. Trivial; its pointers are valid until the parser's next call and while the input lies where
/// it lay.
public struct SSEEvent {
  /// The data lines, joined by LF.
  public let data: UnsafeRawBufferPointer
  /// The type; empty where the server named none, which means "message".
  public let event: UnsafeRawBufferPointer
  /// The last event id so far, of this or an earlier event.
  public let id: UnsafeRawBufferPointer
  /// The id was set since the event before.
  public let hasID: Bool
  /// The last `retry` since the event before.
  public let retryMilliseconds: UInt32?
  /// Nothing but data.
  public var isPlain: Bool { event.isEmpty && !hasID && retryMilliseconds == nil }
  /// How many bytes of the stream it stands for: all since the event before, comments and line ends included, less
  /// what `takePendingCredit` gave out.
  public let credit: Int
}

/// A parser of text/event-stream (HTML Living Standard, section 9.2.6), for bytes that come in pieces.
///
/// The caller calls `next` with the bytes that it has, drops what was consumed, and so on until `.needMore` or
/// `.failed`. An event whose only data line lies in one input is not copied. Bytes that are no UTF-8 are passed on as
/// they are. An event at the end of the stream without its empty line is dropped: it may be cut short.
///
/// Of each byte consumed, credit is given once: the credits of all events, what `takePendingCredit` returned and
/// `pendingCredit` together are the bytes consumed.
public struct SSEParser: ~Copyable, Sendable {
  /// Largest event, if nothing else is said: the library says what its options have.
  public static let maximumEventBytes = 1 << 20
  /// Longest event id. The standard has no limit, but an id is given back as a header, which servers take some KiB of;
  /// one beyond is passed over, as one with a NUL is: the last id stays.
  public static let maximumIDBytes = 4_096

  public enum Event {
    /// Everything was consumed; no further event is complete.
    case needMore
    case event(SSEEvent)
    /// An event is too large. Given again if asked again.
    case failed(WireError, kind: FailureKind)
  }

  public struct Step {
    public let consumed: Int
    public let event: Event
  }

  /// Fields of the event at hand that lie in the input of this call, or in `lineBuffer`, and need no copy if the
  /// event ends in this call.
  private struct Borrowed {
    var data: UnsafeRawBufferPointer?
    var type: UnsafeRawBufferPointer?
  }

  private let limit: Int
  /// Bytes consumed and credited to no event yet.
  public private(set) var pendingCredit = 0
  /// Bytes of the field lines of the event at hand.
  private var eventBytes = 0
  /// How many bytes of a byte order mark were seen; 3: it is too late for one.
  private var markBytes = 0
  /// The last byte was a CR that ended a line: a LF belongs to it.
  private var skipsLF = false
  /// The rest of the line is a comment.
  private var isInComment = false
  /// `lineBuffer` holds the beginning of a line.
  private var hasPartialLine = false
  private var hasData = false
  private var hasID = false
  private var retry: UInt32?
  private var isEventLent = false
  private var failure: (error: WireError, kind: FailureKind)?
  private var lineBuffer = ByteBuffer()
  private var dataBuffer = ByteBuffer()
  private var typeBuffer = ByteBuffer()
  private var idBuffer = ByteBuffer()

  /// - Parameter maximumEventBytes: of the lines of one event together, field names included; comments and line
  ///   ends do not count.
  public init(maximumEventBytes: Int = SSEParser.maximumEventBytes) {
    limit = maximumEventBytes
  }

  /// Takes what is consumed and credited to no event yet: the peer may send as much more, else an event as large as
  /// the window never ends.
  public mutating func takePendingCredit() -> Int {
    let credit = pendingCredit
    pendingCredit = 0
    return credit
  }

  /// Takes bytes from the beginning of `input` up to one event.
  public mutating func next(_ input: UnsafeRawBufferPointer) -> Step {
    if let failure { return Step(consumed: 0, event: .failed(failure.error, kind: failure.kind)) }
    takeBackBuffers()
    let start = input.bytePointer
    let count = input.count
    var borrowed = Borrowed()
    var position = markBytes < 3 ? skipByteOrderMark(start, count) : 0
    if skipsLF, position < count {
      skipsLF = false
      if start[position] == Byte.lf { position &+= 1 }
    }
    while position < count {
      let lineEnd = firstLineEnd(in: start, from: position, to: count)
      guard lineEnd >= 0 else {
        guard keepPartialLine(start + position, count &- position, &borrowed) else { return tooLarge() }
        break
      }
      var line = start + position
      var size = lineEnd &- position
      position = lineEnd &+ 1
      if start[lineEnd] == Byte.cr {
        if position == count {
          skipsLF = true
        } else if start[position] == Byte.lf {
          position &+= 1
        }
      }
      if isInComment {
        isInComment = false
        continue
      }
      if hasPartialLine {
        lineBuffer.append(line, count: size)
        guard !lineBuffer.isShort else { return outOfMemory() }
        hasPartialLine = false
        line = lineBuffer.readable.bytePointer
        size = lineBuffer.count
      }
      if size == 0 {
        if hasData { return dataBuffer.isShort ? outOfMemory() : dispatch(borrowed, consumed: position) }
        discardEvent(&borrowed)
      } else if line[0] != Byte.colon {
        eventBytes &+= size
        guard eventBytes <= limit else { return tooLarge() }
        takeField(line, size, &borrowed)
      }
    }
    keep(&borrowed)
    guard !lineBuffer.isShort, !dataBuffer.isShort, !typeBuffer.isShort else { return outOfMemory() }
    pendingCredit &+= count
    return Step(consumed: count, event: .needMore)
  }

  // MARK: Lines

  /// One byte order mark may begin the stream. What only began like one belongs to the first line.
  private mutating func skipByteOrderMark(_ start: BytePointer, _ count: Int) -> Int {
    let mark: StaticString = "\u{FEFF}"
    var position = 0
    while markBytes < 3, position < count {
      guard start[position] == mark.utf8Start[markBytes] else {
        if markBytes > 0 {
          lineBuffer.append(mark.utf8Start, count: markBytes)
          hasPartialLine = true
        }
        markBytes = 3
        break
      }
      markBytes += 1
      position += 1
    }
    return position
  }

  /// Keeps the beginning of a line for the next call; of a comment only that it is one. False: too large.
  private mutating func keepPartialLine(_ start: BytePointer, _ count: Int, _ borrowed: inout Borrowed) -> Bool {
    if isInComment { return true }
    if !hasPartialLine, start[0] == Byte.colon {
      isInComment = true
      return true
    }
    guard eventBytes + count + (hasPartialLine ? lineBuffer.count : 0) <= limit else { return false }
    keep(&borrowed)
    if !hasPartialLine { lineBuffer.removeAll(keepingCapacity: true) }
    lineBuffer.append(start, count: count)
    hasPartialLine = true
    return true
  }

  @inline(__always)
  private mutating func takeField(_ line: BytePointer, _ count: Int, _ borrowed: inout Borrowed) {
    let field = SSEField(line, count)
    let value = field.value
    if field.isNamed("data") {
      takeData(value, &borrowed)
    } else if field.isNamed("event") {
      borrowed.type = value
    } else if field.isNamed("id") {
      guard value.count <= SSEParser.maximumIDBytes,
        firstOffset(of: 0, in: value.bytePointer, from: 0, to: value.count) < 0
      else { return }
      idBuffer.removeAll(keepingCapacity: true)
      idBuffer.append(value)
      hasID = true
    } else if field.isNamed("retry") {
      takeRetry(value)
    }
  }

  @inline(__always)
  private mutating func takeData(_ value: UnsafeRawBufferPointer, _ borrowed: inout Borrowed) {
    guard hasData else {
      hasData = true
      borrowed.data = value
      return
    }
    if let data = borrowed.data {
      dataBuffer.append(data)
      borrowed.data = nil
    }
    dataBuffer.append(Byte.lf)
    dataBuffer.append(value)
  }

  /// Digits only, else ignored. What is too large for the C API, where UINT32_MAX means none, is cut.
  private mutating func takeRetry(_ value: UnsafeRawBufferPointer) {
    let start = value.bytePointer
    guard value.count > 0 else { return }
    var milliseconds: UInt64 = 0
    for i in 0..<value.count {
      guard Byte.isDigit(start[i]) else { return }
      milliseconds = min(milliseconds * 10 + UInt64(start[i] - Byte.zero), UInt64(UInt32.max - 1))
    }
    retry = UInt32(milliseconds)
  }

  // MARK: Events

  @inline(__always)
  private mutating func dispatch(_ borrowed: Borrowed, consumed: Int) -> Step {
    let event = SSEEvent(
      data: borrowed.data ?? dataBuffer.readable, event: borrowed.type ?? typeBuffer.readable, id: idBuffer.readable,
      hasID: hasID, retryMilliseconds: retry, credit: pendingCredit &+ consumed)
    pendingCredit = 0
    eventBytes = 0
    hasData = false
    hasID = false
    retry = nil
    isEventLent = true
    return Step(consumed: consumed, event: .event(event))
  }

  /// An empty line after no data line: the type is forgotten, while id and retry outlive the event.
  private mutating func discardEvent(_ borrowed: inout Borrowed) {
    borrowed.type = nil
    typeBuffer.removeAll(keepingCapacity: true)
    eventBytes = 0
  }

  /// Copies what was borrowed, because the event does not end in this call.
  private mutating func keep(_ borrowed: inout Borrowed) {
    if let data = borrowed.data {
      dataBuffer.append(data)
      borrowed.data = nil
    }
    if let type = borrowed.type {
      typeBuffer.removeAll(keepingCapacity: true)
      typeBuffer.append(type)
      borrowed.type = nil
    }
  }

  /// The memory of an unusually large event is given back.
  @inline(__always)
  private mutating func takeBackBuffers() {
    if !hasPartialLine, !lineBuffer.isEmpty { lineBuffer.removeAll(keepingCapacityUpTo: 65_536) }
    guard isEventLent else { return }
    isEventLent = false
    dataBuffer.removeAll(keepingCapacityUpTo: 65_536)
    typeBuffer.removeAll(keepingCapacityUpTo: 65_536)
  }

  @inline(never)
  private mutating func tooLarge() -> Step {
    fail(WireError(.event, "a server-sent event is larger than {1} bytes", UInt64(limit)), .tooLarge)
  }

  @inline(never)
  private mutating func outOfMemory() -> Step {
    fail(WireError(.event, "no memory for a server-sent event of {1} bytes or more", UInt64(eventBytes)), .outOfMemory)
  }

  private mutating func fail(_ error: WireError, _ kind: FailureKind) -> Step {
    failure = (error, kind)
    return Step(consumed: 0, event: .failed(error, kind: kind))
  }
}
