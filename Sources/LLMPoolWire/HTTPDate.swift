/// Dates as HTTP writes them (RFC 9110 section 5.6.7).
public enum HTTPDate {
  /// Seconds since 1970 of any of the three forms: `Sun, 06 Nov 1994 08:49:37 GMT`,
  /// `Sunday, 06-Nov-94 08:49:37 GMT` and `Sun Nov  6 08:49:37 1994`; nil for anything else. The name of the day is
  /// not compared with the date.
  ///
  /// - Parameter now: seconds since 1970. A year of two digits is the one nearest to now, not more than 50 ahead.
  public static func parse(_ value: UnsafeRawBufferPointer, now: Int64) -> Int64? {
    var scanner = Scanner(start: value.bytePointer, end: value.count)
    let letters = scanner.skipLetters()
    if letters == 3, scanner.skip(Byte.space) { return parseAsctime(&scanner) }
    guard letters >= 3, scanner.skip(Byte.comma), scanner.skip(Byte.space) else { return nil }
    guard let day = scanner.number(digits: 2) else { return nil }
    let isObsolete = letters > 3
    let separator = isObsolete ? Byte.minus : Byte.space
    guard scanner.skip(separator), let month = scanner.month(), scanner.skip(separator) else { return nil }
    guard var year = scanner.number(digits: isObsolete ? 2 : 4) else { return nil }
    if isObsolete {
      let thisYear = self.year(of: now)
      year += thisYear - thisYear % 100
      if year > thisYear + 50 { year -= 100 } else if year <= thisYear - 50 { year += 100 }
    }
    guard scanner.skip(Byte.space), let time = scanner.time(), scanner.skip(Byte.space) else { return nil }
    guard scanner.skip(0x47), scanner.skip(0x4D), scanner.skip(0x54), scanner.isAtEnd else { return nil }
    return seconds(year: year, month: month, day: day, time: time)
  }

  private static func parseAsctime(_ scanner: inout Scanner) -> Int64? {
    guard let month = scanner.month(), scanner.skip(Byte.space) else { return nil }
    guard let day = scanner.skip(Byte.space) ? scanner.number(digits: 1) : scanner.number(digits: 2) else { return nil }
    guard scanner.skip(Byte.space), let time = scanner.time(), scanner.skip(Byte.space) else { return nil }
    guard let year = scanner.number(digits: 4), scanner.isAtEnd else { return nil }
    return seconds(year: year, month: month, day: day, time: time)
  }

  static func seconds(year: Int64, month: Int64, day: Int64, time: Int64) -> Int64? {
    guard year >= 1, day >= 1, day <= daysInMonth(month, year: year) else { return nil }
    return daysSince1970(year: year, month: month, day: day) * 86_400 + time
  }

  private static func daysInMonth(_ month: Int64, year: Int64) -> Int64 {
    if month == 2 { return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28 }
    return month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31
  }

  /// Days of the proleptic Gregorian calendar, counted in years that begin in March, so that the leap day is last.
  private static func daysSince1970(year: Int64, month: Int64, day: Int64) -> Int64 {
    let shifted = month <= 2 ? year - 1 : year
    let dayOfYear = (153 * ((month + 9) % 12) + 2) / 5 + day - 1
    return shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + dayOfYear - 719_468
  }

  /// The year of a time, at most a day wrong at its turn, which is all that a two-digit year needs.
  private static func year(of seconds: Int64) -> Int64 {
    let bounded = max(0, min(seconds, 253_402_300_799))
    return 1970 + bounded / 31_556_952
  }

  private struct Scanner {
    let start: BytePointer
    let end: Int
    var position = 0

    init(start: BytePointer, end: Int) {
      self.start = start
      self.end = end
    }

    var isAtEnd: Bool { position == end }

    mutating func skip(_ byte: UInt8) -> Bool {
      guard position < end, start[position] == byte else { return false }
      position += 1
      return true
    }

    mutating func skipLetters() -> Int {
      let first = position
      while position < end, Byte.lowercased(start[position]) &- 0x61 < 26 { position += 1 }
      return position - first
    }

    mutating func number(digits: Int) -> Int64? {
      guard end - position >= digits, let value = parseDecimal(start + position, count: digits) else { return nil }
      position += digits
      return Int64(value)
    }

    mutating func month() -> Int64? {
      guard end - position >= 3 else { return nil }
      let names: StaticString = "janfebmaraprmayjunjulaugsepoctnovdec"
      for month in 0..<12 {
        let name = names.utf8Start + month * 3
        var isEqual = true
        for i in 0..<3 where Byte.lowercased(start[position + i]) != name[i] { isEqual = false }
        if isEqual {
          position += 3
          return Int64(month + 1)
        }
      }
      return nil
    }

    /// "08:49:37"; 60 is a leap second.
    mutating func time() -> Int64? {
      guard let hour = number(digits: 2), hour < 24, skip(Byte.colon) else { return nil }
      guard let minute = number(digits: 2), minute < 60, skip(Byte.colon) else { return nil }
      guard let second = number(digits: 2), second <= 60 else { return nil }
      return hour * 3_600 + minute * 60 + second
    }
  }
}
