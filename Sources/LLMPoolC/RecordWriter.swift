import CLLMPool
import Glibc
import LLMPoolCore
import LLMPoolEngine

/// Copies events one after the other into the caller's bytes.
struct RecordWriter {
  let records: UnsafeMutableRawPointer
  let recordSize: Int
  let bytes: UnsafeMutableRawPointer
  let bytesSize: Int
  private(set) var count = 0
  private var used = 0
  /// The first event alone does not fit.
  private(set) var firstIsTooLarge = false

  init(records: UnsafeMutableRawPointer, recordSize: Int, bytes: UnsafeMutableRawPointer, bytesSize: Int) {
    self.records = records
    self.recordSize = recordSize
    self.bytes = bytes
    self.bytesSize = bytesSize
  }

  private static let timingsSize =
    MemoryLayout<TimingsRecord>.size - MemoryLayout<TimingsRecord>.offset(of: \.admitted)!

  /// The timings are numbers, aligned; offsets are 32 bits.
  private func end(of event: EventRecord) -> (begin: Int, timings: Int, end: Int) {
    let plain = event.data.count + event.headers.count + sseEvent(event).count + sseID(event).count + textSize(event)
    guard event.hasTimings else { return (used, used + plain, used + plain) }
    let timings = (used + plain + 7) & ~7
    return (used, timings, timings + RecordWriter.timingsSize)
  }

  private func sseEvent(_ event: EventRecord) -> EventBytes {
    let isMessage = event.sseEvent.count == 7 && memcmp(event.sseEvent.base, "message", 7) == 0
    return isMessage ? EventRecord.empty : event.sseEvent
  }
  private func sseID(_ event: EventRecord) -> EventBytes { event.sseIDIsUnchanged ? EventRecord.empty : event.sseID }
  private func hasMessage(_ event: EventRecord) -> Bool { event.message.count > 0 }
  private func textSize(_ event: EventRecord) -> Int {
    if hasMessage(event) { return event.message.count + 1 }
    return event.kind == .head || event.kind == .done ? event.reason.count + 1 + event.peer.count + 1 : 0
  }

  /// False where it does not fit any more.
  mutating func add(_ event: EventRecord) -> Bool {
    let (begin, timingsStart, end) = end(of: event)
    guard end <= bytesSize, end <= Int(UInt32.max) else {
      if count == 0 { describeTooLarge(event, end) }
      return false
    }
    var record = head(of: event)
    record.begin = UInt32(begin)
    used = begin
    record.data_end = copy(event.data)
    record.headers_end = copy(event.headers)
    record.sse_event_end = copy(sseEvent(event))
    record.sse_id_end = copy(sseID(event))
    record.text_end = copyText(event)
    record.timings_end = copyTimings(event, timingsStart)
    used = end
    put(record)
    count += 1
    return true
  }

  /// The record says what event it is and, as its end, how much room it wants.
  private mutating func describeTooLarge(_ event: EventRecord, _ end: Int) {
    firstIsTooLarge = true
    var record = head(of: event)
    record.timings_end = UInt32(clamping: end)
    put(record)
  }

  private func put(_ record: llmpool_record_t) {
    let target = (records + count * recordSize).assumingMemoryBound(to: llmpool_record_t.self)
    write(record, to: target, size: recordSize)
  }

  /// All but where its parts lie.
  private func head(of event: EventRecord) -> llmpool_record_t {
    var record = llmpool_record_t()
    record.user_data = event.userData
    record.kind = event.kind.rawValue
    record.flags = event.flags.rawValue
    if event.kind == .sse, !event.sseIDIsUnchanged, event.sseID.count == 0 {
      record.flags |= UInt32(LLMPOOL_EVENT_ID_RESET)
    }
    record.status = event.status
    record.http_status = event.httpStatus
    record.http_version = event.httpVersion
    record.attempts = event.attempts
    record.credit = event.credit
    record.notice = event.notice
    record.sse_retry_ms = event.sseRetry
    record.connection_id = event.connectionID
    record.sse_count = event.sseCount
    return record
  }

  private mutating func copy(_ part: EventBytes, withNUL: Bool = false) -> UInt32 {
    let size = part.count + (withNUL ? 1 : 0)
    (bytes + used).copyMemory(from: part.base, byteCount: size)
    used += size
    return UInt32(used)
  }

  private mutating func copyText(_ event: EventRecord) -> UInt32 {
    if hasMessage(event) { return copy(event.message, withNUL: true) }
    guard event.kind == .head || event.kind == .done else { return UInt32(used) }
    _ = copy(event.reason, withNUL: true)
    return copy(event.peer, withNUL: true)
  }

  private func copyTimings(_ event: EventRecord, _ start: Int) -> UInt32 {
    guard event.hasTimings else { return UInt32(used) }
    let offset = MemoryLayout<TimingsRecord>.offset(of: \.admitted)!
    withUnsafeBytes(of: event.timings) {
      (bytes + start).copyMemory(from: $0.baseAddress! + offset, byteCount: RecordWriter.timingsSize)
    }
    return UInt32(start + RecordWriter.timingsSize)
  }
}
