import LLMPoolCore
import Testing

@testable import LLMPoolEngine

@Suite struct NoticeTests {
  /// Programs compare them: a word that was given away is not taken back.
  @Test func theWordsOfClosedConnectionsStay() {
    #expect(
      CloseReason.allCases.map(\.word) == [
        "expired", "evicted", "keepalive-limit", "aged", "retired", "aborted", "not-reusable", "reconfigured",
        "ping-timeout", "pool-closed", "connect-timeout", "address-gone", "closed-by-peer", "go-away", "error",
        "protocol-violation", "stray-bytes", "dial-failed",
      ])
  }
}
