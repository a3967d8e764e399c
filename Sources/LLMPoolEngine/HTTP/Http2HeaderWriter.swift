import CLLMPoolSystem
import LLMPoolWire

/// Turns a request into nghttp2's header fields; its memory is used again for each.
struct Http2HeaderWriter {
  private var path: [UInt8] = []
  /// They point to the request, and to what lies here, until the next is taken; nghttp2 copies them, with names in
  /// lower case (RFC 9113, section 8.2.1).
  private(set) var fields: [nghttp2_nv] = []
  private var length: [UInt8] = []

  mutating func take(_ request: RequestState) {
    fields.removeAll(keepingCapacity: true)
    length.removeAll(keepingCapacity: true)
    length.append(contentsOf: String(request.summary.contentLength ?? UInt64(request.bodyCount)).utf8)
    let summary = request.summary
    let authority =
      summary.hostIndex >= 0
      ? UnsafeRawBufferPointer(rebasing: request.headers[request.fields[summary.hostIndex].valueRange])
      : request.authority
    add(":method", request.method)
    add(":scheme", Self.bytes(request.url.isTLS ? "https" : "http"))
    add(":authority", authority)
    if request.url.targetNeedsSlash {
      path.removeAll(keepingCapacity: true)
      path.append(UInt8(ascii: "/"))
      path.append(contentsOf: request.target)
      path.withUnsafeBytes { add(":path", $0) }
    } else {
      add(":path", request.target)
    }
    let headers = request.headers
    for field in request.fields {
      if field.kind.isDropped || field.kind == .host || field.kind == .contentLength { continue }
      // A secret must be in no table that others share, the server's and those of proxies (RFC 7541, 7.1.3).
      let flags = field.kind.isSensitive ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE
      add(
        UnsafeRawBufferPointer(rebasing: headers[field.nameRange]),
        UnsafeRawBufferPointer(rebasing: headers[field.valueRange]), flags)
    }
    if request.upload == nil ? request.bodyCount > 0 || request.methodKind.expectsContent : summary.contentLength != nil
    {
      length.withUnsafeBytes { add("content-length", $0) }
    }
  }

  private static func bytes(_ text: StaticString) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
  }
  private mutating func add(_ name: StaticString, _ value: UnsafeRawBufferPointer) { add(Self.bytes(name), value) }
  private mutating func add(
    _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, _ flags: nghttp2_nv_flag = NGHTTP2_NV_FLAG_NONE
  ) {
    fields.append(
      nghttp2_nv(
        name: UnsafeMutablePointer(mutating: name.bindMemory(to: UInt8.self).baseAddress),
        value: UnsafeMutablePointer(mutating: value.bindMemory(to: UInt8.self).baseAddress),
        namelen: name.count, valuelen: value.count, flags: UInt8(flags.rawValue)))
  }
}

/// Memory that the HTTP/2 sessions of a thread use by turns.
final class Http2Workspace {
  var headers = Http2HeaderWriter()
  /// Empty; where frames are gathered: one buffer for all stays in the processor's cache.
  var output = ByteBuffer()
  private let memory = UnsafeMutablePointer<lp_memory>.allocate(capacity: 1)
  /// For nghttp2: no session outlives the workspace.
  var memoryOfSessions: nghttp2_mem { lp_memory_of_sessions(memory) }

  init() { memory.initialize(to: lp_memory()) }

  deinit {
    lp_memory_end(memory)
    memory.deallocate()
  }
}
