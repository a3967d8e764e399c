/// A parser of HTTP/1.0 and HTTP/1.1 answers (RFC 9112), for bytes that come in pieces.
///
/// Two readers of one connection that disagree on where an answer ends hand one caller's answer to another. So what
/// can be read in two ways (a length beside chunks, lengths that differ, a NUL) is refused; what every reader takes
/// alike although no server should send it (bare LF, folded lines, equal lengths) is read, but where another reader
/// might have seen other lines `isDoubtful` says not to use the connection again. docs/leniency.md lists all of it.
///
/// The caller calls `reset`, then `next` with the bytes that it has, drops what was consumed, and so on until
/// `.needMore` (read more), `.end` (the answer is complete) or `.failed`. Nothing is copied while a head lies in one
/// input; a body never is. The same bytes give the same events however they are split, except that a body comes in
/// as many pieces as its bytes.
public struct ResponseParser: ~Copyable, Sendable {
  /// Largest head, and largest trailer section.
  public static let maximumHeadBytes = 65_536
  /// Longest chunk-size line, extensions included.
  public static let maximumChunkLineBytes = 4_096

  public enum Event {
    /// Everything was consumed; the answer goes on.
    case needMore
    /// A 1xx answer, to be passed over.
    case interim(status: UInt16)
    case head(ResponseHead)
    /// Bytes of the body: a range of the input of this call.
    case body(start: Int, count: Int)
    /// The answer is complete; what follows in the input does not belong to it. Given again if asked again.
    case end
    /// The connection is of no more use. Given again if asked again.
    case failed(WireError, kind: FailureKind)
  }

  public struct Step {
    /// How many bytes at the beginning of the input are done with.
    public let consumed: Int
    public let event: Event
  }

  /// Can transition to, per state: see each.
  private enum State: UInt8 {
    /// -> head (interim), noBody, length, untilClose, chunkSize, failed
    case head
    /// -> complete
    case noBody
    /// -> complete, failed (end of input)
    case length
    /// -> complete (end of input)
    case untilClose
    /// In the digits of a chunk size. -> chunkBlank, chunkExtension, chunkSizeLF, failed
    case chunkSize
    /// In whitespace behind the size. -> chunkExtension, chunkSizeLF, failed
    case chunkBlank
    /// -> chunkSizeLF, failed
    case chunkExtension
    /// -> chunkData, trailer, failed
    case chunkSizeLF
    /// -> chunkDataCR, failed (end of input)
    case chunkData
    /// -> chunkDataLF, failed
    case chunkDataCR
    /// -> chunkSize, failed
    case chunkDataLF
    /// -> complete, failed
    case trailer
    /// -> head, by reset
    case complete
    /// For ever.
    case failed
  }

  private var state = State.head
  private var requestMethodIsHEAD = false
  /// `headBuffer` and `normalized` hold what the last event points to; they are emptied by the next call.
  private var buffersAreLent = false
  private var interim = InterimAllowance()
  private var chunkDigits = 0
  /// Bytes of the chunk-size line, or of the trailer lines that are complete.
  private var sectionBytes = 0
  private var trailerLines = 0
  private var remaining: UInt64 = 0
  private var bodyLength: UInt64 = 0
  /// Bytes of the body so far, chunk framing excluded.
  public private(set) var bodyBytesReceived: UInt64 = 0
  /// Something of this answer was written in a way that another reader may take for other lines: what follows it on
  /// the connection is not to be trusted.
  public private(set) var isDoubtful = false
  /// Some byte of this answer was consumed, an interim one included.
  public private(set) var hasBegun = false
  private var progress = HeadProgress()
  private var failure: (error: WireError, kind: FailureKind)?
  /// A head, or a line of the trailers, that spans inputs.
  private var headBuffer = ByteBuffer()
  private var normalized = ByteBuffer()

  public init() {}

  /// The answer is complete.
  public var isComplete: Bool { state == .complete }

  /// Begins the next answer. What a connection holds between requests is a few hundred bytes.
  public mutating func reset(requestMethodIsHEAD: Bool) {
    state = .head
    self.requestMethodIsHEAD = requestMethodIsHEAD
    interim = InterimAllowance()
    isDoubtful = false
    bodyBytesReceived = 0
    hasBegun = false
    failure = nil
    buffersAreLent = true
    takeBackBuffers()
  }

  /// Takes bytes from the beginning of `input` up to one event.
  public mutating func next(_ input: UnsafeRawBufferPointer) -> Step {
    if buffersAreLent { takeBackBuffers() }
    if input.count > 0 { hasBegun = true }
    let start = input.bytePointer
    switch state {
    case .head: return parseHead(start, input.count)
    case .noBody: return finish(consumed: 0)
    case .length: return parseLength(input.count)
    case .untilClose:
      guard input.count > 0 else { return Step(consumed: 0, event: .needMore) }
      bodyBytesReceived &+= UInt64(input.count)
      return Step(consumed: input.count, event: .body(start: 0, count: input.count))
    case .trailer: return parseTrailer(start, from: 0, to: input.count)
    case .complete: return Step(consumed: 0, event: .end)
    case .failed: return Step(consumed: 0, event: failureEvent)
    default: return parseChunked(start, input.count)
    }
  }

  /// The peer ended the connection: `.end` where that is how the body ends, or where the answer was complete
  /// already; else `.failed`.
  public mutating func endOfInput() -> Event {
    if buffersAreLent { takeBackBuffers() }
    switch state {
    case .failed: return failureEvent
    case .complete, .noBody, .untilClose:
      state = .complete
      return .end
    case .length where remaining == 0:
      state = .complete
      return .end
    case .length:
      return fail(
        WireError(
          .body, "connection closed after {1} of {2} bytes of the body", bodyLength &- remaining, bodyLength),
        .truncated
      ).event
    case .head where !hasBegun:
      return fail(WireError(.head, "connection closed before the first byte of the answer"), .truncated).event
    case .head where headBuffer.isEmpty:
      return fail(WireError(.head, "connection closed after an interim answer"), .truncated).event
    case .head:
      let bytes = UInt64(headBuffer.count)
      return fail(WireError(.head, "connection closed after {1} bytes of the head", bytes), .truncated).event
    default:
      return fail(
        WireError(
          .chunk, "connection closed after {1} bytes of a chunked body, before its last chunk", bodyBytesReceived),
        .truncated
      ).event
    }
  }

  // MARK: Ends

  private var failureEvent: Event {
    guard let failure else { return .failed(WireError(.head, "no answer was expected"), kind: .protocolViolation) }
    return .failed(failure.error, kind: failure.kind)
  }

  @inline(never)
  private mutating func fail(_ error: WireError, _ kind: FailureKind = .protocolViolation) -> Step {
    state = .failed
    failure = (error, kind)
    return Step(consumed: 0, event: .failed(error, kind: kind))
  }

  private mutating func finish(consumed: Int) -> Step {
    state = .complete
    return Step(consumed: consumed, event: .end)
  }

  private mutating func takeBackBuffers() {
    buffersAreLent = false
    headBuffer.removeAll(keepingCapacityUpTo: 4_096)
    normalized.removeAll(keepingCapacityUpTo: 4_096)
    progress = HeadProgress()
  }

  // MARK: Head

  private mutating func parseHead(_ start: BytePointer, _ count: Int) -> Step {
    let isSplit = !headBuffer.isEmpty
    // Before anything else, so that what is no HTTP/1 at all fails at once and alike however it is split.
    if progress.lines == 0, HeadProgress.hasWrongPrefix(start, count, offset: headBuffer.count) {
      return fail(HeadProgress.versionError(start, isSplit ? 0 : count))
    }
    var position = 0
    while true {
      let lf = firstOffset(of: Byte.lf, in: start, from: position, to: count)
      if lf < 0 { break }
      guard lf &+ 1 &+ (isSplit ? headBuffer.count &- position : 0) <= ResponseParser.maximumHeadBytes else {
        return headTooLarge()
      }
      // A line that is not the input's own lies behind its earlier lines in the buffer.
      var base = start
      var lineEnd = lf
      if isSplit {
        headBuffer.append(start + position, count: lf &+ 1 &- position)
        base = headBuffer.readable.bytePointer
        lineEnd = headBuffer.count &- 1
      }
      position = lf &+ 1
      do {
        if try takeLine(base, lineEnd) { return try finishHead(base, consumed: position) }
      } catch {
        return fail(error)
      }
    }
    return keepUnfinishedHead(start, from: isSplit ? position : 0, to: count)
  }

  private mutating func keepUnfinishedHead(_ start: BytePointer, from: Int, to: Int) -> Step {
    guard headBuffer.count + to - from <= ResponseParser.maximumHeadBytes else { return headTooLarge() }
    headBuffer.append(start + from, count: to - from)
    return Step(consumed: to, event: .needMore)
  }

  private mutating func headTooLarge() -> Step {
    let limit = UInt64(ResponseParser.maximumHeadBytes)
    return fail(WireError(.head, "the head of the answer is larger than {1} bytes", limit), .tooLarge)
  }

  /// Takes the line that ends with the LF at `lf`; true if it was the empty line at the end of the head.
  @inline(__always)
  private mutating func takeLine(_ base: BytePointer, _ lf: Int) throws(WireError) -> Bool {
    let from = progress.lineStart
    var to = lf &- 1
    var hasCarriageReturn = true
    if to < from || base[to] != Byte.cr {
      // RFC 9112, section 2.2: a recipient may take the LF alone for the end of the line.
      to = lf
      hasCarriageReturn = false
      isDoubtful = true
    }
    progress.lineStart = lf &+ 1
    defer { progress.lines &+= 1 }
    if progress.lines == 0 {
      progress.fieldsStart = lf &+ 1
      try progress.takeStatusLine(base, to)
      return false
    }
    if from == to { return true }
    if Byte.isBlank(base[from]), progress.lines > 1 {
      try takeFold(base, from, to)
      return false
    }
    let field = try FieldLine.parse(base, from: from, to: to, line: progress.lines, in: .head)
    progress.noteField(base, from, field)
    if progress.isRewritten || !field.isCanonical || !hasCarriageReturn { rewrite(base, from, field) }
    return false
  }

  /// A folded line: a user agent puts blanks in the place of the line end (RFC 9112, section 5.2). What the field
  /// says is looked at when the head is complete.
  @inline(never)
  private mutating func takeFold(_ base: BytePointer, _ from: Int, _ to: Int) throws(WireError) {
    let (first, last) = trimBlanks(base, from: from, to: to)
    try FieldLine.check(base, first, last, line: progress.lines, in: .head)
    isDoubtful = true
    progress.needsAnotherLook = true
    copyEarlierLines(base, from)
    guard first < last else { return }
    normalized.truncate(to: normalized.count - 2)
    // Behind "name: " of an empty value there is a blank already.
    if normalized.readable.bytePointer[normalized.count - 1] != Byte.space { normalized.append(Byte.space) }
    normalized.append(base + first, count: last - first)
    normalized.append("\r\n")
  }

  /// Copies a line in its normal form, and before the first such line all earlier ones.
  @inline(never)
  private mutating func rewrite(_ base: BytePointer, _ from: Int, _ field: FieldLine) {
    copyEarlierLines(base, from)
    HeaderBlock.appendLine(
      name: UnsafeRawBufferPointer(start: base + from, count: field.nameCount),
      value: UnsafeRawBufferPointer(start: base + field.valueStart, count: field.valueEnd - field.valueStart),
      to: &normalized)
  }

  private mutating func copyEarlierLines(_ base: BytePointer, _ end: Int) {
    guard !progress.isRewritten else { return }
    progress.isRewritten = true
    normalized.append(base + progress.fieldsStart, count: end - progress.fieldsStart)
  }

  private mutating func finishHead(_ base: BytePointer, consumed: Int) throws(WireError) -> Step {
    // The last line of the head, its line end alone, is no header.
    let fieldsEnd = progress.lineStart - (base[progress.lineStart - 2] == Byte.cr ? 2 : 1)
    let original = UnsafeRawBufferPointer(
      start: base + progress.fieldsStart, count: fieldsEnd - progress.fieldsStart)
    if progress.needsAnotherLook {
      if try progress.lookAgain(progress.isRewritten ? normalized.readable : original) { isDoubtful = true }
    }
    let framing = try progress.framing(requestMethodIsHEAD: requestMethodIsHEAD)
    if framing == .chunked, progress.minorVersion == 0 { isDoubtful = true }
    buffersAreLent = true
    if progress.status < 200 { return try finishInterim(consumed: consumed) }
    switch framing {
    case .none: state = .noBody
    case .untilClose: state = .untilClose
    case .chunked: beginChunkSize()
    case .length(let length):
      state = .length
      bodyLength = length
      remaining = length
    }
    let head = ResponseHead(
      status: progress.status, minorVersion: progress.minorVersion, framing: framing,
      closesConnection: isDoubtful || progress.closesConnection(framing), keepsConnection: progress.optionKeepAlive,
      keepAliveTimeoutSeconds: progress.keepAliveTimeout,
      reason: UnsafeRawBufferPointer(start: base + progress.reasonStart, count: progress.reasonCount),
      headers: progress.isRewritten ? normalized.readable : original)
    return Step(consumed: consumed, event: .head(head))
  }

  private mutating func finishInterim(consumed: Int) throws(WireError) -> Step {
    guard progress.status != 101 else {
      throw WireError(.statusLine, "101 Switching Protocols, which nobody asked for")
    }
    if let error = interim.take(progress.lineStart) { return fail(error, .tooLarge) }
    return Step(consumed: consumed, event: .interim(status: progress.status))
  }

  // MARK: Body

  private mutating func parseLength(_ count: Int) -> Step {
    if remaining == 0 { return finish(consumed: 0) }
    guard count > 0 else { return Step(consumed: 0, event: .needMore) }
    let taken = takeBody(count)
    return Step(consumed: taken, event: .body(start: 0, count: taken))
  }

  @inline(__always)
  private mutating func takeBody(_ available: Int) -> Int {
    let taken = remaining < UInt64(available) ? Int(remaining) : available
    remaining &-= UInt64(taken)
    bodyBytesReceived &+= UInt64(taken)
    return taken
  }

  private mutating func beginChunkSize() {
    state = .chunkSize
    chunkDigits = 0
    sectionBytes = 0
    remaining = 0
  }

  /// RFC 9112 section 7.1, byte by byte between the data of chunks.
  private mutating func parseChunked(_ start: BytePointer, _ count: Int) -> Step {
    var i = 0
    while i < count {
      let byte = start[i]
      switch state {
      case .chunkSize, .chunkBlank, .chunkExtension:
        if let error = takeChunkSize(byte) { return fail(error) }
      case .chunkSizeLF:
        guard byte == Byte.lf else { return fail(WireError(.chunk, "the chunk size does not end in CR LF")) }
        guard remaining > 0 else {
          state = .trailer
          sectionBytes = 0
          trailerLines = 0
          return parseTrailer(start, from: i &+ 1, to: count)
        }
        state = .chunkData
      case .chunkData:
        let taken = takeBody(count &- i)
        if remaining == 0 { state = .chunkDataCR }
        return Step(consumed: i &+ taken, event: .body(start: i, count: taken))
      case .chunkDataCR, .chunkDataLF:
        guard byte == (state == .chunkDataCR ? Byte.cr : Byte.lf) else {
          return fail(WireError(.chunk, "expected CR LF after the bytes of a chunk"))
        }
        if state == .chunkDataCR { state = .chunkDataLF } else { beginChunkSize() }
      default: return fail(WireError(.chunk, "no chunk was expected"))
      }
      i &+= 1
    }
    return Step(consumed: count, event: .needMore)
  }

  /// Takes a byte of `chunk-size [ chunk-ext ] CR`. Whitespace may go before an extension (section 7.1.1), and old
  /// servers pad the size with it.
  @inline(__always)
  private mutating func takeChunkSize(_ byte: UInt8) -> WireError? {
    sectionBytes &+= 1
    guard sectionBytes <= ResponseParser.maximumChunkLineBytes else {
      return WireError(.chunk, "the line of a chunk size is longer than {1} bytes", 4_096)
    }
    if state == .chunkSize {
      let digit = Byte.hexValue(byte)
      if digit < 16 {
        chunkDigits &+= 1
        guard remaining <= UInt64(Int64.max) &>> 4 else {
          return WireError(.chunk, "the chunk size is 2^63 or more")
        }
        remaining = remaining &<< 4 | UInt64(digit)
        return nil
      }
      guard chunkDigits > 0 else { return WireError(.chunk, "expected a chunk size in hexadecimal digits") }
    }
    switch byte {
    case Byte.cr: state = .chunkSizeLF
    case Byte.semicolon: state = .chunkExtension
    case Byte.space, Byte.tab: if state == .chunkSize { state = .chunkBlank }
    default:
      guard state == .chunkExtension, !Byte.isForbiddenControl(byte) else {
        return WireError(.chunk, "unexpected character behind a chunk size")
      }
    }
    return nil
  }

  /// Trailer fields are checked and dropped: a recipient may (RFC 9112 section 7.1.2).
  private mutating func parseTrailer(_ start: BytePointer, from: Int, to: Int) -> Step {
    var position = from
    while position < to {
      let lf = firstOffset(of: Byte.lf, in: start, from: position, to: to)
      let lineEnd = lf < 0 ? to : lf + 1
      guard sectionBytes + headBuffer.count + lineEnd - position <= ResponseParser.maximumHeadBytes else {
        let limit = UInt64(ResponseParser.maximumHeadBytes)
        return fail(WireError(.trailer, "the trailers are larger than {1} bytes", limit), .tooLarge)
      }
      var line = UnsafeRawBufferPointer(start: start + position, count: lineEnd - position)
      position = lineEnd
      if lf < 0 || !headBuffer.isEmpty {
        headBuffer.append(line)
        if lf < 0 { break }
        line = headBuffer.readable
      }
      let isLast: Bool
      do {
        isLast = try takeTrailerLine(line.bytePointer, line.count)
      } catch {
        return fail(error)
      }
      sectionBytes += line.count
      headBuffer.removeAll(keepingCapacity: true)
      if isLast { return finish(consumed: position) }
    }
    return Step(consumed: to, event: .needMore)
  }

  private mutating func takeTrailerLine(_ start: BytePointer, _ count: Int) throws(WireError) -> Bool {
    trailerLines += 1
    let hasCarriageReturn = count >= 2 && start[count - 2] == Byte.cr
    if !hasCarriageReturn { isDoubtful = true }
    let end = count - (hasCarriageReturn ? 2 : 1)
    if end == 0 { return true }
    if Byte.isBlank(start[0]), trailerLines > 1 {
      isDoubtful = true
      try FieldLine.check(start, 0, end, line: trailerLines, in: .trailer)
    } else {
      _ = try FieldLine.parse(start, from: 0, to: end, line: trailerLines, in: .trailer)
    }
    return false
  }
}
