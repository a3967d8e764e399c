import CLLMPool
import Glibc
import LLMPoolCore
import LLMPoolEngine

// Structs that begin with their size and grow only at the end (the rule is in the header's first comment).

/// No struct of ours will ever be as large: whoever says so has not set its size.
let largestStruct = 1 << 20

/// Refuses a size that no version of the struct has had.
func checkSize<Struct>(
  _ size: Int, of: Struct.Type, _ name: @autoclosure () -> String, smallest: Int
) throws(Fault) {
  guard size >= smallest, size <= largestStruct else {
    throw Fault(
      .invalidArgument, "\(name()): expected sizeof(\(Struct.self)) = \(MemoryLayout<Struct>.stride), got \(size)")
  }
}

/// Reads a struct of any known size over `defaults`; what the caller's has not keeps its default.
func read<Struct>(
  _ pointer: UnsafePointer<Struct>, _ name: String, smallest: Int, over defaults: Struct
) throws(Fault) -> Struct {
  let size = UnsafeRawPointer(pointer).load(as: Int.self)
  let known = MemoryLayout<Struct>.stride
  try checkSize(size, of: Struct.self, "\(name).size", smallest: smallest)
  try refuseUnknownTail(UnsafeRawPointer(pointer), size, known, name)
  var copy = defaults
  withUnsafeMutableBytes(of: &copy) { $0.baseAddress!.copyMemory(from: pointer, byteCount: min(size, known)) }
  return copy
}

/// What we do not know must be nothing: a caller with a newer header may ask only for what we can do.
private func refuseUnknownTail(
  _ start: UnsafeRawPointer, _ size: Int, _ known: Int, _ name: String
) throws(Fault) {
  guard size > known else { return }
  for offset in known..<size where start.load(fromByteOffset: offset, as: UInt8.self) != 0 {
    throw Fault(
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

/// Reads one of the caller's array, whose elements have the size of his header.
func element<Struct>(
  _ index: Int, of array: UnsafePointer<Struct>, _ size: Int, over defaults: Struct
) -> Struct {
  let source = UnsafeRawPointer(array) + index * size
  var copy = defaults
  withUnsafeMutableBytes(of: &copy) { $0.baseAddress!.copyMemory(from: source, byteCount: min(size, $0.count)) }
  return copy
}

/// The caller's array of structs that are to be written, whose elements have the size of his header.
func required<Struct>(
  _ target: UnsafeMutablePointer<Struct>?, _ argument: (name: String, sizeName: String, size: Int),
  smallest: Int = MemoryLayout<Struct>.stride
) throws(Fault) -> UnsafeMutablePointer<Struct> {
  let target = try required(target, argument.name)
  try checkSize(argument.size, of: Struct.self, argument.sizeName, smallest: smallest)
  return target
}

/// Writes structs one after the other into the caller's array.
func write<Struct>(
  _ values: some Collection<Struct>, to target: UnsafeMutablePointer<Struct>?,
  _ argument: (name: String, sizeName: String, size: Int), smallest: Int = MemoryLayout<Struct>.stride
) throws(Fault) {
  guard !values.isEmpty else { return }
  let target = try required(target, argument, smallest: smallest)
  for (index, value) in values.enumerated() {
    let place = UnsafeMutableRawPointer(target) + index * argument.size
    write(value, to: place.assumingMemoryBound(to: Struct.self), size: argument.size)
  }
}

/// A size_t from SSIZE_MAX on is none that memory can have: an error of the caller's, which is negative here.
func checkSize(_ size: Int, _ name: @autoclosure () -> String, most: Int = .max) throws(Fault) {
  guard size < 0 || size > most else { return }
  throw Fault(.invalidArgument, "\(name()): expected at most \(most), got \(UInt(bitPattern: size))")
}

/// A struct of the caller's that is to be written to, and the size that he has set in it.
func sized<Struct>(
  _ pointer: UnsafeMutablePointer<Struct>?, _ name: String, smallest: Int
) throws(Fault) -> (UnsafeMutablePointer<Struct>, Int) {
  let pointer = try required(pointer, name)
  let size = UnsafeRawPointer(pointer).load(as: Int.self)
  try checkSize(size, of: Struct.self, "\(name).size", smallest: smallest)
  return (pointer, size)
}

/// A time in milliseconds, rounded up.
func milliseconds(_ time: Nanoseconds) -> UInt64 { UInt64((time + 999_999) / 1_000_000) }

/// A number that may be any, which is the largest here and there.
func numberOrAny(_ number: Int) -> UInt64 { number == .max ? .max : UInt64(number) }

// MARK: Options

/// llmpool_options_init() leaves it, so that options it did not fill in are noticed.
private let filledMark: UInt64 = 0x6C6C_6D70_6F6F_6C31

/// The texts of settings that the library lends out; a pool's live as long as the pool.
final class LentStrings {
  /// By the name of the option.
  let texts: [String: UnsafePointer<CChar>]

  init(_ settings: PoolSettings) {
    var texts: [String: UnsafePointer<CChar>] = [:]
    for text in PoolSettings.texts {
      if let copy = settings[keyPath: text.path].flatMap({ strdup($0) }) { texts[text.name] = UnsafePointer(copy) }
    }
    self.texts = texts
  }

  deinit { for text in texts.values { free(UnsafeMutablePointer(mutating: text)) } }
}

extension llmpool_options_t {
  /// The settings as the caller sees them, with what is lent of them.
  static func make(_ settings: PoolSettings, _ strings: LentStrings?) -> llmpool_options_t {
    var options = llmpool_options_t()
    withUnsafeMutableBytes(of: &options) { bytes in
      for option in PoolSettings.numbers {
        bytes.storeBytes(
          of: option.read(settings), toByteOffset: Layout.offset(option.name, in: Layout.options), as: UInt32.self)
      }
      for text in PoolSettings.texts {
        bytes.storeBytes(
          of: strings?.texts[text.name], toByteOffset: Layout.offset(text.name, in: Layout.options),
          as: UnsafePointer<CChar>?.self)
      }
    }
    options.filled = filledMark
    return options
  }

  /// The smallest options that say anything: up to max_connections.
  static let smallestSize = MemoryLayout<Int>.size + MemoryLayout<UInt32>.size

  static func read(_ pointer: UnsafePointer<llmpool_options_t>?) throws(Fault) -> PoolSettings {
    guard let pointer else { return PoolSettings() }
    let options = try LLMPoolC.read(
      pointer, "options", smallest: smallestSize, over: make(PoolSettings(), nil))
    guard options.filled == filledMark else {
      throw Fault(.invalidArgument, "options: not filled in by llmpool_options_init() or llmpool_options_get()")
    }
    return try options.settings()
  }

  private func settings() throws(Fault) -> PoolSettings {
    var settings = PoolSettings()
    for option in PoolSettings.numbers {
      try settings.set(option, load(Layout.offset(option.name, in: Layout.options), as: UInt32.self))
    }
    for option in PoolSettings.texts {
      let value = load(Layout.offset(option.name, in: Layout.options), as: UnsafePointer<CChar>?.self)
      settings[keyPath: option.path] = text(value)
    }
    return settings
  }

  private func load<Value>(_ offset: Int, as type: Value.Type) -> Value {
    withUnsafeBytes(of: self) { $0.load(fromByteOffset: offset, as: type) }
  }
}

// MARK: Requests

extension llmpool_request_t {
  /// The smallest request that says anything: up to its URL.
  static let smallestSize = MemoryLayout<llmpool_request_t>.offset(of: \.url_size)!

  static func read(_ pointer: UnsafePointer<llmpool_request_t>?) throws(Fault) -> RequestInput {
    guard let pointer else { throw Fault(.invalidArgument, "request: it is NULL") }
    let request = try LLMPoolC.read(pointer, "request", smallest: smallestSize, over: llmpool_request_t())
    guard request.url != nil else { throw Fault(.invalidArgument, "url: it is NULL") }
    try checkSize(request.url_size, "url_size")
    try checkSize(request.headers_size, "headers_size", most: Int(Int32.max))
    try checkSize(request.body_size, "body_size")
    guard request.headers != nil || request.headers_size == 0 else {
      throw Fault(.invalidArgument, "headers: NULL, but headers_size is \(request.headers_size)")
    }
    guard request.body != nil || request.body_size == 0 else {
      throw Fault(.invalidArgument, "body: NULL, but body_size is \(request.body_size)")
    }
    return request.input()
  }

  private func input() -> RequestInput {
    var input = RequestInput()
    input.flags = RequestFlags(rawValue: flags)
    input.options.priority = priority
    input.userData = user_data
    input.method = bytes(method)
    input.url = bytes(url, url_size)
    input.headers = UnsafeRawBufferPointer(start: headers, count: headers_size)
    input.body = UnsafeRawBufferPointer(start: body, count: body_size)
    input.maxResponseBytes = Int(clamping: max_response_bytes)
    input.maxEventBytes = max_event_bytes
    input.options.timeouts = timeouts
    input.options.maxRetries = max_retries
    input.options.retryAfterMax = llmpool_request_t.time(retry_after_max_ms)
    input.serverName = bytes(server_name)
    input.budget = bytes(budget)
    input.options.inputCost = Int64(clamping: input_cost)
    input.options.outputCost = Int64(clamping: output_cost)
    if hedge_after_ms > 0 { input.options.hedgeAfter = llmpool_request_t.time(hedge_after_ms) }
    return input
  }

  private static let timeoutOffsets: Timeouts<Int> = {
    var offsets = Timeouts<Int>(all: 0)
    for field in Timeouts<Int>.fields {
      offsets[keyPath: field.path] = Layout.offset("\(field.name)_timeout_ms", in: Layout.request)
    }
    return offsets
  }()

  private var timeouts: Timeouts<Nanoseconds> {
    withUnsafePointer(to: self) { request in
      llmpool_request_t.timeoutOffsets.map { offset in
        llmpool_request_t.time(UnsafeRawPointer(request).load(fromByteOffset: offset, as: UInt32.self))
      }
    }
  }

  private static func time(_ milliseconds: UInt32) -> Nanoseconds {
    milliseconds == .max ? .max : .milliseconds(milliseconds)
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
    if source.hasTimings { event.timings = timings(of: record) }
    event.opaque = UnsafeMutableRawPointer(record)
    LLMPoolC.write(event, to: target.assumingMemoryBound(to: llmpool_event_t.self), size: size)
  }

  private static func timings(of record: UnsafeMutablePointer<EventRecord>) -> UnsafePointer<llmpool_timings_t> {
    let offset = MemoryLayout<EventRecord>.offset(of: \.timings)!
    return UnsafeRawPointer(record).advanced(by: offset).assumingMemoryBound(to: llmpool_timings_t.self)
  }

  static func checkSize(_ size: Int) throws(Fault) {
    try LLMPoolC.checkSize(size, of: llmpool_event_t.self, "event_size", smallest: MemoryLayout<llmpool_event_t>.stride)
  }
}

// MARK: Records

extension llmpool_record_t {
  static func checkSize(_ size: Int) throws(Fault) {
    try LLMPoolC.checkSize(
      size, of: llmpool_record_t.self, "record_size", smallest: MemoryLayout<llmpool_record_t>.stride)
  }
}

// MARK: Statistics

extension llmpool_stats_t {
  static let smallestSize = MemoryLayout<Int>.size * 2
  private static let offsets = Statistics.rows.map { Layout.offset($0.name, in: Layout.stats) }

  init(_ statistics: Statistics, size: Int) {
    self.init()
    self.size = size
    withUnsafeMutableBytes(of: &self) { bytes in
      for (row, offset) in zip(Statistics.rows, llmpool_stats_t.offsets) {
        bytes.storeBytes(of: UInt64(row.read(statistics)), toByteOffset: offset, as: UInt64.self)
      }
    }
    utilization = statistics.utilization
  }
}
