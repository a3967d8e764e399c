/// Why a request or a connection failed: the statuses of `llmpool.h` below zero that a pool can give.
///
/// The raw value is the value of the same name in the header's `LLMPOOL_STATUS_MAP`; a test holds them together.
@frozen
public enum Failure: Int32, Sendable, CaseIterable {
  case invalidArgument = -1
  case unsupported = -2
  case outOfMemory = -3
  case closed = -4
  case forked = -5
  case notFound = -6
  case again = -7

  case queueFull = -20
  case poolTimeout = -21
  case cancelled = -22
  case budget = -23
  case budgetTimeout = -24

  case connectTimeout = -30
  case writeTimeout = -31
  case firstByteTimeout = -32
  case readTimeout = -33
  case totalTimeout = -34
  case eventTimeout = -35

  case resolve = -40
  case connect = -41
  case proxy = -42
  case tls = -43
  case tlsVerify = -44
  case write = -45
  case read = -46
  case protocolViolation = -47
  case tooLarge = -48
  case refused = -49

  case internalError = -90
}
