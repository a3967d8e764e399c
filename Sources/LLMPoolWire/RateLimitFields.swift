/// What LLM APIs tell of their rate limits in the headers of an answer, under whichever names:
///
///     OpenAI, Azure, Groq   x-ratelimit-{limit,remaining,reset}-{requests,tokens,project-tokens}
///     Mistral               x-ratelimit-{limit,remaining}-{req,tokens}-minute
///     Anthropic             anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}
///
/// Resets are durations as Go writes them ("6m0s", "12ms"), seconds, times of RFC 3339, dates of HTTP or seconds since
/// 1970; absolute ones are read against the `Date` of the same answer, whose clock they are of.
public enum RateLimitFields {
  public enum Limit: Int, Sendable, CaseIterable {
    case requests, tokens, input, output, projectTokens
  }

  public struct Told: Sendable, Equatable {
    public var limit: Int64?
    public var remaining: Int64?
    /// Milliseconds until all of it is there again.
    public var reset: Int64?
    /// It is of a minute, by its name.
    public var isOfMinute = false
  }

  /// Calls `body` with each limit of which the headers tell both how much it is and what remains of it. Where input and
  /// output have limits of their own, that of tokens is the tighter of the two and left out.
  ///
  /// - Parameter now: seconds since 1970 by the wall clock, for an answer without a date.
  public static func read(
    in block: UnsafeRawBufferPointer, now: Int64, _ body: (Limit, Told) -> Void
  ) {
    var told = InlineArray<5, Told>(repeating: Told())
    var isAny = false
    var date: Int64?
    forEachField(in: block) { start, nameCount, value in
      guard nameCount > prefixCount, let (limit, part) = meaning(start, nameCount) else { return }
      if date == nil {
        let own = HeaderBlock.value(of: "date", in: block)
        date = own.flatMap { HTTPDate.parse($0, now: now) } ?? now
      }
      isAny = true
      switch part {
      case .limit: told[limit.rawValue].limit = number(value)
      case .remaining: told[limit.rawValue].remaining = number(value)
      case .reset: told[limit.rawValue].reset = milliseconds(value, now: date!)
      case .limitOfMinute:
        told[limit.rawValue].limit = number(value)
        told[limit.rawValue].isOfMinute = true
      }
    }
    guard isAny else { return }
    let hasParts = told[Limit.input.rawValue].limit != nil || told[Limit.output.rawValue].limit != nil
    for limit in Limit.allCases where !(limit == .tokens && hasParts) {
      let found = told[limit.rawValue]
      // -1 and 0 of nothing stand for what is not known.
      guard let whole = found.limit, whole > 0, let remaining = found.remaining, remaining >= 0 else { continue }
      body(limit, found)
    }
  }

  private enum Part { case limit, remaining, reset, limitOfMinute }
  private static let prefixCount = 12  // "x-ratelimit-"

  private static func meaning(_ name: BytePointer, _ count: Int) -> (Limit, Part)? {
    if matches(name, count: 12, "x-ratelimit-") { return ofOpenAI(name + 12, count - 12) }
    guard count > 20, matches(name, count: 20, "anthropic-ratelimit-") else { return nil }
    return ofAnthropic(name + 20, count - 20)
  }

  private static func ofOpenAI(_ name: BytePointer, _ count: Int) -> (Limit, Part)? {
    if count > 6, matches(name, count: 6, "limit-") {
      guard let (limit, isOfMinute) = kind(name + 6, count - 6) else { return nil }
      return (limit, isOfMinute ? .limitOfMinute : .limit)
    }
    if count > 10, matches(name, count: 10, "remaining-") {
      return kind(name + 10, count - 10).map { ($0.0, .remaining) }
    }
    if count > 6, matches(name, count: 6, "reset-") { return kind(name + 6, count - 6).map { ($0.0, .reset) } }
    return nil
  }

  private static func kind(_ name: BytePointer, _ count: Int) -> (Limit, isOfMinute: Bool)? {
    if matches(name, count: count, "requests") { return (.requests, false) }
    if matches(name, count: count, "tokens") { return (.tokens, false) }
    if matches(name, count: count, "project-tokens") { return (.projectTokens, false) }
    if matches(name, count: count, "req-minute") { return (.requests, true) }
    if matches(name, count: count, "tokens-minute") { return (.tokens, true) }
    return nil
  }

  private static func ofAnthropic(_ name: BytePointer, _ count: Int) -> (Limit, Part)? {
    let kinds: [(StaticString, Limit)] = [
      ("requests-", .requests), ("tokens-", .tokens), ("input-tokens-", .input), ("output-tokens-", .output),
    ]
    for (prefix, limit) in kinds {
      let size = prefix.utf8CodeUnitCount
      guard count > size, matches(name, count: size, prefix) else { continue }
      if matches(name + size, count: count - size, "limit") { return (limit, .limit) }
      if matches(name + size, count: count - size, "remaining") { return (limit, .remaining) }
      if matches(name + size, count: count - size, "reset") { return (limit, .reset) }
    }
    return nil
  }

  // MARK: Values

  /// Whole numbers, which some group by commas ("30,000"), or fractions, of which the whole counts.
  static func number(_ value: UnsafeRawBufferPointer) -> Int64? {
    var result: Int64 = 0
    var digits = 0
    for byte in value {
      if byte == Byte.comma, digits > 0 { continue }
      if byte == Byte.dot, digits > 0 { break }
      guard Byte.isDigit(byte) else { return nil }
      result = min(result * 10 + Int64(byte - Byte.zero), most)
      digits += 1
    }
    return digits > 0 ? result : nil
  }

  /// A duration, or what is left until a time; a time that has passed is 0.
  static func milliseconds(_ value: UnsafeRawBufferPointer, now: Int64) -> Int64? {
    unbounded(value, now: now).map { min($0, longest) }
  }

  private static func unbounded(_ value: UnsafeRawBufferPointer, now: Int64) -> Int64? {
    if let duration = goDuration(value) { return duration }
    if let seconds = decimal(value) {
      // Nobody's limit takes thirty years to come back: seconds since 1970.
      return seconds > 1e9 ? max(0, Int64(min(seconds - Double(now), 1e12) * 1_000)) : Int64(seconds * 1_000)
    }
    if let date = HTTPDate.parse(value, now: now) { return max(0, min(date - now, longest) * 1_000) }
    return rfc3339(value).map { max(0, min($0 - now * 1_000, longest)) }
  }

  /// Thirty years, in milliseconds: far more than a limit takes, far less than overflows as nanoseconds.
  private static let longest: Int64 = 1 << 40
  private static let most: Int64 = 1 << 40

  /// "8.64s", "1m30s", "6m0s", "12ms", "1h2m3.5s"; nil for what has no unit.
  private static func goDuration(_ value: UnsafeRawBufferPointer) -> Int64? {
    var sum = 0.0
    var position = 0
    while position < value.count {
      guard let (number, end) = decimal(value, from: position) else { return nil }
      position = end
      guard position < value.count else { return nil }
      let isTwoLetters = position + 1 < value.count && value[position + 1] == UInt8(ascii: "s")
      switch value[position] {
      case UInt8(ascii: "h"): sum += number * 3_600_000
      case UInt8(ascii: "m") where isTwoLetters: sum += number
      case UInt8(ascii: "m"): sum += number * 60_000
      case UInt8(ascii: "s"): sum += number * 1_000
      case UInt8(ascii: "u") where isTwoLetters: sum += number / 1_000
      case UInt8(ascii: "n") where isTwoLetters: sum += number / 1_000_000
      default: return nil
      }
      position += isTwoLetters && value[position] != UInt8(ascii: "s") && value[position] != UInt8(ascii: "h") ? 2 : 1
    }
    return value.count > 0 ? Int64(min(sum.rounded(.up), Double(longest))) : nil
  }

  private static func decimal(_ value: UnsafeRawBufferPointer) -> Double? {
    guard let (number, end) = decimal(value, from: 0), end == value.count else { return nil }
    return number
  }

  private static func decimal(_ value: UnsafeRawBufferPointer, from: Int) -> (Double, Int)? {
    var position = from
    var number = 0.0
    while position < value.count, Byte.isDigit(value[position]) {
      number = min(number * 10 + Double(value[position] - Byte.zero), 1e15)
      position += 1
    }
    guard position > from else { return nil }
    guard position < value.count, value[position] == Byte.dot else { return (number, position) }
    position += 1
    var unit = 0.1
    while position < value.count, Byte.isDigit(value[position]) {
      number += Double(value[position] - Byte.zero) * unit
      unit /= 10
      position += 1
    }
    return (number, position)
  }

  /// "2025-08-21T12:40:59Z", with a fraction or an offset (RFC 3339 section 5.6): milliseconds since 1970.
  private static func rfc3339(_ value: UnsafeRawBufferPointer) -> Int64? {
    let start = value.bytePointer
    func digits(_ from: Int, _ count: Int) -> Int64? {
      guard from + count <= value.count else { return nil }
      return parseDecimal(start + from, count: count).map { Int64($0) }
    }
    func isByte(_ position: Int, _ byte: UInt8) -> Bool {
      position < value.count && Byte.lowercased(value[position]) == byte
    }
    guard value.count >= 20, let year = digits(0, 4), isByte(4, Byte.minus), let month = digits(5, 2),
      isByte(7, Byte.minus), let day = digits(8, 2), isByte(10, UInt8(ascii: "t")) || isByte(10, Byte.space),
      let hour = digits(11, 2), isByte(13, Byte.colon), let minute = digits(14, 2), isByte(16, Byte.colon),
      let second = digits(17, 2), hour < 24, minute < 60, second <= 60, (1...12).contains(month),
      let days = HTTPDate.seconds(year: year, month: month, day: day, time: 0)
    else { return nil }
    var result = (days + hour * 3_600 + minute * 60 + second) * 1_000
    var position = 19
    if isByte(position, Byte.dot) {
      guard let (fraction, end) = decimal(value, from: position - 1) else { return nil }
      result += Int64((fraction - fraction.rounded(.down)) * 1_000)
      position = end
    }
    if isByte(position, UInt8(ascii: "z")) { return position + 1 == value.count ? result : nil }
    guard position + 6 == value.count, isByte(position, Byte.minus) || isByte(position, UInt8(ascii: "+")),
      let hours = digits(position + 1, 2), isByte(position + 3, Byte.colon), let minutes = digits(position + 4, 2)
    else { return nil }
    let offset = (hours * 60 + minutes) * 60_000
    return isByte(position, Byte.minus) ? result + offset : result - offset
  }

  /// Of a normalised block, one whose lines all read "name: value\r\n".
  private static func forEachField(
    in block: UnsafeRawBufferPointer, _ body: (BytePointer, Int, UnsafeRawBufferPointer) -> Void
  ) {
    let start = block.bytePointer
    var position = 0
    while position < block.count {
      let lf = firstOffset(of: Byte.lf, in: start, from: position, to: block.count)
      let next = lf < 0 ? block.count : lf + 1
      // Most lines are done with here.
      if next - position > prefixCount, isPrefixed(start + position) {
        let colon = firstOffset(of: Byte.colon, in: start, from: position, to: next)
        if colon > 0 {
          let (from, to) = trimBlanks(start, from: colon + 1, to: lineEnd(start, position, next))
          body(start + position, colon - position, UnsafeRawBufferPointer(start: start + from, count: to - from))
        }
      }
      position = next
    }
  }

  /// It begins as the names do that are looked for: "x-r", or "an".
  @inline(__always)
  private static func isPrefixed(_ line: BytePointer) -> Bool {
    switch Byte.lowercased(line[0]) {
    case UInt8(ascii: "x"): Byte.lowercased(line[2]) == UInt8(ascii: "r")
    case UInt8(ascii: "a"): Byte.lowercased(line[1]) == UInt8(ascii: "n")
    default: false
    }
  }

  private static func lineEnd(_ start: BytePointer, _ from: Int, _ next: Int) -> Int {
    var end = next
    while end > from, start[end - 1] == Byte.lf || start[end - 1] == Byte.cr { end -= 1 }
    return end
  }
}
