import CLLMPool
import LLMPoolEngine

@implementation @_cdecl("llmpool_version")
public func llmpool_version() -> UInt32 {
  UInt32(LLMPOOL_VERSION_MAJOR) << 16 | UInt32(LLMPOOL_VERSION_MINOR) << 8 | UInt32(LLMPOOL_VERSION_PATCH)
}

@implementation @_cdecl("llmpool_status_name")
public func llmpool_status_name(_ status: llmpool_status_t) -> UnsafePointer<CChar>! {
  Status.name(status)
}

@implementation @_cdecl("llmpool_status_message")
public func llmpool_status_message(_ status: llmpool_status_t) -> UnsafePointer<CChar>! {
  Status.message(status)
}

@implementation @_cdecl("llmpool_last_error")
public func llmpool_last_error() -> UnsafePointer<CChar>! { LastError.current }
