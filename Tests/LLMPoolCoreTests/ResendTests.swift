import Testing

@testable import LLMPoolCore

/// What a server provably has not acted on (RFC 9113, section 8.7).
@Suite struct Resends {
  /// One request, sent on c0, whose SETTINGS have come.
  private func sent(_ flags: RequestOptions.Flags = [], _ change: (inout PoolOptions) -> Void = { _ in }) -> Script {
    let pool = Script(tls: true, change)
    pool.handle(.warm(OriginID(slot: 0), connections: 1))
    pool.dialed("c0", .http2)
    pool.settings("c0", 100)
    pool.submit(flags: flags)
    pool.progress("r0", .sent)
    return pool
  }

  /// 600 calls to an nginx that ends its connections after 20 lost some, as each refusal took one of two retries.
  @Test func refusalsCostNoRetry() {
    let pool = sent { $0.maxRetries = 0 }
    var times = 0
    while pool.fail("r0", .refused, unseen: true).last != "complete r0 refused unseen", times < 1_000 {
      times += 1
      if pool.counters.backingOff == 1 {
        #expect(pool.run(.seconds(1)).last?.hasSuffix("send r0 on c0 reused") == true)
      }
    }
    #expect(times > 3 && times < 1_000)
    #expect(pool.counters.retries == times)
  }

  @Test func untilThePoolTimeoutSinceTheFirst() {
    let pool = sent { $0.timeouts.pool = .seconds(3) }
    #expect(pool.fail("r0", .refused, unseen: true) == ["send r0 on c0 reused"])
    pool.wait(.milliseconds(2_999))
    #expect(pool.fail("r0", .refused, unseen: true) == ["send r0 on c0 reused"])
    pool.wait(.milliseconds(1))
    #expect(pool.fail("r0", .refused, unseen: true) == ["complete r0 refused unseen"])
  }

  /// Time in the queue counts, too: a request does not begin to wait anew with each refusal.
  @Test func theQueueIsPartOfIt() {
    let pool = Script(tls: true) {
      $0.maxConnections = 1
      $0.maxStreamsPerConnection = 1
      $0.timeouts.pool = .seconds(3)
      $0.timeouts.read = .seconds(60)
    }
    pool.open(0, .http2)
    pool.settings("c0", 1)
    pool.submit()
    #expect(pool.fail("r1", .refused, unseen: true) == ["send r1 on c0 reused"])
    pool.submit(priority: 1)
    pool.wait(.seconds(2))
    #expect(pool.fail("r1", .refused, unseen: true) == ["send r2 on c0 reused"])
    #expect(pool.run(.seconds(2)).last == "1000 ms: complete r1 poolTimeout unseen")
  }

  /// What it waits for its own budget is not time in which others have refused it.
  @Test func theWaitForABudgetIsNot() {
    let pool = Script(tls: true) { $0.timeouts.pool = .seconds(3) }
    pool.budget { $0.learns = true }
    pool.open(0, .http2)
    pool.settings("c0", 100)
    pool.spend()
    pool.spend()
    pool.answered("r2", 429, RetryAdvice(retryAfter: .seconds(5)))
    #expect(pool.fail("r1", .refused, unseen: true) == [])
    #expect(pool.run(.seconds(5)) == ["5000 ms: admit r1", "5000 ms: send r1 on c0 reused"])
    #expect(pool.fail("r1", .refused, unseen: true) == ["admit r1", "send r1 on c0 reused"])
    pool.wait(.seconds(3))
    #expect(pool.fail("r1", .refused, unseen: true) == ["complete r1 refused unseen"])
  }

  @Test func fromTheThirdInARowOnAfterABackoff() {
    let pool = sent()
    pool.watch(.retry)
    for _ in 0..<2 { #expect(pool.fail("r0", .refused, unseen: true).last == "send r0 on c0 reused") }
    #expect(pool.fail("r0", .refused, unseen: true) == ["retry r0 refused"])
    #expect(pool.delays.last! >= .milliseconds(10))
    #expect(pool.run(.seconds(1)).last?.hasSuffix("send r0 on c0 reused") == true)
  }

  /// Where connections end one after the other and carry others meanwhile, nothing is wrong.
  @Test func aSuccessBeginsTheRowAnew() {
    let pool = Script(tls: true)
    pool.submit()
    for index in 0..<10 {
      pool.submit()
      pool.dialed("c\(index)", .http2)
      pool.settings("c\(index)", 100)
      pool.goAway("c\(index)")
      pool.finish("r\(index + 1)")
      #expect(pool.fail("r0", .refused, unseen: true).last == "dial c\(index + 1)")
    }
  }

  /// A server that takes others and refuses this one stream again and again is busy: it is not asked without a pause.
  @Test func butNotWhereTheConnectionGoesOn() {
    let pool = sent()
    for index in 1...2 {
      pool.submit()
      pool.finish("r\(index)")
      pool.fail("r0", .refused, unseen: true)
    }
    #expect(pool.fail("r0", .refused, unseen: true) == [])
    #expect(pool.counters.backingOff == 1)
  }

  @Test func withoutAPoolTimeoutForTenSeconds() {
    let pool = sent {
      $0.timeouts.pool = .max
      $0.timeouts.write = .seconds(60)
    }
    pool.fail("r0", .refused, unseen: true)
    pool.wait(.seconds(10))
    #expect(pool.fail("r0", .refused, unseen: true) == ["complete r0 refused unseen"])
  }

  @Test func notBeyondTheTotalTime() {
    let pool = Script(tls: true)
    pool.submit { $0.timeouts.total = .milliseconds(5) }
    pool.dialed("c0", .http2)
    pool.settings("c0", 100)
    for _ in 0..<2 { pool.fail("r0", .refused, unseen: true) }
    #expect(pool.fail("r0", .refused, unseen: true) == ["complete r0 refused unseen"])
  }

  /// It was sent again up to five times although its answer had begun.
  @Test func anAnswerThatHasBegunIsNot() {
    let pool = sent()
    pool.progress("r0", .received)  // An interim answer is enough.
    #expect(pool.fail("r0", .refused, unseen: true) == ["complete r0 refused"])
  }

  @Test func norWhereTheWholeAnswerHead() {
    let pool = sent()
    pool.progress("r0", .received)
    pool.answered("r0", 200)
    #expect(pool.fail("r0", .refused, unseen: true) == ["complete r0 refused"])
  }

  /// 407 is the proxy's answer, not the origin's.
  @Test func exceptAProxysOwn() {
    let pool = Script()
    pool.submit()
    pool.dialed("c0")
    pool.progress("r0", .sent, .received)
    #expect(pool.fail("r0", .proxy, unseen: true).last == "complete r0 proxy unseen")
  }

  /// On a connection whose SETTINGS had not come, but which allow it: the limit was not the reason.
  @Test func aRefusalOnAColdConnectionCountsWhereTheLimitWasNotTheReason() {
    let pool = Script(tls: true)
    pool.submit()
    pool.dialed("c0", .http2)
    pool.settings("c0", 100)
    pool.fail("r0", .refused, unseen: true)
    pool.fail("r0", .refused, unseen: true)
    #expect(pool.fail("r0", .refused, unseen: true) == [])
    #expect(pool.counters.backingOff == 1)
  }

  @Test func whatWasNeverSentGoesElsewhereForAsLong() {
    let pool = Script {
      $0.maxRetries = 0
      $0.timeouts.pool = .seconds(1)
    }
    pool.submit(flags: .noRetry)
    var index = 0
    while pool.counters.failed == 0, index < 1_000 {
      pool.dialed("c\(index)")
      pool.lost("c\(index)")
      if pool.counters.backingOff == 1 { pool.run(.milliseconds(10)) }
      index += 1
    }
    #expect(index > 3 && index < 1_000)
    #expect(pool.counters.retries == 0)
  }
}

/// Resets that wait for the answer to a PING.
@Suite struct HeldResets {
  @Test func goOutAfterASecondAllTheSame() {
    let pool = Script(tls: true)
    pool.open(0, .http2)
    pool.submit()
    #expect(pool.handle(.resetsHeld(pool.connection("c0"))) == [])
    #expect(pool.run(.seconds(3)) == ["1000 ms: release resets of c0"])
  }

  @Test func notOfAConnectionThatIsGone() {
    let pool = Script(tls: true)
    pool.open(0, .http2)
    pool.handle(.resetsHeld(pool.connection("c0")))
    pool.lost("c0")
    #expect(pool.handle(.resetsHeld(pool.connection("c0"))) == [])
    #expect(pool.run(.seconds(3)) == [])
  }
}
