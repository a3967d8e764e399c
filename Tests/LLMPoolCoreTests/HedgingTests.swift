import Testing

@testable import LLMPoolCore

/// When a second attempt goes out, and on what.
@Suite struct HedgesGoOut {
  @Test func onAnotherConnectionThatIsFree() {
    let pool = twoConnections()
    pool.hedged("r2")
    #expect(pool.run(.milliseconds(99)) == [])
    #expect(pool.run(.milliseconds(1)) == ["1 ms: hedge r2' on c0 reused"])
    #expect(pool.counters.hedges == 1 && pool.counters.active == 1 && pool.counters.inUse == 2)
    #expect(pool.run(.seconds(5)) == [])
  }

  /// The fullest but that of the first attempt.
  @Test func onTheFullestOtherOfHTTP2() {
    let pool = Script { $0.httpVersions = .http2 }
    pool.open(0, .http2)
    for _ in 0..<2 { pool.handle(.warm(OriginID(slot: 0), connections: 3)) }
    pool.dialed("c1", .http2)
    pool.dialed("c2", .http2)
    for (index, name) in ["c0", "c1", "c2"].enumerated() { pool.settings(name, 100 - index) }
    pool.hedged("r1")
    #expect(pool.run(.milliseconds(100)) == ["100 ms: hedge r1' on c1 reused"])
  }

  @Test func onOneThatIsDialledForIt() {
    let pool = oneConnection()
    pool.hedged("r1")
    #expect(pool.run(.milliseconds(100)) == ["100 ms: dial c1"])
    #expect(pool.dialed("c1") == ["hedge r1' on c1"])
    #expect(pool.counters.hedges == 1)
  }

  @Test func butWhoWaitsGoesFirst() {
    let pool = oneConnection()
    pool.hedged("r1")
    #expect(pool.run(.milliseconds(100)) == ["100 ms: dial c1"])
    #expect(pool.submit() == [])
    #expect(pool.dialed("c1") == ["send r2 on c1"])
    #expect(pool.run(.seconds(5)) == [] && pool.counters.hedges == 0)
  }

  @Test func onAnotherStreamWhereNoOtherConnectionMayBe() {
    let pool = Script {
      $0.httpVersions = .http2
      $0.maxConnections = 1
    }
    pool.open(0, .http2)
    pool.hedged("r1")
    #expect(pool.run(.milliseconds(100)) == ["100 ms: hedge r1' on c0 reused"])
    #expect(pool.answered("r1'", 200) == ["abort r1 on c0", "promote r1'", "deliver r1'"])
    #expect(pool.finish("r1'") == ["complete r1 ok"])
    #expect(pool.counters.hedgesWon == 1 && pool.counters.idle == 1)
  }

  /// A burst of them does not open a connection for each.
  @Test func onlyOneIsDialledWhereItCarriesMany() {
    let pool = Script { $0.httpVersions = .http2 }
    pool.open(0, .http2)
    pool.hedged("r1")
    pool.hedged("r2")
    #expect(pool.run(.milliseconds(100)) == ["100 ms: dial c1", "100 ms: hedge r2' on c0 reused"])
    #expect(pool.dialed("c1", .http2) == ["hedge r1' on c1"])
  }

  @Test func notWhereItWouldTakeAPlaceFromOthers() {
    let pool = Script(origins: 2) { $0.maxConnections = 2 }
    pool.open(1)
    pool.open(0)
    pool.hedged("r2")
    #expect(pool.run(.seconds(5)) == [])
    #expect(pool.counters.idle == 1 && pool.counters.hedges == 0)
  }

  @Test func withoutTheDialThatFailed() {
    let pool = Script { $0.httpVersions = .http2 }
    pool.open(0, .http2)
    pool.hedged("r1")
    #expect(pool.run(.milliseconds(100)) == ["100 ms: dial c1"])
    #expect(pool.dialFailed("c1") == [])
    #expect(pool.run(0) == ["0 ms: hedge r1' on c0 reused"])
  }

  @Test func notOnceTheDialIsOutrun() {
    let pool = oneConnection()
    pool.hedged("r1")
    #expect(pool.run(.milliseconds(100)) == ["100 ms: dial c1"])
    #expect(pool.answered("r1", 200) == ["deliver r1"])
    #expect(pool.dialed("c1") == [])
    #expect(pool.finish("r1") == ["complete r1 ok"])
    #expect(pool.counters.hedges == 0 && pool.counters.idle == 2)
  }

  @Test func notAfterTheFirstByte() {
    let pool = twoConnections()
    pool.hedged("r2")
    pool.progress("r2", .received)
    #expect(pool.run(.seconds(5)) == [])
  }

  @Test func notOfAnUpload() {
    let pool = twoConnections()
    pool.hedged("r2")
    pool.handle(.bodyConsumed(pool.request("r2")))
    #expect(pool.run(.seconds(5)) == [])
  }

  @Test(arguments: [RequestOptions.Flags(), [.retrySent, .noRetry], .retryStatus])
  func notWhereNothingMayBeSentTwice(flags: RequestOptions.Flags) {
    let pool = twoConnections()
    pool.hedged("r2", flags)
    #expect(pool.run(.seconds(5)) == [])
  }

  @Test func notWhileThePoolCloses() {
    let pool = twoConnections()
    pool.hedged("r2")
    pool.close(within: .seconds(60))
    #expect(pool.run(.seconds(5)) == [])
  }

  @Test func onceForARequest() {
    let pool = twoConnections()
    pool.hedged("r2")
    pool.run(.milliseconds(100))
    #expect(pool.fail("r2'", .read) == ["close c0 error"])
    #expect(pool.fail("r2", .read) == ["close c1 error"])
    #expect(pool.run(0) == ["0 ms: dial c2"])
    pool.dialed("c2")
    #expect(pool.run(.seconds(5)) == [])
    #expect(pool.counters.hedges == 1 && pool.counters.retries == 1)
  }

  @Test func watchersHearOfIt() {
    let pool = twoConnections()
    pool.watch(.hedge)
    pool.hedged("r2")
    #expect(pool.run(.seconds(1)) == ["100 ms: hedge r2' on c0 reused", "100 ms: hedged r2 after 100 ms"])
  }
}

/// Which of the two answers is taken.
@Suite struct HedgesEnd {
  private func running(_ flags: RequestOptions.Flags = .retrySent) -> Script {
    let pool = twoConnections()
    pool.hedged("r2", flags)
    #expect(pool.run(.milliseconds(100)) == ["100 ms: hedge r2' on c0 reused"])
    return pool
  }

  @Test func theSecondIsQuicker() {
    let pool = running()
    #expect(pool.answered("r2'", 200) == ["abort r2 on c1", "close c1 aborted", "promote r2'", "deliver r2'"])
    #expect(pool.answered("r2", 200) == [])
    #expect(pool.fail("r2", .read) == [])
    #expect(pool.finish("r2'") == ["complete r2 ok"])
    #expect(pool.counters.hedgesWon == 1 && pool.counters.retries == 0)
  }

  @Test func theFirstIsQuicker() {
    let pool = running()
    #expect(pool.answered("r2", 404) == ["abort r2' on c0", "close c0 aborted", "deliver r2"])
    #expect(pool.answered("r2'", 200) == [])
    #expect(pool.finish("r2") == ["complete r2 ok"])
    #expect(pool.counters.hedgesWon == 0)
  }

  @Test(arguments: [408, 409, 429, 500, 529]) func aRefusalOfTheSecondIsDropped(status: Int) {
    let pool = running([.retrySent, .retryStatus])
    #expect(pool.answered("r2'", status) == ["abort r2' on c0", "close c0 aborted"])
    #expect(pool.answered("r2", 200) == ["deliver r2"])
    #expect(pool.counters.retries == 0)
  }

  @Test func aRefusalOfTheFirstIsDropped() {
    let pool = running()
    #expect(pool.answered("r2", 429) == ["abort r2 on c1", "close c1 aborted", "promote r2'"])
    #expect(pool.answered("r2'", 200) == ["deliver r2'"])
    #expect(pool.counters.retries == 0 && pool.counters.hedgesWon == 1)
  }

  /// Once one is left it is an answer as any other.
  @Test func theLastRefusalIsRetried() {
    let pool = running([.retrySent, .retryStatus])
    pool.answered("r2", 429)
    #expect(pool.answered("r2'", 429) == ["discard r2'"])
    #expect(pool.counters.retries == 1 && pool.counters.hedgesWon == 0)
    #expect(pool.run(0) == ["0 ms: abort r2' on c0", "0 ms: close c0 aborted", "0 ms: dial c2"])
  }

  @Test func whatTheServerSaysOfRetriesCounts() {
    let pool = running()
    #expect(pool.answered("r2'", 400, RetryAdvice(shouldRetry: true)) == ["abort r2' on c0", "close c0 aborted"])
    #expect(running().answered("r2'", 429, RetryAdvice(shouldRetry: false)).last == "deliver r2'")
  }

  @Test func theFirstFailsAndTheSecondGoesOn() {
    let pool = running()
    #expect(pool.fail("r2", .read) == ["close c1 error", "promote r2'"])
    #expect(pool.counters.retries == 0)
    #expect(pool.fail("r2'", .tooLarge) == ["close c0 error", "complete r2 tooLarge"])
  }

  @Test func theSecondFailsAndTheFirstGoesOn() {
    let pool = running()
    #expect(pool.fail("r2'", .read) == ["close c0 error"])
    pool.answered("r2", 200)
    #expect(pool.finish("r2") == ["complete r2 ok"])
  }

  /// Each has its own clock.
  @Test func eachTimesOutForItself() {
    let pool = twoConnections {
      $0.timeouts.read = .seconds(1)
      $0.maxRetries = 0
    }
    pool.hedged("r2")
    pool.run(.milliseconds(100))
    pool.progress("r2'", .sent)
    #expect(
      pool.run(.seconds(2)) == [
        "900 ms: abort r2 on c1", "900 ms: close c1 aborted", "900 ms: promote r2'",
        "1000 ms: abort r2' on c0", "1000 ms: close c0 aborted", "1000 ms: complete r2 readTimeout",
      ])
  }

  @Test func theSecondAloneTimesOut() {
    let pool = twoConnections { $0.timeouts.write = .seconds(1) }
    pool.hedged("r2")
    pool.run(.milliseconds(100))
    #expect(pool.run(.seconds(2)) == ["1000 ms: abort r2' on c0", "1000 ms: close c0 aborted"])
  }

  @Test func bothEndWithTheRequest() {
    let pool = running()
    #expect(
      pool.cancel("r2") == [
        "abort r2 on c1", "close c1 aborted", "abort r2' on c0", "close c0 aborted", "complete r2 cancelled",
      ])
    #expect(pool.counters.inUse == 0 && pool.counters.closed == 2)
  }

  @Test func bothEndWithThePool() {
    let pool = running()
    let end = pool.close(within: 0)
    #expect(end.filter { $0.hasPrefix("abort") } == ["abort r2' on c0", "abort r2 on c1"])
    #expect(end.suffix(2) == ["complete r2 closed", "stopped"])
  }

  /// What the second attempt's server may have acted on was seen.
  @Test func aRequestIsUnseenOnlyWhereBothWere() {
    for hasProgress in [false, true] {
      let pool = twoConnections { $0.maxRetries = 0 }
      pool.hedged("r2")
      pool.run(.milliseconds(100))
      pool.fail("r2'", .read, unseen: !hasProgress)
      let end = pool.fail("r2", .tooLarge, unseen: true)
      #expect(end.last == "complete r2 tooLarge" + (hasProgress ? "" : " unseen"))
    }
  }

  @Test func aConnectionThatCarriesBothIsLost() {
    let pool = Script {
      $0.httpVersions = .http2
      $0.maxConnections = 1
    }
    pool.open(0, .http2)
    pool.hedged("r1")
    pool.run(.milliseconds(100))
    #expect(pool.lost("c0") == [])
    #expect(pool.counters.retries == 1)
    #expect(pool.run(0) == ["0 ms: dial c1"])
  }

  @Test func theConnectionOfOneIsLost() {
    let pool = running()
    #expect(pool.lost("c0") == [])
    #expect(pool.counters.inUse == 1)
    let other = running()
    #expect(other.lost("c1") == ["promote r2'"])
    #expect(other.counters.inUse == 1 && other.counters.retries == 0)
  }

  /// Servers close what is idle. A hedge that went out on such a connection was none, and goes out elsewhere.
  @Test func whatNobodySawGoesOutElsewhere() {
    let pool = running()
    #expect(pool.fail("r2'", .read, unseen: true) == ["close c0 error"])
    #expect(pool.run(.seconds(1)) == ["0 ms: dial c2"])
    #expect(pool.dialed("c2") == ["hedge r2' on c2"])
    #expect(pool.fail("r2'", .read, unseen: true) == ["close c2 error"])
    #expect(pool.run(.seconds(1)) == [])  // one dial is enough
    #expect(pool.counters.hedges == 2)
  }

  /// A server of HTTP/2 that refuses a stream refuses the next, too.
  @Test func aRefusedStreamIsNotTriedAgain() {
    let pool = Script { $0.httpVersions = .http2 }
    pool.open(0, .http2)
    pool.hedged("r1")
    pool.run(.milliseconds(100))
    pool.dialed("c1", .http2)
    #expect(pool.fail("r1'", .refused, unseen: true) == [])
    #expect(pool.run(.seconds(1)) == [] && pool.counters.hedges == 1)
  }

  /// Whose connection has become free takes it.
  @Test func whoWaitsGetsTheLosersPlace() {
    let pool = Script {
      $0.httpVersions = .http2
      $0.maxConnections = 1
      $0.maxStreamsPerConnection = 2
    }
    pool.open(0, .http2)
    pool.hedged("r1")
    pool.run(.milliseconds(100))
    #expect(pool.submit() == [])
    #expect(pool.answered("r1", 200) == ["abort r1' on c0", "send r2 on c0 reused", "deliver r1"])
  }
}

/// How many there are, and what they take of a budget.
@Suite struct HedgesAreFew {
  private func silent(_ count: Int, _ percent: Int) -> Script {
    let pool = Script {
      $0.httpVersions = .http2
      $0.maxConnections = 1
      $0.maxStreamsPerConnection = 10_000
      $0.hedgePercent = percent
    }
    pool.open(0, .http2)
    pool.settings("c0", 10_000)
    for index in 1...count { pool.hedged("r\(index)") }
    pool.run(.seconds(1))
    return pool
  }

  @Test func tenAndFivePercent() {
    #expect(silent(8, 5).counters.hedges == 8)
    #expect(silent(200, 5).counters.hedges == 20)
    #expect(silent(200, 50).counters.hedges == 100)  // no more are saved up
    #expect(silent(50, 0).counters.hedges == 0)
  }

  @Test func oneThatWasNotSentIsNotCounted() {
    let pool = oneConnection { $0.maxConnections = 2 }
    for index in 0..<20 {
      pool.hedged("r\(2 * index + 1)")
      #expect(pool.run(.milliseconds(100)).count == 1)
      pool.finish("r\(2 * index + 1)")
      pool.dialed("c\(index + 1)")
      pool.lost("c\(index + 1)")
      pool.submit()
      pool.finish("r\(2 * index + 2)")
    }
    #expect(pool.counters.hedges == 0)
  }

  private func budgeted(_ change: (inout BudgetOptions) -> Void) -> Script {
    let pool = twoConnections()
    pool.budget(0, change)
    return pool
  }

  @Test func aHedgeTakesOfTheBudgetAndKeepsIt() {
    let pool = budgeted { $0.limits[0] = BudgetLimit(.requests, 4, per: .seconds(3_600)) }
    pool.spend(flags: .retrySent) { $0.hedgeAfter = .milliseconds(100) }
    pool.progress("r2", .sent)
    pool.run(.milliseconds(100))
    #expect(pool.left == [2] && pool.inFlight == 2)
    pool.answered("r2'", 200)
    #expect(pool.left == [2] && pool.inFlight == 1)
    pool.finish("r2'")
    #expect(pool.left == [2] && pool.inFlight == 0)
  }

  @Test func whatNobodySawIsGivenBack() {
    let pool = budgeted { $0.limits[0] = BudgetLimit(.requests, 4, per: .seconds(3_600)) }
    pool.spend(flags: .retrySent) { $0.hedgeAfter = .milliseconds(100) }
    pool.progress("r2", .sent)
    pool.run(.milliseconds(100))
    pool.fail("r2'", .read, unseen: true)
    #expect(pool.left == [3] && pool.inFlight == 1)
  }

  @Test func whereItWouldWaitForTheBudgetItIsLeft() {
    let pool = budgeted { $0.limits[0] = BudgetLimit(.requests, 1, per: .seconds(3_600)) }
    pool.spend(flags: .retrySent) { $0.hedgeAfter = .milliseconds(100) }
    pool.progress("r2", .sent)
    #expect(pool.run(.seconds(5)) == [])
    let full = budgeted { $0.maxConcurrent = 1 }
    full.spend(flags: .retrySent) { $0.hedgeAfter = .milliseconds(100) }
    full.progress("r2", .sent)
    #expect(full.run(.seconds(5)) == [])
  }

  /// What the loser's answer says of the provider's limits is heard all the same.
  @Test func aRefusalStopsTheBudget() {
    let pool = budgeted { $0.learns = true }
    pool.watch(.budgetStopped)
    pool.spend(flags: .retrySent)
    pool.answered("r2", 200)
    pool.finish("r2")
    pool.spend(flags: .retrySent) { $0.hedgeAfter = .milliseconds(100) }
    pool.progress("r3", .sent)
    pool.run(.milliseconds(100))
    #expect(
      pool.answered("r3'", 429, RetryAdvice(retryAfter: .seconds(5))).first == "stopped b0 by 429, 0 waiting, 5000 ms")
    #expect(pool.answered("r3", 200) == ["deliver r3"])
  }
}

// MARK: Ways there

/// c0 is idle, of h1.
private func oneConnection(_ change: (inout PoolOptions) -> Void = { _ in }) -> Script {
  let pool = Script(change)
  pool.open()
  return pool
}

/// c0 and c1 are idle, of h1; c1 was used last. The next request is r2.
private func twoConnections(_ change: (inout PoolOptions) -> Void = { _ in }) -> Script {
  let pool = Script(change)
  pool.submit()
  pool.submit()
  for name in ["c0", "c1"] { pool.dialed(name) }
  for name in ["r0", "r1"] { pool.finish(name) }
  return pool
}

extension Script {
  /// The next request, sent, which is to be hedged after 100 ms.
  fileprivate func hedged(_ name: String, _ flags: RequestOptions.Flags = .retrySent) {
    submit(flags: flags) { $0.hedgeAfter = .milliseconds(100) }
    progress(name, .sent)
  }

  fileprivate var inFlight: Int { pool.view(of: BudgetID(slot: 0))!.inFlight }
}
