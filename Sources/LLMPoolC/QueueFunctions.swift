import CLLMPool
import Glibc
import LLMPoolCore
import LLMPoolEngine

@implementation @_cdecl("llmpool_queue_open")
public func llmpool_queue_open(
  _ options: UnsafePointer<llmpool_queue_options_t>!, _ queue_out: UnsafeMutablePointer<OpaquePointer?>!
) -> llmpool_status_t {
  status { () throws(Fault) in
    let target = try required(queue_out, "queue_out")
    var settings = llmpool_queue_options_t()
    if let options { settings = try read(options, "options", smallest: MemoryLayout<Int>.size, over: settings) }
    let unknown = settings.flags & ~UInt32(LLMPOOL_QUEUE_DRIVE)
    guard unknown == 0 else { throw Fault(.unsupported, "options.flags: unknown bits \(unknown)") }
    target.pointee = Handles.give(QueueHandle(CompletionQueue(settings)))
  }
}

extension CompletionQueue {
  fileprivate convenience init(_ options: llmpool_queue_options_t) {
    self.init(
      coalesceMicroseconds: options.coalesce_us, streamCoalesceMicroseconds: options.stream_coalesce_us,
      drives: options.flags & UInt32(LLMPOOL_QUEUE_DRIVE) != 0)
  }
}

@implementation @_cdecl("llmpool_queue_fd")
public func llmpool_queue_fd(_ queue: OpaquePointer!) -> Int32 {
  var descriptor: Int32 = -1
  let result = status { () throws(Fault) in
    guard let open = try LLMPoolC.queue(queue).open().descriptor() else {
      throw Fault(.closed, "queue: it is closed")
    }
    guard open >= 0 else { throw Fault(.outOfMemory, "queue: no descriptor is left for it") }
    descriptor = open
  }
  return result < 0 ? result : descriptor
}

@implementation @_cdecl("llmpool_queue_drain")
public func llmpool_queue_drain(
  _ queue: OpaquePointer!, _ events: UnsafeMutablePointer<llmpool_event_t>!, _ event_size: Int, _ capacity: UInt32,
  _ timeout_ms: Int32
) -> Int32 {
  var count: Int32 = 0
  let result = status { () throws(Fault) in
    let queue = try LLMPoolC.queue(queue).open()
    let target = UnsafeMutableRawPointer(try required(events, "events"))
    try llmpool_event_t.checkSize(event_size)
    guard capacity > 0 else { throw Fault(.invalidArgument, "capacity: expected at least 1") }
    count = try drain(queue, target, event_size, Int(capacity), timeout_ms)
  }
  return result < 0 ? result : count
}

private func drain(
  _ queue: CompletionQueue, _ target: UnsafeMutableRawPointer, _ size: Int, _ capacity: Int, _ timeout: Int32
) throws(Fault) -> Int32 {
  var next = target
  let records = try queue.drain(capacity, timeoutMilliseconds: timeout) { record in
    llmpool_event_t.write(record, to: next, size)
    next += size
  }
  return Int32(records)
}

@implementation @_cdecl("llmpool_events_release")
public func llmpool_events_release(
  _ events: UnsafeMutablePointer<llmpool_event_t>!, _ event_size: Int, _ count: UInt32
) {
  guard let events, event_size >= MemoryLayout<llmpool_event_t>.stride, event_size <= 1 << 20 else { return }
  _ = statusOfClosing { () throws(Fault) in
    for index in 0..<Int(count) { release(UnsafeMutableRawPointer(events) + index * event_size) }
  }
}

private func release(_ address: UnsafeMutableRawPointer) {
  let event = address.assumingMemoryBound(to: llmpool_event_t.self)
  guard let record = event.pointee.opaque else { return }
  event.pointee.opaque = nil
  EventRecord.release(record.assumingMemoryBound(to: EventRecord.self))
}

@implementation @_cdecl("llmpool_queue_read")
public func llmpool_queue_read(
  _ queue: OpaquePointer!, _ records: UnsafeMutablePointer<llmpool_record_t>!, _ record_size: Int, _ capacity: UInt32,
  _ bytes: UnsafeMutablePointer<CChar>!, _ bytes_size: Int
) -> Int32 {
  var count: Int32 = 0
  let result = status { () throws(Fault) in
    let queue = try LLMPoolC.queue(queue).open()
    let target = UnsafeMutableRawPointer(try required(records, "records"))
    let room = UnsafeMutableRawPointer(try required(bytes, "bytes"))
    try llmpool_record_t.checkSize(record_size)
    let writer = RecordWriter(records: target, recordSize: record_size, bytes: room, bytesSize: bytes_size)
    count = try read(queue, writer, Int(capacity))
  }
  return result < 0 ? result : count
}

private func read(_ queue: CompletionQueue, _ writer: RecordWriter, _ capacity: Int) throws(Fault) -> Int32 {
  try checkSize(writer.bytesSize, "bytes_size")
  var writer = writer
  let count = try queue.read(capacity) { writer.add($0.pointee) }
  guard !writer.firstIsTooLarge else {
    throw Fault(
      .tooLarge, "bytes_size: the first event does not fit into \(writer.bytesSize); its record says what it wants")
  }
  return Int32(count)
}

@implementation @_cdecl("llmpool_queue_close")
public func llmpool_queue_close(_ queue: OpaquePointer!) -> llmpool_status_t {
  statusOfClosing { () throws(Fault) in try LLMPoolC.queue(queue).close() }
}

@implementation @_cdecl("llmpool_event_header")
public func llmpool_event_header(
  _ event: UnsafePointer<llmpool_event_t>!, _ name: UnsafePointer<CChar>!, _ size_out: UnsafeMutablePointer<Int>!
) -> UnsafePointer<CChar>! {
  size_out?.pointee = 0
  guard let event, let name, let headers = event.pointee.headers else { return nil }
  let block = UnsafeRawBufferPointer(start: headers, count: event.pointee.headers_size)
  guard let value = headerValue(bytes(name), in: block) else { return nil }
  size_out?.pointee = value.count
  return value.baseAddress!.assumingMemoryBound(to: CChar.self)
}
