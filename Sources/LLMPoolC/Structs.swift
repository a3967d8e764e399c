import CLLMPool
import Glibc
import LLMPoolCore
import LLMPoolEngine

// Structs that begin with their size and grow only at the end (the rule is in the header's first comment).

/// Reads a struct of any known size over `defaults`; what the caller's has not keeps its default.
func read<Struct>(
  _ pointer: UnsafePointer<Struct>, _ name: String, smallest: Int, over defaults: Struct
) throws(CallError) -> Struct {
  let size = UnsafeRawPointer(pointer).load(as: Int.self)
  let known = MemoryLayout<Struct>.stride
  guard size >= smallest, size <= 1 << 20 else {
    throw CallError(.invalidArgument, "\(name).size: expected sizeof(\(Struct.self)) = \(known), got \(size)")
  }
  try refuseUnknownTail(UnsafeRawPointer(pointer), size, known, name)
  var copy = defaults
  withUnsafeMutableBytes(of: &copy) { $0.baseAddress!.copyMemory(from: pointer, byteCount: min(size, known)) }
  return copy
}

/// What we do not know must be nothing: a caller with a newer header may ask only for what we can do.
private func refuseUnknownTail(
  _ start: UnsafeRawPointer, _ size: Int, _ known: Int, _ name: String
) throws(CallError) {
  guard size > known else { return }
  for offset in known..<size where start.load(fromByteOffset: offset, as: UInt8.self) != 0 {
    throw CallError(
      .unsupported, "\(name).size: \(size), and byte \(offset) is set, which this version of the library does not know")
  }
}

/// Writes a struct into the caller's, as much of it as fits; its own size field stays as the caller set it.
func write<Struct>(_ value: Struct, to pointer: UnsafeMutablePointer<Struct>, size: Int) {
  let known = MemoryLayout<Struct>.stride
  let target = UnsafeMutableRawPointer(pointer)
  withUnsafeBytes(of: value) { target.copyMemory(from: $0.baseAddress!, byteCount: min(size, known)) }
  if size > known { memset(target + known, 0, size - known) }
}

/// The size that a caller has set in a struct to be written to.
func declaredSize<Struct>(
  _ pointer: UnsafeMutablePointer<Struct>, _ name: String, smallest: Int
) throws(CallError) -> Int {
  let size = UnsafeRawPointer(pointer).load(as: Int.self)
  guard size >= smallest, size <= 1 << 20 else {
    throw CallError(
      .invalidArgument, "\(name).size: expected sizeof(\(Struct.self)) = \(MemoryLayout<Struct>.stride), got \(size)")
  }
  return size
}

// MARK: Options

/// llmpool_options_init() leaves it, so that options it did not fill in are noticed.
private let filledMark: UInt64 = 0x6C6C_6D70_6F6F_6C31

/// The texts of settings that the library lends out; a pool's live as long as the pool.
final class LentStrings {
  let caFile, clientCertFile, clientKeyFile, proxy, noProxy: UnsafePointer<CChar>?

  init(_ settings: PoolSettings) {
    func copy(_ text: String?) -> UnsafePointer<CChar>? { text.map { UnsafePointer(strdup($0)) } }
    caFile = copy(settings.caFile)
    clientCertFile = copy(settings.clientCertFile)
    clientKeyFile = copy(settings.clientKeyFile)
    proxy = copy(settings.proxy)
    noProxy = copy(settings.noProxy)
  }

  deinit {
    for text in [caFile, clientCertFile, clientKeyFile, proxy, noProxy] { free(UnsafeMutablePointer(mutating: text)) }
  }
}

extension llmpool_options_t {
  /// The settings as the caller sees them, with what is lent of them.
  static func make(_ settings: PoolSettings, _ strings: LentStrings?) -> llmpool_options_t {
    var options = llmpool_options_t()
    options.max_connections = settings.maxConnections
    options.max_connections_per_origin = settings.maxConnectionsPerOrigin
    options.max_keepalive_connections = settings.maxKeepaliveConnections
    options.keepalive_expiry_ms = settings.keepaliveExpiry
    options.max_connection_age_ms = settings.maxConnectionAge
    options.max_streams_per_connection = settings.maxStreamsPerConnection
    options.max_pending_requests = settings.maxPendingRequests
    options.connect_timeout_ms = settings.connectTimeout
    options.read_timeout_ms = settings.readTimeout
    options.write_timeout_ms = settings.writeTimeout
    options.pool_timeout_ms = settings.poolTimeout
    options.first_byte_timeout_ms = settings.firstByteTimeout
    options.total_timeout_ms = settings.totalTimeout
    options.http_versions = UInt32(settings.httpVersions.rawValue)
    options.dns_cache_ttl_ms = settings.dnsCacheTTL
    options.tcp_keepalive_ms = settings.tcpKeepalive
    options.ping_interval_ms = settings.pingInterval
    options.stream_window_bytes = settings.streamWindow
    options.max_retries = settings.maxRetries
    options.retry_backoff_ms = settings.retryBackoff
    options.retry_backoff_max_ms = settings.retryBackoffMax
    options.retry_after_max_ms = settings.retryAfterMax
    options.utilization_warning_percent = settings.utilizationWarning
    options.tls_insecure = settings.insecureTLS ? 1 : 0
    options.ca_file = strings?.caFile
    options.client_cert_file = strings?.clientCertFile
    options.client_key_file = strings?.clientKeyFile
    options.proxy = strings?.proxy
    options.no_proxy = strings?.noProxy
    options.filled = filledMark
    return options
  }

  /// The smallest options that say anything: up to max_connections.
  static let smallestSize = MemoryLayout<Int>.size + MemoryLayout<UInt32>.size

  static func read(_ pointer: UnsafePointer<llmpool_options_t>?) throws(CallError) -> PoolSettings {
    guard let pointer else { return PoolSettings() }
    let options = try LLMPoolC.read(
      pointer, "options", smallest: smallestSize, over: make(PoolSettings(), nil))
    guard options.filled == filledMark else {
      throw CallError(.invalidArgument, "options: not filled in by llmpool_options_init() or llmpool_options_get()")
    }
    return try options.settings()
  }

  private func settings() throws(CallError) -> PoolSettings {
    guard let versions = HTTPVersions(rawValue: UInt8(clamping: http_versions)) else {
      throw CallError(.invalidArgument, "http_versions: expected LLMPOOL_HTTP_AUTO, _1_1 or _2, got \(http_versions)")
    }
    guard tls_insecure <= 1 else { throw CallError(.invalidArgument, "tls_insecure: expected 0 or 1") }
    var settings = PoolSettings()
    settings.maxConnections = max_connections
    settings.maxConnectionsPerOrigin = max_connections_per_origin
    settings.maxKeepaliveConnections = max_keepalive_connections
    settings.keepaliveExpiry = keepalive_expiry_ms
    settings.maxConnectionAge = max_connection_age_ms
    settings.maxStreamsPerConnection = max_streams_per_connection
    settings.maxPendingRequests = max_pending_requests
    settings.connectTimeout = connect_timeout_ms
    settings.readTimeout = read_timeout_ms
    settings.writeTimeout = write_timeout_ms
    settings.poolTimeout = pool_timeout_ms
    settings.firstByteTimeout = first_byte_timeout_ms
    settings.totalTimeout = total_timeout_ms
    settings.httpVersions = versions
    settings.dnsCacheTTL = dns_cache_ttl_ms
    settings.tcpKeepalive = tcp_keepalive_ms
    settings.pingInterval = ping_interval_ms
    settings.streamWindow = stream_window_bytes
    settings.maxRetries = max_retries
    settings.retryBackoff = retry_backoff_ms
    settings.retryBackoffMax = retry_backoff_max_ms
    settings.retryAfterMax = retry_after_max_ms
    settings.utilizationWarning = utilization_warning_percent
    settings.insecureTLS = tls_insecure == 1
    settings.caFile = text(ca_file)
    settings.clientCertFile = text(client_cert_file)
    settings.clientKeyFile = text(client_key_file)
    settings.proxy = text(proxy)
    settings.noProxy = text(no_proxy)
    return settings
  }
}

// MARK: Requests

extension llmpool_request_t {
  /// The smallest request that says anything: up to its URL.
  static let smallestSize = MemoryLayout<llmpool_request_t>.offset(of: \.url_size)!

  static func read(_ pointer: UnsafePointer<llmpool_request_t>?) throws(CallError) -> RequestInput {
    guard let pointer else { throw CallError(.invalidArgument, "request: it is NULL") }
    let request = try LLMPoolC.read(pointer, "request", smallest: smallestSize, over: llmpool_request_t())
    guard request.url != nil else { throw CallError(.invalidArgument, "url: it is NULL") }
    guard request.headers != nil || request.headers_size == 0 else {
      throw CallError(.invalidArgument, "headers: NULL, but headers_size is \(request.headers_size)")
    }
    guard request.body != nil || request.body_size == 0 else {
      throw CallError(.invalidArgument, "body: NULL, but body_size is \(request.body_size)")
    }
    return request.input()
  }

  private func input() -> RequestInput {
    var input = RequestInput()
    input.flags = RequestFlags(rawValue: flags)
    input.priority = priority
    input.userData = user_data
    input.method = bytes(method)
    input.url = bytes(url, url_size)
    input.headers = UnsafeRawBufferPointer(start: headers, count: headers_size)
    input.body = UnsafeRawBufferPointer(start: body, count: body_size)
    input.maxResponseBytes = Int(clamping: max_response_bytes)
    input.connectTimeout = connect_timeout_ms
    input.readTimeout = read_timeout_ms
    input.writeTimeout = write_timeout_ms
    input.poolTimeout = pool_timeout_ms
    input.firstByteTimeout = first_byte_timeout_ms
    input.totalTimeout = total_timeout_ms
    input.serverName = bytes(server_name)
    return input
  }
}

// MARK: Events

extension llmpool_event_t {
  /// Fills the caller's event; the record goes with it until it is released.
  static func write(
    _ record: UnsafeMutablePointer<EventRecord>, to target: UnsafeMutableRawPointer, _ size: Int
  ) {
    var event = llmpool_event_t()
    let source = record.pointee
    event.request_id = source.requestID
    event.user_data = source.userData
    event.kind = source.kind.rawValue
    event.flags = source.flags.rawValue
    event.status = source.status
    event.http_status = source.httpStatus
    event.http_version = source.httpVersion
    event.attempts = source.attempts
    event.credit = source.credit
    event.notice = source.notice
    event.data = source.data.base
    event.data_size = source.data.count
    event.headers = source.headers.base
    event.headers_size = source.headers.count
    event.sse_event = source.sseEvent.base
    event.sse_event_size = source.sseEvent.count
    event.sse_id = source.sseID.base
    event.sse_id_size = source.sseID.count
    event.sse_retry_ms = source.sseRetry
    event.sse_count = source.sseCount
    event.reason = source.reason.base
    event.message = source.message.base
    event.peer = source.peer.base
    event.connection_id = source.connectionID
    if source.kind == .done { event.timings = timings(of: record) }
    event.opaque = UnsafeMutableRawPointer(record)
    LLMPoolC.write(event, to: target.assumingMemoryBound(to: llmpool_event_t.self), size: size)
  }

  private static func timings(of record: UnsafeMutablePointer<EventRecord>) -> UnsafePointer<llmpool_timings_t> {
    let offset = MemoryLayout<EventRecord>.offset(of: \.timings)!
    return UnsafeRawPointer(record).advanced(by: offset).assumingMemoryBound(to: llmpool_timings_t.self)
  }

  static func checkSize(_ size: Int) throws(CallError) {
    guard size >= MemoryLayout<llmpool_event_t>.stride, size <= 1 << 20 else {
      throw CallError(
        .invalidArgument,
        "event_size: expected sizeof(llmpool_event_t) = \(MemoryLayout<llmpool_event_t>.stride), got \(size)")
    }
  }
}

// MARK: Records

extension llmpool_record_t {
  static func checkSize(_ size: Int) throws(CallError) {
    guard size >= MemoryLayout<llmpool_record_t>.stride, size <= 1 << 20 else {
      throw CallError(
        .invalidArgument,
        "record_size: expected sizeof(llmpool_record_t) = \(MemoryLayout<llmpool_record_t>.stride), got \(size)")
    }
  }
}

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

  /// The timings are eight numbers, aligned; offsets are 32 bits.
  private func end(of event: EventRecord) -> (begin: Int, timings: Int, end: Int) {
    let plain = event.data.count + event.headers.count + sseEvent(event).count + sseID(event).count + textSize(event)
    guard event.kind == .done else { return (used, used + plain, used + plain) }
    let timings = (used + plain + 7) & ~7
    return (used, timings, timings + 64)
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
      if count == 0 { firstIsTooLarge = true }
      return false
    }
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
    record.begin = UInt32(begin)
    used = begin
    record.data_end = copy(event.data)
    record.headers_end = copy(event.headers)
    record.sse_event_end = copy(sseEvent(event))
    record.sse_id_end = copy(sseID(event))
    record.text_end = copyText(event)
    record.timings_end = copyTimings(event, timingsStart)
    used = end
    let target = (records + count * recordSize).assumingMemoryBound(to: llmpool_record_t.self)
    write(record, to: target, size: recordSize)
    count += 1
    return true
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
    guard event.kind == .done else { return UInt32(used) }
    let offset = MemoryLayout<TimingsRecord>.offset(of: \.admitted)!
    withUnsafeBytes(of: event.timings) {
      (bytes + start).copyMemory(from: $0.baseAddress! + offset, byteCount: 64)
    }
    return UInt32(start + 64)
  }
}

// MARK: Statistics

extension llmpool_stats_t {
  static let smallestSize = MemoryLayout<Int>.size * 2

  init(_ statistics: Statistics, size: Int) {
    self.init()
    self.size = size
    let counters = statistics.counters
    submitted = UInt64(counters.submitted)
    succeeded = UInt64(counters.succeeded)
    failed = UInt64(counters.failed)
    cancelled = UInt64(counters.cancelled)
    retries = UInt64(counters.retries)
    pending = UInt64(counters.pending)
    active = UInt64(counters.active)
    backing_off = UInt64(counters.backingOff)
    connecting = UInt64(counters.connecting)
    in_use = UInt64(counters.inUse)
    idle = UInt64(counters.idle)
    opened = UInt64(counters.opened)
    closed = UInt64(counters.closed)
    reused = UInt64(counters.reused)
    connect_failures = UInt64(counters.connectFailures)
    dns_lookups = UInt64(counters.dnsLookups)
    dns_cache_hits = UInt64(counters.dnsCacheHits)
    tls_handshakes = UInt64(statistics.wire.tlsHandshakes)
    tls_resumptions = UInt64(statistics.wire.tlsResumptions)
    bytes_sent = UInt64(statistics.wire.bytesSent)
    bytes_received = UInt64(statistics.wire.bytesReceived)
    utilization = statistics.utilization
  }
}
