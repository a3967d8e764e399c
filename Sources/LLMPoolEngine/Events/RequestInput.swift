import LLMPoolCore

/// The flags of `llmpool_request_t`, with its values.
package struct RequestFlags: OptionSet, Sendable {
  package var rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }
  package static let stream = RequestFlags(rawValue: 1 << 0)
  package static let sse = RequestFlags(rawValue: 1 << 1)
  package static let retryStatus = RequestFlags(rawValue: 1 << 2)
  package static let retrySent = RequestFlags(rawValue: 1 << 3)
  package static let noRetry = RequestFlags(rawValue: 1 << 4)
  package static let upload = RequestFlags(rawValue: 1 << 5)
  package static let manualCredit = RequestFlags(rawValue: 1 << 6)
  package static let joinSSE = RequestFlags(rawValue: 1 << 7)
  package static let noRedial = RequestFlags(rawValue: 1 << 8)
  package static let estimatedCost = RequestFlags(rawValue: 1 << 9)
  package static let known = RequestFlags(rawValue: (1 << 10) - 1)
}

/// A request as the application describes it; the memory is the caller's and copied at once.
package struct RequestInput {
  package var flags: RequestFlags = []
  /// What the core decides by; the time of submission and what the flags say comes from the engine.
  package var options = RequestOptions()
  package var userData: UInt64 = 0
  /// Without an address: POST with a body, else GET.
  package var method = UnsafeRawBufferPointer(start: nil, count: 0)
  package var url = UnsafeRawBufferPointer(start: nil, count: 0)
  package var headers = UnsafeRawBufferPointer(start: nil, count: 0)
  package var body = UnsafeRawBufferPointer(start: nil, count: 0)
  /// 0: 64 MiB.
  package var maxResponseBytes = 0
  /// 0: as the pool has it.
  package var maxEventBytes = 0
  /// Of its budget; empty: it has none.
  package var budget = UnsafeRawBufferPointer(start: nil, count: 0)
  package var serverName = UnsafeRawBufferPointer(start: nil, count: 0)
  package init() {}
}
