import LLMPoolTestSupport
import Testing

@testable import LLMPoolWire

@Suite struct RateLimitFieldsTests {
  static let now: Int64 = 1_755_780_000  // 2025-08-21T12:40:00Z

  private func read(_ lines: String...) -> [String] {
    let block = lines.map { $0 + "\r\n" }.joined()
    var found: [String] = []
    withBytes(block) { bytes in
      RateLimitFields.read(in: bytes, now: RateLimitFieldsTests.now) { limit, told in
        let reset = told.reset.map { "\($0)" } ?? "?"
        found.append("\(limit) \(told.remaining!)/\(told.limit!) \(reset)" + (told.isOfMinute ? " of a minute" : ""))
      }
    }
    return found
  }

  @Test func openAI() {
    let found = read(
      "date: Thu, 21 Aug 2025 12:40:00 GMT", "content-type: application/json", "X-RateLimit-Limit-Requests: 10000",
      "x-ratelimit-limit-tokens: 30,000", "x-ratelimit-remaining-requests: 9999",
      "x-ratelimit-remaining-tokens: 29,976", "x-ratelimit-reset-requests: 8.64s", "x-ratelimit-reset-tokens: 6m0s",
      "x-ratelimit-limit-project-tokens: 10", "x-ratelimit-remaining-project-tokens: 3",
      "x-ratelimit-reset-project-tokens: 12ms", "x-ratelimit-limit-tokens_usage_based: 7", "x-request-id: abc")
    #expect(
      found == ["requests 9999/10000 8640", "tokens 29976/30000 360000", "projectTokens 3/10 12"])
  }

  @Test func azure() {
    #expect(
      read(
        "x-ratelimit-limit-requests: 100", "x-ratelimit-remaining-requests: 99", "x-ratelimit-reset-requests: 10",
        "x-ratelimit-limit-tokens: -1", "x-ratelimit-remaining-tokens: -1", "x-ratelimit-reset-tokens: 0")
        == ["requests 99/100 10000"])
  }

  @Test func anthropic() {
    let found = read(
      "date: Thu, 21 Aug 2025 12:40:00 GMT", "anthropic-ratelimit-requests-limit: 50",
      "anthropic-ratelimit-requests-remaining: 49", "anthropic-ratelimit-requests-reset: 2025-08-21T12:40:59Z",
      "anthropic-ratelimit-tokens-limit: 50", "anthropic-ratelimit-tokens-remaining: 49",
      "anthropic-ratelimit-input-tokens-limit: 40000", "anthropic-ratelimit-input-tokens-remaining: 0",
      "anthropic-ratelimit-input-tokens-reset: 2025-08-21T14:40:01.5+02:00",
      "anthropic-ratelimit-output-tokens-limit: 8000", "anthropic-ratelimit-output-tokens-remaining: 8000",
      "anthropic-ratelimit-output-tokens-reset: 2025-08-21T12:39:59Z")
    #expect(found == ["requests 49/50 59000", "input 0/40000 1500", "output 8000/8000 0"])
  }

  /// The times are of the server's clock, which its date tells.
  @Test func absoluteTimesAreReadAgainstTheDateOfTheAnswer() {
    #expect(
      read(
        "date: Thu, 21 Aug 2025 12:41:00 GMT", "anthropic-ratelimit-requests-limit: 50",
        "anthropic-ratelimit-requests-remaining: 49", "anthropic-ratelimit-requests-reset: 2025-08-21T12:41:05Z")
        == ["requests 49/50 5000"])
  }

  @Test func mistral() {
    #expect(
      read(
        "x-ratelimit-limit-req-minute: 60", "x-ratelimit-remaining-req-minute: 59",
        "x-ratelimit-limit-tokens-minute: 500000", "x-ratelimit-remaining-tokens-minute: 499000",
        "x-ratelimit-tokens-query-cost: 1000")
        == ["requests 59/60 ? of a minute", "tokens 499000/500000 ? of a minute"])
  }

  @Test func whatIsNotAWholeLimitIsLeftOut() {
    #expect(read("x-ratelimit-limit-requests: 10", "x-ratelimit-reset-requests: 1s") == [])
    #expect(read("x-ratelimit-remaining-requests: 10") == [])
    #expect(read("x-ratelimit-limit-requests: many", "x-ratelimit-remaining-requests: 10") == [])
    #expect(read("x-ratelimit-limit-requests: 0", "x-ratelimit-remaining-requests: 0") == [])
    #expect(read("x-ratelimit-: 0", "x-ratelimit-limit-: 1", "anthropic-ratelimit-requests-: 1", "x-a") == [])
    #expect(read() == [])
  }

  @Test(
    arguments: [
      ("0s", 0), ("2ms", 2), ("8.64s", 8_640), ("1m30s", 90_000), ("6m0s", 360_000), ("1h2m3.5s", 3_723_500),
      ("2m59.56s", 179_560), ("350us", 1), ("7.66s", 7_660), ("10", 10_000), ("0.5", 500), ("24h0m0s", 86_400_000),
      ("1755780007", 7_000), ("1755779999", 0), ("Thu, 21 Aug 2025 12:40:03 GMT", 3_000),
      ("2025-08-21T12:40:09Z", 9_000),
      ("2025-08-21t12:40:09.25z", 9_250), ("2025-08-21T05:40:09-07:00", 9_000), ("2025-08-21T12:00:00Z", 0),
      ("999999999999999999", 1 << 40), ("9999-12-31T23:59:59Z", 1 << 40), ("9999999999h", 1 << 40),
      ("Fri, 31 Dec 9999 23:59:59 GMT", 1 << 40), ("1e9s", nil),
    ] as [(String, Int64?)])
  func resets(text: String, expected: Int64?) {
    withBytes(text) { #expect(RateLimitFields.milliseconds($0, now: RateLimitFieldsTests.now) == expected) }
  }

  @Test(arguments: [
    "", "s", "1x", "1m30", "-1", "-5s", "soon", "2025-08-21", "2025-13-21T12:40:09Z", "2025-08-21T12:40:09",
    "2025-08-21T12:40:09+2", "2025-08-21T25:40:09Z", "1.2.3", "12:40",
  ])
  func noResets(text: String) {
    withBytes(text) { #expect(RateLimitFields.milliseconds($0, now: RateLimitFieldsTests.now) == nil) }
  }
}
