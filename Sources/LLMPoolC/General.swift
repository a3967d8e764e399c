import CLLMPool
import LLMPoolCore
import LLMPoolEngine

@implementation @_cdecl("llmpool_version")
public func llmpool_version() -> UInt32 {
  UInt32(LLMPOOL_VERSION_MAJOR) << 16 | UInt32(LLMPOOL_VERSION_MINOR) << 8 | UInt32(LLMPOOL_VERSION_PATCH)
}

@implementation @_cdecl("llmpool_status_name")
public func llmpool_status_name(_ status: llmpool_status_t) -> UnsafePointer<CChar>! {
  if status == 0 { return cString("LLMPOOL_OK") }
  return cString(Failure(rawValue: status).map(StatusTable.name) ?? "LLMPOOL_E_UNKNOWN")
}

@implementation @_cdecl("llmpool_status_message")
public func llmpool_status_message(_ status: llmpool_status_t) -> UnsafePointer<CChar>! {
  if status == 0 { return cString("success") }
  return cString(Failure(rawValue: status).map(StatusTable.message) ?? "unknown status")
}

/// Literals of the library end with a NUL.
private func cString(_ text: StaticString) -> UnsafePointer<CChar> {
  UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
}

@implementation @_cdecl("llmpool_last_error")
public func llmpool_last_error() -> UnsafePointer<CChar>! { LastError.current }
