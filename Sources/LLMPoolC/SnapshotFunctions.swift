import CLLMPool
import LLMPoolCore
import LLMPoolEngine

@implementation @_cdecl("llmpool_reasons")
public func llmpool_reasons(
  _ pool: OpaquePointer!, _ origin: UnsafePointer<CChar>!, _ reasons_out: UnsafeMutablePointer<llmpool_reason_t>!,
  _ reason_size: Int, _ capacity: UInt32, _ count_out: UnsafeMutablePointer<UInt32>!
) -> llmpool_status_t {
  status { () throws(Fault) in
    let counts = try LLMPoolC.pool(pool).open().reasons(ofOrigin: text(origin))
    let rows = ReasonRow.all.enumerated().map { llmpool_reason_t($1, counts[$0]) }
    try write(rows.prefix(Int(capacity)), to: reasons_out, ("reasons_out", "reason_size", reason_size))
    count_out?.pointee = UInt32(rows.count)
  }
}

@implementation @_cdecl("llmpool_requests")
public func llmpool_requests(
  _ pool: OpaquePointer!, _ inflight_out: UnsafeMutablePointer<llmpool_inflight_t>!, _ inflight_size: Int,
  _ capacity: UInt32, _ count_out: UnsafeMutablePointer<UInt32>!
) -> llmpool_status_t {
  status { () throws(Fault) in
    let requests = try LLMPoolC.pool(pool).open().inFlight
    let shown = requests.prefix(Int(capacity)).map { llmpool_inflight_t($0) }
    try write(shown, to: inflight_out, ("inflight_out", "inflight_size", inflight_size))
    count_out?.pointee = UInt32(requests.count)
  }
}

@implementation @_cdecl("llmpool_serve_stats")
public func llmpool_serve_stats(_ pool: OpaquePointer!, _ directory: UnsafePointer<CChar>!) -> llmpool_status_t {
  status { () throws(Fault) in try LLMPoolC.pool(pool).show(in: text(directory)) }
}

// MARK: Structs

extension llmpool_reason_t {
  fileprivate init(_ row: ReasonRow, _ count: UInt64) {
    self.init()
    name = row.name
    kind = row.kind.rawValue
    self.count = count
    has_series = row.hasSeries ? 1 : 0
  }
}

extension llmpool_inflight_t {
  fileprivate init(_ request: InFlight) {
    self.init()
    request_id = request.id
    user_data = request.userData
    age_us = UInt64(request.age / 1_000)
    bytes_sent = UInt64(request.bytesSent)
    bytes_received = UInt64(request.bytesReceived)
    phase = request.phase.rawValue
    attempts = request.attempts
    withUnsafeMutableBytes(of: &origin) { target in
      target.copyBytes(from: request.origin.utf8.prefix(target.count - 1))
    }
  }
}
