import LLMPoolTestSupport
import LLMPoolWire
import Testing

struct RetryAfterTests {
  static let now: Int64 = 784_111_777  // Sun, 06 Nov 1994 08:49:37 GMT

  @Test(
    arguments: [
      ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777), ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
      ("Sun Nov  6 08:49:37 1994", 784_111_777), ("Sun Nov 16 08:49:37 1994", 784_975_777),
      ("Thu, 01 Jan 1970 00:00:00 GMT", 0), ("Wed, 31 Dec 1969 23:59:59 GMT", -1),
      ("Thu, 29 Feb 2024 12:00:00 GMT", 1_709_208_000), ("Tue, 29 Feb 2000 00:00:00 GMT", 951_782_400),
      ("Fri, 31 Dec 1999 23:59:60 GMT", 946_684_800), ("Sat, 01 Mar 2025 00:00:00 GMT", 1_740_787_200),
      ("sun, 06 nov 1994 08:49:37 GMT", 784_111_777), ("Wednesday, 01-Jan-20 00:00:00 GMT", 1_577_836_800),
      ("Friday, 01-Jan-99 00:00:00 GMT", 915_148_800), ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799),
    ] as [(String, Int64)])
  func readsDates(_ text: String, _ expected: Int64) {
    withBytes(text) { #expect(HTTPDate.parse($0, now: RetryAfterTests.now) == expected) }
  }

  /// "99" read in 2026 is 1999, "75" is 2075.
  @Test func readsTwoDigitYearsAsTheNearest() {
    let in2026: Int64 = 1_790_000_000
    withBytes("Friday, 01-Jan-99 00:00:00 GMT") { #expect(HTTPDate.parse($0, now: in2026) == 915_148_800) }
    withBytes("Tuesday, 01-Jan-75 00:00:00 GMT") { #expect(HTTPDate.parse($0, now: in2026) == 3_313_526_400) }
    withBytes("Friday, 01-Jan-77 00:00:00 GMT") { #expect(HTTPDate.parse($0, now: in2026) == 220_924_800) }
  }

  @Test(arguments: [
    "", "Sun", "Sun,", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 UTC", "Sun, 6 Nov 1994 08:49:37 GMT",
    "Sun, 06 Nov 94 08:49:37 GMT", "Sun, 06-Nov-1994 08:49:37 GMT", "Sun, 31 Nov 1994 08:49:37 GMT",
    "Sun, 00 Nov 1994 08:49:37 GMT", "Sun, 29 Feb 2023 08:49:37 GMT", "Sun, 29 Feb 1900 08:49:37 GMT",
    "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 06 Nov 1994 08:60:37 GMT", "Sun, 06 Nov 1994 08:49:61 GMT",
    "Sun, 06 Nov 1994 08:49:37 GMTx", "Sun, 06 Nov 0000 08:49:37 GMT", "Sun, 06 Nop 1994 08:49:37 GMT",
    "Sunday, 06-Nov-94 08:49:37", "Sun Nov 6 08:49:37 1994", "Sun Nov  6 08:49:37 94", "Sun Nov  6 08:49:37 1994 ",
    "1994-11-06T08:49:37Z",
  ])
  func refusesDates(_ text: String) {
    withBytes(text) { #expect(HTTPDate.parse($0, now: RetryAfterTests.now) == nil) }
  }

  @Test(
    arguments: [
      ("retry-after: 7\r\n", 7_000), ("Retry-After: 0\r\n", 0), ("retry-after: 1.5\r\n", 1_500),
      ("retry-after: 1.0001\r\n", 1_001), ("retry-after: 1.25\r\n", 1_250), ("retry-after-ms: 250\r\n", 250),
      ("retry-after-ms: 0.5\r\n", 1), ("retry-after-ms: 250\r\nretry-after: 7\r\n", 250),
      ("retry-after: 7\r\nretry-after-ms: x\r\n", 7_000), ("retry-after: Sun, 06 Nov 1994 08:49:39 GMT\r\n", 2_000),
      ("retry-after: Sun, 06 Nov 1994 08:49:36 GMT\r\n", 0),
      ("retry-after: 99999999999999999999999999999\r\n", 1 << 52), ("retry-after: -1\r\n", nil),
      ("retry-after: \r\n", nil), ("retry-after: 1.\r\n", nil), ("retry-after: .5\r\n", nil),
      ("retry-after: 1s\r\n", nil), ("retry-after: soon\r\n", nil), ("", nil),
    ] as [(String, UInt64?)])
  func readsTheWait(_ block: String, _ expected: UInt64?) {
    withBytes(block) { #expect(RetryAfter.milliseconds(in: $0, now: RetryAfterTests.now) == expected) }
  }

  @Test func garbageNeverTraps() {
    var random = Random(5)
    let seeds = ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "12.5"]
    for _ in 0..<10_000 {
      withBytes(mutated(Array(seeds[random.below(4)].utf8), &random)) { bytes in
        _ = RetryAfter.milliseconds(bytes, now: Int64.random(in: .min ... .max, using: &random))
      }
    }
  }
}
