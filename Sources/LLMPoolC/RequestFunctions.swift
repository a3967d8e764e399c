import CLLMPool
import LLMPoolCore
import LLMPoolEngine

@implementation @_cdecl("llmpool_submit")
public func llmpool_submit(
  _ pool: OpaquePointer!, _ request: UnsafePointer<llmpool_request_t>!, _ queue: OpaquePointer!,
  _ id_out: UnsafeMutablePointer<UInt64>!
) -> llmpool_status_t {
  status { () throws(Fault) in
    let engine = try LLMPoolC.engine(pool)
    let input = try llmpool_request_t.read(request)
    let target = try required(id_out, "id_out")
    try engine.submit(input, queue: try openQueue(queue)) { target.pointee = $0 }
  }
}

@implementation @_cdecl("llmpool_perform")
public func llmpool_perform(
  _ pool: OpaquePointer!, _ request: UnsafePointer<llmpool_request_t>!,
  _ done_out: UnsafeMutablePointer<llmpool_event_t>!, _ event_size: Int, _ id_out: UnsafeMutablePointer<UInt64>!
) -> llmpool_status_t {
  status { () throws(Fault) in
    let engine = try LLMPoolC.pool(pool).open()
    let target = try required(done_out, "done_out")
    try llmpool_event_t.checkSize(event_size)
    let input = try llmpool_request_t.read(request)
    let record = try engine.perform(input) { id_out?.pointee = $0 }
    llmpool_event_t.write(record, to: UnsafeMutableRawPointer(target), event_size)
  }
}

@implementation @_cdecl("llmpool_write")
public func llmpool_write(
  _ pool: OpaquePointer!, _ request_id: UInt64, _ data: UnsafeRawPointer!, _ size: Int, _ last: Int32
) -> llmpool_status_t {
  status { () throws(Fault) in
    let engine = try LLMPoolC.pool(pool).open()
    guard data != nil || size == 0 else { throw Fault(.invalidArgument, "data: NULL, but size is \(size)") }
    try checkSize(size, "size")
    let piece = UnsafeRawBufferPointer(start: data, count: size)
    guard try engine.write(request_id, piece, last: last != 0) else {
      throw Fault(.again, "data: 1 MiB waits to be sent; a WRITABLE event says when to go on")
    }
  }
}

@implementation @_cdecl("llmpool_cancel")
public func llmpool_cancel(_ pool: OpaquePointer!, _ request_id: UInt64) -> llmpool_status_t {
  status { () throws(Fault) in
    guard try LLMPoolC.pool(pool).open().cancel(request_id) else { throw noSuchRequest(request_id) }
  }
}

@implementation @_cdecl("llmpool_credit")
public func llmpool_credit(_ pool: OpaquePointer!, _ request_id: UInt64, _ bytes: UInt64) -> llmpool_status_t {
  status { () throws(Fault) in
    let engine = try LLMPoolC.pool(pool).open()
    guard engine.credit(request_id, Int(clamping: bytes)) else { throw noSuchRequest(request_id) }
  }
}

private func noSuchRequest(_ id: UInt64) -> Fault {
  Fault(.notFound, "request_id: no request \(id), or it is over")
}
