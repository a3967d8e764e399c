import CLLMPool
import LLMPoolCore
import LLMPoolEngine

@implementation @_cdecl("llmpool_options_init")
public func llmpool_options_init(
  _ options: UnsafeMutablePointer<llmpool_options_t>!, _ size: Int
) -> llmpool_status_t {
  status { () throws(Fault) in
    let options = try required(options, "options")
    try checkOptionsSize(size)
    var defaults = llmpool_options_t.make(PoolSettings(), nil)
    defaults.size = size
    write(defaults, to: options, size: size)
  }
}

private func checkOptionsSize(_ size: Int) throws(Fault) {
  try checkSize(size, of: llmpool_options_t.self, "size", smallest: llmpool_options_t.smallestSize)
}

@implementation @_cdecl("llmpool_options_get")
public func llmpool_options_get(
  _ pool: OpaquePointer!, _ options_out: UnsafeMutablePointer<llmpool_options_t>!, _ size: Int
) -> llmpool_status_t {
  status { () throws(Fault) in
    let handle = try LLMPoolC.pool(pool)
    let target = try required(options_out, "options_out")
    try checkOptionsSize(size)
    let (settings, strings) = try handle.lend { LentStrings($0) }
    var options = llmpool_options_t.make(settings, strings)
    options.size = size
    write(options, to: target, size: size)
  }
}

@implementation @_cdecl("llmpool_shared")
public func llmpool_shared(_ pool_out: UnsafeMutablePointer<OpaquePointer?>!) -> llmpool_status_t {
  status { () throws(Fault) in
    let target = try required(pool_out, "pool_out")
    // Where the settings of the environment make no pool, the handle is what llmpool_configure() can mend it with;
    // any other call on it says what is wrong.
    _ = try? PoolHandle.shared.open()
    target.pointee = Handles.sharedPool
  }
}

@implementation @_cdecl("llmpool_open")
public func llmpool_open(
  _ options: UnsafePointer<llmpool_options_t>!, _ pool_out: UnsafeMutablePointer<OpaquePointer?>!
) -> llmpool_status_t {
  status { () throws(Fault) in
    let target = try required(pool_out, "pool_out")
    let handle = try PoolHandle(try llmpool_options_t.read(options))
    target.pointee = Handles.give(handle)
  }
}

@implementation @_cdecl("llmpool_configure")
public func llmpool_configure(
  _ pool: OpaquePointer!, _ options: UnsafePointer<llmpool_options_t>!
) -> llmpool_status_t {
  status { () throws(Fault) in
    let handle = try LLMPoolC.pool(pool)
    guard options != nil else { throw Fault(.invalidArgument, "options: it is NULL") }
    try handle.configure(try llmpool_options_t.read(options))
  }
}

@implementation @_cdecl("llmpool_close")
public func llmpool_close(_ pool: OpaquePointer!, _ drain_ms: UInt32) -> llmpool_status_t {
  statusOfClosing { () throws(Fault) in try LLMPoolC.pool(pool).close(drain: drain_ms) }
}

@implementation @_cdecl("llmpool_warm")
public func llmpool_warm(
  _ pool: OpaquePointer!, _ url: UnsafePointer<CChar>!, _ connections: UInt32
) -> llmpool_status_t {
  status { () throws(Fault) in
    let engine = try LLMPoolC.pool(pool).open()
    guard url != nil else { throw Fault(.invalidArgument, "url: it is NULL") }
    try engine.warm(bytes(url), connections: Int(connections))
  }
}

@implementation @_cdecl("llmpool_stats")
public func llmpool_stats(
  _ pool: OpaquePointer!, _ origin: UnsafePointer<CChar>!, _ stats_out: UnsafeMutablePointer<llmpool_stats_t>!
) -> llmpool_status_t {
  status { () throws(Fault) in
    let engine = try LLMPoolC.pool(pool).open()
    let (target, size) = try sized(stats_out, "stats_out", smallest: llmpool_stats_t.smallestSize)
    let statistics = origin == nil ? engine.statistics : try engine.statistics(ofOrigin: String(cString: origin))
    write(llmpool_stats_t(statistics, size: size), to: target, size: size)
  }
}

@implementation @_cdecl("llmpool_origins")
public func llmpool_origins(_ pool: OpaquePointer!, _ text_out: UnsafeMutablePointer<CChar>!, _ size: Int) -> Int64 {
  var text = ""
  let result = status { () throws(Fault) in
    try checkText(text_out, size)
    text = try LLMPoolC.pool(pool).open().originNames.map { $0 + "\n" }.joined()
  }
  return result < 0 ? Int64(result) : copy(text, text_out, size)
}

func checkText(_ target: UnsafeMutablePointer<CChar>?, _ size: Int) throws(Fault) {
  guard target != nil || size == 0 else { throw Fault(.invalidArgument, "text_out: it is NULL") }
  try checkSize(size, "size")
}

/// As much of the text as fits, and a NUL; returns the length of all of it.
func copy(_ text: String, _ target: UnsafeMutablePointer<CChar>?, _ size: Int) -> Int64 {
  var text = text
  return text.withUTF8 { source in
    guard let target, size > 0 else { return Int64(source.count) }
    let count = min(source.count, size - 1)
    UnsafeMutableRawPointer(target).copyMemory(from: UnsafeRawPointer(source.baseAddress!), byteCount: count)
    target[count] = 0
    return Int64(source.count)
  }
}

@implementation @_cdecl("llmpool_metrics")
public func llmpool_metrics(
  _ pool: OpaquePointer!, _ format: UInt32, _ text_out: UnsafeMutablePointer<CChar>!, _ size: Int
) -> Int64 {
  var text = ""
  let result = status { () throws(Fault) in
    try checkText(text_out, size)
    guard let known = MetricsFormat(rawValue: format) else {
      throw Fault(.invalidArgument, "format: expected LLMPOOL_METRICS_PROMETHEUS or _OPENMETRICS, not \(format)")
    }
    text = try LLMPoolC.pool(pool).open().metrics(known)
  }
  return result < 0 ? Int64(result) : copy(text, text_out, size)
}

@implementation @_cdecl("llmpool_watch")
public func llmpool_watch(
  _ pool: OpaquePointer!, _ queue: OpaquePointer!, _ notices: UInt32, _ user_data: UInt64
) -> llmpool_status_t {
  status { () throws(Fault) in
    let engine = try LLMPoolC.pool(pool).open()
    try engine.watch(try LLMPoolC.queue(queue).open(), notices, userData: user_data)
  }
}
