import Testing

@testable import LLMPoolCore

/// Who waits for what is left of a budget, and in which order.
@Suite struct BudgetAdmission {
  /// h2, so that no request waits for a connection.
  private func pool(
    _ change: (inout PoolOptions) -> Void = { _ in }, _ budget: (inout BudgetOptions) -> Void
  ) -> Script {
    let pool = Script {
      $0.httpVersions = .http2
      $0.pingInterval = .max
      $0.timeouts.write = .max
      change(&$0)
    }
    pool.budget(0, budget)
    pool.open(0, .http2)
    return pool
  }

  @Test func requestsGoAtThePaceOfTheLimit() {
    let pool = pool { $0.limits[0] = BudgetLimit(.requests, 2, per: .seconds(1)) }
    #expect(pool.spend() == ["admit r1", "send r1 on c0 reused"])
    #expect(pool.spend() == ["admit r2", "send r2 on c0 reused"])
    #expect(pool.spend() == [] && pool.spend() == [])
    #expect(pool.counters.pending == 2 && pool.counters.awaitingBudget == 2)
    #expect(
      pool.run(.seconds(1)) == [
        "500 ms: admit r3", "500 ms: send r3 on c0 reused", "1000 ms: admit r4", "1000 ms: send r4 on c0 reused",
      ])
  }

  @Test func tokensAreThoseOfInputAndOutput() {
    let pool = pool {
      $0.limits[0] = BudgetLimit(.tokens, 100, per: .seconds(10))
      $0.limits[1] = BudgetLimit(.input, 60, per: .seconds(10))
      $0.limits[2] = BudgetLimit(.output, 90, per: .seconds(10))
    }
    pool.spend(20, 50)
    #expect(pool.left == [30, 40, 40])
    #expect(pool.spend(10, 40) == [])  // tokens: 20 short, at 10 a second
    #expect(pool.run(.seconds(2)) == ["2000 ms: admit r2", "2000 ms: send r2 on c0 reused"])
    pool.spend(60, 0)  // input: 60 - (40 + 12 - 10) = 18 short, at 6 a second; tokens: 60 short, at 10
    #expect(pool.run(.seconds(6)) == ["6000 ms: admit r3", "6000 ms: send r3 on c0 reused"])
  }

  /// What is admitted is set aside while its connection is made, and debited when it is there.
  @Test func whoSeeksAConnectionHasHisShare() {
    let pool = Script { $0.httpVersions = .http2 }
    pool.budget { $0.limits[0] = BudgetLimit(.requests, 1, per: .seconds(9)) }
    #expect(pool.spend() == ["admit r0", "dial c0"])
    #expect(pool.left == [1])
    #expect(pool.spend() == [])
    #expect(pool.dialed("c0", .http2) == ["send r0 on c0"])
    #expect(pool.left == [0])
    #expect(pool.run(.seconds(9)).contains("9000 ms: admit r1"))
  }

  @Test func whoIsCancelledBeforeHeIsSentTakesNothing() {
    let pool = Script { $0.httpVersions = .http2 }
    pool.budget { $0.limits[0] = BudgetLimit(.requests, 1, per: .seconds(10)) }
    pool.spend()
    pool.spend()
    #expect(pool.cancel("r0") == ["complete r0 cancelled unseen", "admit r1"])
    #expect(pool.left == [1])
  }

  @Test func thePoolClockStandsMeanwhile() {
    let pool = pool { $0.limits[0] = BudgetLimit(.requests, 1, per: .seconds(30)) }
    pool.spend()
    pool.spend()
    // Longer than its pool timeout of 10 s.
    #expect(pool.run(.seconds(30)).first == "30000 ms: admit r2")
  }

  @Test func budgetTimeout() {
    let pool = pool { $0.maxConcurrent = 1 }
    pool.spend()
    pool.spend()
    pool.spend { $0.timeouts.budget = .seconds(3) }
    #expect(
      pool.run(.seconds(60)) == [
        "3000 ms: complete r3 budgetTimeout unseen", "60000 ms: complete r2 budgetTimeout unseen",
      ])
  }

  @Test func whoCannotBeInTimeIsToldAtOnce() {
    let pool = pool { $0.limits[0] = BudgetLimit(.tokens, 100, per: .seconds(100)) }
    pool.spend(100)
    #expect(pool.spend(61) == ["complete r2 budgetTimeout unseen"])
    #expect(pool.spend(50) { $0.timeouts.total = .seconds(49) } == ["complete r3 budgetTimeout unseen"])
    #expect(pool.spend(50) == [])
  }

  @Test func whatCostsMoreThanAllowedIsRefused() {
    let pool = pool { $0.limits[0] = BudgetLimit(.tokens, 100, per: .seconds(10)) }
    #expect(pool.spend(60, 41) == ["complete r1 budget unseen"])
    #expect(pool.left == [100])
  }

  /// A guess may be wrong: it goes alone, when all is there.
  @Test func whatIsGuessedToCostMoreGoesAlone() {
    let pool = pool { $0.limits[0] = BudgetLimit(.tokens, 100, per: .seconds(10)) }
    pool.spend(10)
    #expect(pool.spend(150, flags: .estimatedCost) == [])
    #expect(pool.run(.seconds(1)) == ["1000 ms: admit r2", "1000 ms: send r2 on c0 reused"])
    #expect(pool.left == [-50])
    pool.spend(0)
    #expect(pool.run(.seconds(6)) == ["5000 ms: admit r3", "5000 ms: send r3 on c0 reused"])
  }

  @Test func priorityThenAge() {
    let pool = pool { $0.limits[0] = BudgetLimit(.requests, 1, per: .seconds(1)) }
    pool.spend()
    pool.spend()
    pool.spend(priority: 1)
    pool.spend(priority: 1)
    let admitted = pool.run(.seconds(3)).filter { $0.contains("admit") }
    #expect(admitted == ["1000 ms: admit r3", "2000 ms: admit r4", "3000 ms: admit r2"])
  }

  /// At half of its budget timeout a request comes before every priority.
  @Test func ageing() {
    let pool = pool { $0.limits[0] = BudgetLimit(.requests, 1, per: .seconds(2)) }
    pool.spend()
    pool.spend { $0.timeouts.budget = .seconds(10) }
    for _ in 0..<9 { pool.spend(priority: 1) }
    let admitted = pool.run(.seconds(7)).filter { $0.contains("admit") }
    #expect(admitted == ["2000 ms: admit r3", "4000 ms: admit r4", "6000 ms: admit r2"])
  }

  /// Behind one that waits for much small ones go on, while that costs it less than a tenth of its wait.
  @Test func smallOnesPassALargeOneNowAndThen() {
    let pool = pool { $0.limits[0] = BudgetLimit(.tokens, 1_000, per: .seconds(100)) }
    pool.spend(1_000)
    pool.spend(500)  // in 50 s
    for _ in 0..<20 { pool.spend(20) }  // 2 s each
    let admitted = pool.run(.seconds(60)).filter { $0.contains("admit") }
    // Three of 2 s would be 6 s of 56.
    #expect(admitted.prefix(3) == ["2000 ms: admit r3", "4000 ms: admit r4", "54000 ms: admit r2"])
  }

  /// Its time behind others does not count: else, of many alike, each is passed the more the longer all of them wait.
  @Test func aTenthOfItsWaitAsTheFirst() {
    let pool = pool { $0.limits[0] = BudgetLimit(.tokens, 100, per: .seconds(10)) }
    for cost: Int64 in [100, 100, 100] { pool.spend(cost) }
    for _ in 0..<5 { pool.spend(9) }
    let admitted = pool.run(.seconds(22)).filter { $0.contains("admit") }
    #expect(admitted == ["900 ms: admit r4", "10900 ms: admit r2", "11800 ms: admit r5", "21800 ms: admit r3"])
  }

  /// Nor does its time before another became the first.
  @Test func aTenthOfItsWaitSinceItIsTheFirstAgain() {
    let pool = pool { $0.limits[0] = BudgetLimit(.tokens, 100, per: .seconds(10)) }
    for cost: Int64 in [100, 100] { pool.spend(cost) }
    _ = pool.run(.seconds(1))
    pool.spend(100, priority: 1)
    #expect(pool.run(.seconds(9)).filter { $0.contains("admit") } == ["9000 ms: admit r3"])
    for _ in 0..<2 { pool.spend(9) }
    #expect(pool.run(.seconds(11)).filter { $0.contains("admit") } == ["900 ms: admit r4", "10900 ms: admit r2"])
  }

  @Test func whatWaitsForAPlaceIsNotPassed() {
    let pool = pool {
      $0.limits[0] = BudgetLimit(.tokens, 1_000, per: .seconds(100))
      $0.maxConcurrent = 1
    }
    pool.spend(1)
    pool.spend(500)
    pool.spend(1)
    #expect(pool.finish("r1") == ["complete r1 ok", "admit r2", "send r2 on c0 reused"])
  }

  @Test func aPlaceIsFreeAtTheEnd() {
    let pool = pool { $0.maxConcurrent = 1 }
    pool.spend(flags: .streamed)
    pool.spend()
    pool.progress("r1", .sent, .received)
    #expect(pool.answered("r1", 200) == ["deliver r1"])
    #expect(pool.cancel("r1") == ["abort r1 on c0", "complete r1 cancelled", "admit r2", "send r2 on c0 reused"])
    #expect(pool.pool.holders(of: BudgetID(slot: 0), atMost: 3) == [pool.request("r2")])
  }

  @Test func aBudgetIsConfiguredAnew() {
    let pool = pool { $0.limits[0] = BudgetLimit(.requests, 10, per: .seconds(10)) }
    for _ in 0..<10 { pool.spend() }
    #expect(pool.spend() == [])
    // What was spent stays spent.
    pool.budget { $0.limits[0] = BudgetLimit(.requests, 12, per: .seconds(12)) }
    #expect(pool.left == [1])
    #expect(pool.budget { $0.maxConcurrent = .max }.isEmpty)
    #expect(pool.left == [])
  }

  /// What was spent stays spent, wherever the limit stands in the list.
  @Test func aLimitThatMovesKeepsWhatWasSpent() {
    let pool = pool {
      $0.limits[0] = BudgetLimit(.requests, 10, per: .seconds(60))
      $0.limits[1] = BudgetLimit(.tokens, 1_000, per: .seconds(60))
    }
    pool.spend(900)
    pool.budget {
      $0.limits[0] = BudgetLimit(.requests, 100, per: .seconds(86_400))
      $0.limits[1] = BudgetLimit(.tokens, 2_000, per: .seconds(60))
      $0.limits[2] = BudgetLimit(.requests, 10, per: .seconds(60))
    }
    #expect(pool.left == [100, 1_100, 9])
  }

  @Test func whoLearnsNoMoreForgetsWhatWasTold() {
    let pool = pool { $0.learns = true }
    pool.spend()
    pool.told("r1", .requests, 10, remaining: 0, full: .seconds(10))
    pool.answered("r1", 429, RetryAdvice(retryAfter: .seconds(90)))
    #expect(pool.spend() == ["complete r2 budgetTimeout unseen"])
    // The stop, too: who configures it knows better.
    pool.budget { _ in }
    #expect(pool.spend() == ["admit r3", "send r3 on c0 reused"])
  }

  @Test func burst() {
    let pool = pool {
      $0.limits[0] = BudgetLimit(.requests, 60, per: .seconds(60))
      $0.burst = .seconds(2)
    }
    for _ in 0..<3 { pool.spend() }
    #expect(pool.left == [0] && pool.counters.awaitingBudget == 1)
  }

  @Test func thoseThatWaitAreBounded() {
    let pool = pool({ $0.maxPendingRequests = 2 }) { $0.maxConcurrent = 1 }
    for _ in 0..<3 { pool.spend() }
    #expect(pool.spend() == ["complete r4 queueFull unseen"])
  }

  @Test func budgetsThatAreOnlyNamedAreForgotten() {
    let pool = Script()
    for slot in 0..<1_000 { #expect(pool.handle(.budgetNamed(BudgetID(slot: Int32(slot)))) == []) }
    pool.spend()
    #expect(pool.handle(.budgetNamed(BudgetID(slot: 1_000))) == ["forget b1"])
    #expect(pool.handle(.budgetNamed(BudgetID(slot: 1))) == ["forget b2"])
  }
}

/// What a budget holds after all that was sent, answered and lost.
@Suite struct BudgetLedger {
  private func pool(_ budget: (inout BudgetOptions) -> Void) -> Script {
    let pool = Script {
      $0.httpVersions = .http2
      $0.pingInterval = .max
      $0.timeouts.read = .max
    }
    pool.budget(0, budget)
    pool.open(0, .http2)
    return pool
  }

  @Test func everyAttemptDebitsAndOnlyWhatIsUnseenIsGivenBack() {
    let pool = pool { $0.limits[0] = BudgetLimit(.requests, 10, per: .seconds(1_000)) }
    pool.spend()
    pool.cancel("r1")
    #expect(pool.left == [9])
    pool.spend()
    pool.fail("r2", .read)
    #expect(pool.left == [8])
    pool.spend(flags: .noRetry)
    pool.fail("r3", .refused, unseen: true)
    #expect(pool.left == [8])
    pool.spend(flags: .retryStatus)
    pool.progress("r4", .sent, .received)
    pool.answered("r4", 500)
    pool.wait(0)
    #expect(pool.left == [6])
  }

  @Test func settling() {
    let pool = pool { $0.limits[0] = BudgetLimit(.tokens, 1_000, per: .seconds(100_000)) }
    pool.spend(100, 400)
    #expect(pool.left == [500])
    pool.handle(.settled(pool.request("r1"), input: 90, output: 10))
    #expect(pool.left == [900])
    pool.handle(.settled(pool.request("r1"), input: 0, output: 0))  // once
    pool.finish("r1")
    pool.handle(.settled(pool.request("r1"), input: 0, output: 0))
    #expect(pool.left == [900])
    pool.spend(100, 400)
    pool.finish("r2")
    #expect(pool.left == [400])
    pool.handle(.settled(pool.request("r2"), input: 100, output: 500))  // over, and more than was said
    #expect(pool.left == [300])
    pool.handle(.settled(pool.request("r2"), input: 0, output: 0))
    #expect(pool.left == [300])
  }

  /// An answer tells of the time when its request was sent: what was sent meanwhile is not forgotten.
  @Test func anAnswerThatTookLongCorrectsOnlyItsOwnTime() {
    let pool = pool { $0.learns = true }
    pool.spend(100)
    pool.told("r1", .tokens, 1_000, remaining: 700, full: .seconds(300))
    pool.answered("r1", 200)
    #expect(pool.left == [700])
    pool.spend(100)
    pool.wait(.seconds(1))
    pool.spend(500)
    #expect(pool.left == [101])
    // A stranger has taken 50 before the first of the two.
    pool.told("r2", .tokens, 1_000, remaining: 550, full: .seconds(450))
    #expect(pool.left == [51])
    // The second knew of the same 50.
    pool.told("r3", .tokens, 1_000, remaining: 51, full: .seconds(949))
    #expect(pool.left == [51])
  }

  @Test func theRateIsWhatAnswersSay() {
    let pool = pool { $0.learns = true }
    pool.spend()
    // Groq's requests are of a day: 14,400, one in 6 s.
    pool.told("r1", .requests, 14_400, remaining: 14_370, full: .seconds(180))
    let limit = pool.pool.view(of: BudgetID(slot: 0))!.limits[0]
    #expect(limit.isTold && limit.limit == 14_400 && abs(limit.window - .seconds(86_400)) < 1_000)
    pool.told("r1", .tokens, 600, remaining: 0, window: .seconds(60))
    pool.answered("r1", 200)
    #expect(pool.spend(10) == [])
    // With 50 ms of what comes back to spare: the provider may hear of requests in another order.
    #expect(pool.run(.seconds(2)).first == "1050 ms: admit r2")
  }

  /// What was told when the answer came needs no settling, but for output, which some providers take as it comes.
  @Test func whatWasToldNeedsNoSettling() {
    let pool = pool { $0.learns = true }
    pool.spend(100, 400)
    pool.told("r1", .input, 1_000, remaining: 900, full: .seconds(100))
    pool.told("r1", .output, 1_000, remaining: 1_000, window: .seconds(1_000_000))
    pool.answered("r1", 200)
    #expect(pool.left == [900, 600])
    pool.handle(.settled(pool.request("r1"), input: 90, output: 10))
    #expect(pool.left == [900, 990])
  }

  /// Nobody knows what a provider allows before it has answered.
  @Test func beforeTheFirstAnswerFewAreSent() {
    let pool = pool { $0.learns = true }
    for _ in 0..<20 { pool.spend() }
    #expect(pool.counters.active == 16)
    pool.answered("r1", 200)
    #expect(pool.counters.active == 20)
  }

  /// Where that takes long it is not waited for: twice as many every two seconds.
  @Test func whoeverAnswersLateIsSentMoreMeanwhile() {
    let pool = pool { $0.learns = true }
    for _ in 0..<100 { pool.spend() }
    #expect(pool.counters.active == 16)
    pool.run(.seconds(2))
    #expect(pool.counters.active == 32)
    pool.run(.seconds(4))
    #expect(pool.counters.active == 100)
  }

  @Test func aLimitWithoutATimeIsNone() {
    let pool = pool { $0.learns = true }
    for _ in 0..<8 { pool.spend() }
    pool.told("r1", .requests, 10, remaining: 0)
    pool.answered("r1", 429)
    #expect(pool.left == [] && pool.pool.view(of: BudgetID(slot: 0))!.adaptive == 4)
  }

  @Test func whatNobodyHasSentIsNotSettled() {
    let pool = pool { $0.limits[0] = BudgetLimit(.tokens, 1_000, per: .seconds(1_000)) }
    pool.spend(10)
    pool.finish("r1")
    pool.handle(.settled(RequestID(value: 0), input: 5, output: 5))
    #expect(pool.left == [990])
  }

  @Test func beforeTheFirstAnswerNoMoreThanTheLimitsGiveInASecond() {
    let pool = pool {
      $0.learns = true
      $0.limits[0] = BudgetLimit(.requests, 600, per: .seconds(60))
      $0.limits[1] = BudgetLimit(.tokens, 60_000, per: .seconds(60))
    }
    for _ in 0..<20 { pool.spend(300) }
    #expect(pool.counters.active == 3)
  }

  // MARK: Refusals

  @Test func retryAfterStopsAllOfIt() {
    let pool = pool { $0.limits[0] = BudgetLimit(.requests, 60, per: .seconds(60)) }
    pool.watch([.budgetStopped, .budgetResumed])
    pool.spend()
    #expect(
      pool.answered("r1", 429, RetryAdvice(retryAfter: .seconds(5))) == [
        "stopped b0 by 429, 0 waiting, 5000 ms", "deliver r1",
      ])
    for _ in 0..<5 { pool.spend() }
    // Then at the pace of the limit, although much of it is left.
    let lines = pool.run(.seconds(8)).filter { !$0.contains("send") }
    #expect(
      lines == [
        "5000 ms: resumed b0", "6000 ms: admit r2", "7000 ms: admit r3", "8000 ms: admit r4",
      ])
  }

  @Test func whoCannotWaitForTheEndOfAStopIsTold() {
    let pool = pool { $0.maxConcurrent = 1 }
    pool.spend()
    pool.spend()
    pool.spend { $0.timeouts.budget = .max }
    #expect(
      pool.answered("r1", 503, RetryAdvice(retryAfter: .seconds(90))) == [
        "complete r2 budgetTimeout unseen", "deliver r1",
      ])
    #expect(pool.spend() == ["complete r4 budgetTimeout unseen"])
  }

  @Test func aRefusalThatIsNotOfTheRateStopsNothing() {
    let pool = pool { _ in }
    pool.spend(flags: .retryStatus)
    #expect(pool.answered("r1", 429, RetryAdvice(retryAfter: .seconds(5), shouldRetry: false)) == ["deliver r1"])
    #expect(pool.spend() == ["admit r2", "send r2 on c0 reused"])
  }

  /// Without a header that tells: half as many, once for all that were sent before, then one more a round.
  @Test func whereNothingIsToldTheNumberInFlightAdapts() {
    let pool = pool { $0.learns = true }
    pool.spend()
    pool.answered("r1", 200)
    for _ in 0..<40 { pool.spend() }
    #expect(pool.counters.active == 41)
    func limit() -> Int? { pool.pool.view(of: BudgetID(slot: 0))!.adaptive }
    pool.answered("r2", 429)
    pool.answered("r3", 429)
    #expect(limit() == 20)
    for name in 4...22 { pool.answered("r\(name)", 200) }
    #expect(limit() == 20)  // the rest is not more than was allowed, and nobody waits for a place
    for _ in 0..<30 { pool.spend() }
    #expect(pool.counters.awaitingBudget > 0)
    let before = pool.counters.awaitingBudget
    for name in 23...43 { pool.answered("r\(name)", 200) }
    #expect(limit() == 21 && pool.counters.awaitingBudget < before)
    pool.answered("r44", 429)
    #expect(limit() == 11)
  }

  /// A stream holds no place of the adaptive limit: a program that calls from within it would wait for itself.
  @Test func theAdaptiveLimitCountsUntilTheHead() {
    let pool = pool { $0.learns = true }
    pool.spend(flags: .streamed)
    pool.answered("r1", 200)
    pool.spend()
    pool.answered("r2", 429)
    #expect(pool.pool.view(of: BudgetID(slot: 0))!.adaptive == 1)
    #expect(pool.spend() == ["admit r3", "send r3 on c0 reused"])
    #expect(pool.spend() == [])
    #expect(pool.answered("r3", 200) == ["deliver r3", "admit r4", "send r4 on c0 reused"])
  }

  /// Who is tried again and would only wait for its end is told at once, as a new one is.
  @Test func aRetryIntoAStoppedBudgetIsToldAtOnce() {
    let pool = Script { $0.timeouts.budget = .seconds(5) }
    pool.budget { _ in }
    pool.spend(flags: .retryStatus)
    pool.spend()
    pool.dialed("c0")
    pool.dialed("c1")
    #expect(pool.answered("r0", 503, RetryAdvice(retryAfter: .seconds(1))) == ["discard r0"])
    pool.finish("r0")
    #expect(pool.answered("r1", 429, RetryAdvice(retryAfter: .seconds(60))) == ["deliver r1"])
    #expect(pool.run(.seconds(2)) == ["1000 ms: complete r0 budgetTimeout"])
  }

  /// What is set aside for one that seeks a connection is not there for another, however long it waits: no clock asks.
  @Test func whatIsSetAsideIsWaitedForWithoutAClock() {
    let pool = Script {
      $0.maxConnections = 1
      $0.timeouts = .init(all: .max)
      $0.pingInterval = .max
    }
    pool.budget { $0.limits[0] = BudgetLimit(.tokens, 100, per: .seconds(10)) }
    pool.submit()
    pool.dialed("c0")
    #expect(pool.spend(60) == ["admit r1"])
    pool.spend(60)
    #expect(pool.run(.seconds(4)) == [])
    // Both have aged; what is left is that the origin will be forgotten.
    #expect(pool.run(.seconds(60)) == [])
    #expect(pool.nextDeadline! - pool.now > .seconds(60))
    #expect(pool.finish("r0") == ["complete r0 ok", "send r1 on c0 reused"])
    #expect(pool.run(.seconds(10)).contains("2000 ms: admit r2"))
  }
}
