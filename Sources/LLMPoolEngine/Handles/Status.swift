import CLLMPoolSystem

/// What `LLMPOOL_STATUS_MAP` of `llmpool.h` says of a status; the texts live as long as the library.
package enum Status {
  /// "LLMPOOL_E_TLS"; "LLMPOOL_E_UNKNOWN" where there is none.
  package static func name(_ status: Int32) -> UnsafePointer<CChar> { lp_status_name(status) }
  package static func message(_ status: Int32) -> UnsafePointer<CChar> { lp_status_message(status) }
}
