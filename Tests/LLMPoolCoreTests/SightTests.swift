import Testing

@testable import LLMPoolCore

/// Why something happened, and where a request stands. That reasons add up to their counts is an invariant, which the
/// script checks after each step, as the simulation does.
@Suite struct SightTests {
  private func counted(_ script: Script) -> [Reason: UInt64] {
    Dictionary(uniqueKeysWithValues: script.pool.reasons.counted.map { ($0.reason, $0.count) })
  }

  @Test func whatFailsIsCountedByItsFailure() {
    let script = Script { $0.maxRetries = 0 }
    script.submit()
    script.dialFailed("c0", .tlsVerify)
    script.submit()
    script.dialed("c1")
    script.fail("r1", .read)
    script.submit()
    script.cancel("r2")
    #expect(counted(script)[.failed(.tlsVerify)] == 1)
    #expect(counted(script)[.failed(.read)] == 1)
    #expect(counted(script)[.failed(.cancelled)] == nil)
    #expect(counted(script)[.closed(.dialFailed)] == 1)
    #expect(counted(script)[.closed(.error)] == 1)
  }

  @Test func whatIsTriedAgainIsCountedByItsReason() {
    let script = Script { $0.maxRetries = 5 }
    script.submit(flags: [.retryStatus, .retrySent])
    script.dialed("c0")
    script.answered("r0", 503, RetryAdvice(retryAfter: 0))
    script.finish("r0")
    script.wait(0)
    script.answered("r0", 418, RetryAdvice(retryAfter: 0, shouldRetry: true))
    script.finish("r0")
    script.wait(0)
    script.fail("r0", .read)
    #expect(script.counters.retries == 3)
    #expect(counted(script)[.retriedStatus(503)] == 1)
    #expect(counted(script)[.retriedStatus(0)] == 1)
    #expect(counted(script)[.retried(.read)] == 1)
  }

  @Test func eachReasonHasOneCount() {
    #expect(Set(Reason.all).count == Reason.all.count)
    var counts = ReasonCounts()
    for reason in Reason.all { counts.add(reason) }
    #expect(counts.counted.map(\.reason) == Reason.all)
    #expect(counts.counted.allSatisfy { $0.count == 1 })
    #expect(Reason.all.indices.allSatisfy { counts[$0] == 1 && ReasonCounts()[$0] == 0 })
  }

  /// Of an origin only where there are new ones: they are rare, and its counts change with each request.
  @Test func reasonsAreHandedOutOnce() {
    let script = Script { $0.maxRetries = 0 }
    script.submit()
    script.dialFailed("c0", .connect)
    #expect(script.takeTouched() == [2])  // of the connection, and of the request
    script.submit()
    #expect(script.takeTouched() == [nil])
  }

  @Test func aRequestIsSeenWhereItStands() {
    let script = Script {
      $0.maxConnections = 1
      $0.maxRetries = 2
    }
    func phase(_ name: String) -> RequestPhase? { script.pool.view(of: script.request(name))?.phase }
    script.submit(flags: [.retryStatus])
    #expect(phase("r0") == .connecting)
    script.submit()
    script.dialed("c0")
    #expect(phase("r0") == .sending)
    #expect(phase("r1") == .pool)
    script.progress("r0", .wrote)
    #expect(phase("r0") == .sending)
    script.progress("r0", .sent)
    #expect(phase("r0") == .waiting)
    script.progress("r0", .received)
    #expect(phase("r0") == .receiving)
    script.answered("r0", 503, RetryAdvice(retryAfter: .seconds(1)))
    #expect(phase("r0") == .backingOff)
    script.finish("r0")
    #expect(phase("r0") == .backingOff)
    #expect(phase("r1") == .sending)
    script.cancel("r0")
    #expect(phase("r0") == nil)
    #expect(script.pool.view(of: script.request("r1"))?.attempts == 1)
  }

  @Test func whoWaitsForABudgetIsSeen() {
    let script = Script()
    let budget = BudgetID(slot: 0)
    script.handle(.budgetNamed(budget))
    var options = BudgetOptions()
    options.maxConcurrent = 1
    script.handle(.budgetConfigured(budget, options))
    script.submit { $0.budget = budget }
    script.submit { $0.budget = budget }
    #expect(script.pool.view(of: script.request("r0"))?.phase == .connecting)
    #expect(script.pool.view(of: script.request("r1"))?.phase == .budget)
    #expect(script.pool.view(of: script.request("r1"))?.attempts == 0)
  }
}
