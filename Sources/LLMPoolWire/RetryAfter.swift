/// When a server wants to be asked again: `Retry-After` (RFC 9110 section 10.2.3) and `retry-after-ms`, which some
/// LLM APIs send beside it.
public enum RetryAfter {
  /// The wait that the headers of an answer ask for, in milliseconds: `retry-after-ms` before `Retry-After`. Nil
  /// where neither is there or can be read. A date that has passed is 0.
  ///
  /// - Parameter now: seconds since 1970 by the wall clock.
  public static func milliseconds(in block: UnsafeRawBufferPointer, now: Int64) -> UInt64? {
    if let value = HeaderBlock.value(of: "retry-after-ms", in: block),
      let wait = parseNumber(value, thousandths: false)
    {
      return wait
    }
    guard let value = HeaderBlock.value(of: "retry-after", in: block) else { return nil }
    return milliseconds(value, now: now)
  }

  /// The wait that the value of `Retry-After` asks for, in milliseconds.
  public static func milliseconds(_ value: UnsafeRawBufferPointer, now: Int64) -> UInt64? {
    if let wait = parseNumber(value, thousandths: true) { return wait }
    guard let date = HTTPDate.parse(value, now: now) else { return nil }
    guard date > now else { return 0 }
    let (seconds, overflow) = date.subtractingReportingOverflow(now)
    return overflow ? longestWait : min(UInt64(seconds), longestWait / 1_000) * 1_000
  }

  /// Far more than anyone waits, far less than overflows.
  private static let longestWait: UInt64 = 1 << 52

  /// Digits; a fraction, which the standard does not know but clients of LLM APIs read, is rounded up. Numbers
  /// too large to matter become the largest that cannot overflow.
  private static func parseNumber(_ value: UnsafeRawBufferPointer, thousandths: Bool) -> UInt64? {
    let start = value.bytePointer
    let limit = longestWait
    var i = 0
    var whole: UInt64 = 0
    while i < value.count, Byte.isDigit(start[i]) {
      whole = min(whole * 10 + UInt64(start[i] - Byte.zero), limit)
      i += 1
    }
    guard i > 0 else { return nil }
    var result = thousandths ? min(whole * 1_000, limit) : whole
    guard i < value.count else { return result }
    guard start[i] == Byte.dot, i + 1 < value.count else { return nil }
    i += 1
    var unit: UInt64 = thousandths ? 100 : 0
    var hasRest = false
    while i < value.count {
      let digit = start[i] &- Byte.zero
      guard digit < 10 else { return nil }
      if unit > 0 { result += UInt64(digit) * unit } else if digit > 0 { hasRest = true }
      unit /= 10
      i += 1
    }
    return hasRest ? result + 1 : result
  }
}
