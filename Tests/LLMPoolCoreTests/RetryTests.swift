import Testing

@testable import LLMPoolCore

@Suite struct Retries {
  /// One request, sent on c0.
  private func sent(_ flags: RequestOptions.Flags = [], _ change: (inout PoolOptions) -> Void = { _ in }) -> Script {
    let pool = Script(tls: true, change)
    pool.handle(.warm(OriginID(slot: 0), connections: 1))
    pool.dialed("c0", .http2)
    pool.settings("c0", 100)
    pool.submit(flags: flags)
    pool.progress("r0", .sent)
    return pool
  }

  @Test func whatNobodySawGoesAgainAtOnce() {
    let pool = Script(tls: true)
    pool.submit()
    pool.dialed("c0", .http2)
    pool.settings("c0", 100)
    pool.submit()
    #expect(pool.fail("r1", .refused, unseen: true) == ["send r1 on c0 reused"])
    #expect(pool.counters.retries == 1)
  }

  @Test func asOftenAsTheOptionsSay() {
    let pool = sent(.retrySent)
    for _ in 0..<2 {
      #expect(pool.fail("r0", .read) == [])
      #expect(pool.run(0) == ["0 ms: send r0 on c0 reused"])
    }
    #expect(pool.fail("r0", .read) == ["complete r0 read"])
  }

  @Test(arguments: [Failure.read, .write, .protocolViolation, .refused]) func whatMayHaveBeenSeenFails(failure: Failure)
  {
    let pool = sent()
    #expect(pool.fail("r0", failure) == ["complete r0 \(failure)"])
  }

  @Test(arguments: [Failure.read, .write, .protocolViolation]) func unlessTheRequestAllowsIt(failure: Failure) {
    let pool = sent(.retrySent)
    #expect(pool.fail("r0", failure) == [])
    #expect(pool.counters.backingOff == 1)
    #expect(pool.run(0) == ["0 ms: send r0 on c0 reused"])
    #expect(pool.finish("r0") == ["complete r0 ok"])
  }

  @Test(arguments: [Failure.tooLarge, .internalError, .outOfMemory]) func someFailuresAreFinal(failure: Failure) {
    let pool = sent(.retrySent)
    #expect(pool.fail("r0", failure, unseen: true) == ["complete r0 \(failure) unseen"])
  }

  @Test func aTimeoutIsRetriedOnlyOnDemand() {
    let pool = sent(.retrySent) { $0.timeouts.read = .seconds(20) }
    #expect(
      pool.run(.seconds(20)) == ["20000 ms: abort r0 on c0", "20000 ms: send r0 on c0 reused"])
  }

  @Test func notWhereTheRequestForbidsIt() {
    let pool = sent(.noRetry)
    #expect(pool.fail("r0", .refused, unseen: true) == ["complete r0 refused unseen"])
  }

  @Test func seenOnceIsSeen() {
    let pool = sent(.retrySent) { $0.timeouts.pool = .seconds(5) }
    pool.fail("r0", .read)
    pool.run(0)
    pool.fail("r0", .refused, unseen: true)
    pool.wait(.seconds(5))
    #expect(pool.fail("r0", .refused, unseen: true) == ["complete r0 refused"])
  }

  @Test func backoffDoublesWithFullJitterUpToItsMaximum() {
    var longest: [Nanoseconds] = [0, 0, 0, 0, 0]
    for seed: UInt64 in 0..<200 {
      var options = PoolOptions()
      options.retryBackoff = .milliseconds(500)
      options.retryBackoffMax = .seconds(3)
      var pool = PoolStateMachine(options: options, seed: seed)
      for failures in 1...5 { longest[failures - 1] = max(longest[failures - 1], pool.backoff(failures)) }
    }
    for (index, limit) in [500, 1000, 2000, 3000, 3000].enumerated() {
      #expect(longest[index] <= .milliseconds(limit))
      #expect(longest[index] > .milliseconds(limit * 9 / 10))
    }
  }

  @Test func refusedBecauseWeCouldNotKnowTheLimitCostsNoRetry() {
    let pool = Script(tls: true) {
      $0.maxRetries = 0
      $0.maxConnections = 1
    }
    for _ in 0..<3 { pool.submit() }
    pool.dialed("c0", .http2)
    pool.settings("c0", 2)
    #expect(pool.fail("r2", .refused, unseen: true) == [])
    #expect(pool.finish("r0") == ["complete r0 ok", "send r2 on c0 reused"])
    #expect(pool.counters.retries == 0)
    // Now the limit is known.
    #expect(pool.fail("r2", .refused, unseen: true) == ["send r2 on c0 reused"])
    #expect(pool.counters.retries == 1)
  }

  /// A server that refuses everything before its SETTINGS kept a request going round for ever.
  @Test func butNotForEver() {
    let pool = Script(tls: true) { $0.maxRetries = 0 }
    pool.submit()
    for index in 0..<5 {
      pool.dialed("c\(index)", .http2)
      pool.goAway("c\(index)")
      #expect(pool.fail("r0", .refused, unseen: true).last == "dial c\(index + 1)")
    }
    #expect(pool.counters.retries == 2)
    pool.dialed("c5", .http2)
    pool.goAway("c5")
    #expect(pool.fail("r0", .refused, unseen: true) == ["close c5 goAway"])
    #expect(pool.counters.backingOff == 1)
  }

  @Test func theBudgetHoldsAnOutageDown() {
    let pool = Script(tls: true) { $0.maxStreamsPerConnection = 1000 }
    for _ in 0..<100 { pool.submit(flags: .retrySent) }
    pool.dialed("c0", .http2)
    for index in 0..<100 { pool.progress("r\(index)", .sent) }
    var failed = 0
    for index in 0..<100 where !pool.fail("r\(index)", .read).isEmpty { failed += 1 }
    // 10 to begin with, and 20 % of 100.
    #expect(failed == 70)
    pool.wait(.seconds(2))
    for _ in 0..<10 { pool.submit(flags: .retrySent) }
    for index in 100..<110 {
      pool.progress("r\(index)", .sent)
      if pool.fail("r\(index)", .read).isEmpty { failed -= 1 }
    }
    // 3 a second, and 20 % of 10.
    #expect(failed == 62)
  }

  @Test func whatNobodySawNeedsNoBudget() {
    let pool = Script(tls: true) { $0.maxStreamsPerConnection = 1000 }
    for _ in 0..<100 { pool.submit() }
    pool.dialed("c0", .http2)
    pool.settings("c0", 1000)
    for index in 0..<100 {
      #expect(pool.fail("r\(index)", .refused, unseen: true).last == "send r\(index) on c0 reused")
    }
  }
}

@Suite struct StatusRetries {
  private func sent(_ flags: RequestOptions.Flags = .retryStatus, _ change: (inout PoolOptions) -> Void = { _ in })
    -> Script
  {
    let pool = Script(change)
    pool.watch(.retry)
    pool.submit(flags: flags)
    pool.dialed("c0")
    pool.progress("r0", .sent)
    return pool
  }

  @Test(arguments: [408, 409, 429, 500, 502, 503, 529]) func temporary(status: Int) {
    let pool = sent()
    #expect(pool.answered("r0", status) == ["retry r0 \(status)", "discard r0"])
    #expect(pool.finish("r0") == [])
    #expect(pool.run(0) == ["0 ms: send r0 on c0 reused"])
    #expect(pool.answered("r0", 200) == ["deliver r0"])
    #expect(pool.finish("r0") == ["complete r0 ok"])
  }

  @Test(arguments: [200, 204, 301, 400, 401, 404, 422]) func final(status: Int) {
    let pool = sent()
    #expect(pool.answered("r0", status) == ["deliver r0"])
  }

  @Test func onlyOnDemand() {
    for flags: RequestOptions.Flags in [[], .retrySent, [.retryStatus, .noRetry]] {
      #expect(sent(flags).answered("r0", 429) == ["deliver r0"])
    }
  }

  @Test func asOftenAsTheOptionsSay() {
    let pool = sent(.retryStatus) { $0.maxRetries = 1 }
    pool.answered("r0", 500)
    pool.finish("r0")
    pool.run(0)
    #expect(pool.answered("r0", 500) == ["deliver r0"])
    #expect(pool.finish("r0") == ["complete r0 ok"])
  }

  @Test func aRequestHasItsOwnBounds() {
    func sent(pool change: (inout PoolOptions) -> Void, _ own: (inout RequestOptions) -> Void) -> Script {
      let pool = Script(tls: true, change)
      pool.submit(flags: .retryStatus, own)
      pool.dialed("c0", .http2)
      pool.settings("c0", 100)
      pool.progress("r0", .sent)
      return pool
    }
    let never = sent(pool: { $0.maxRetries = 0 }, { _ in })
    #expect(never.answered("r0", 500) == ["deliver r0"])
    let once = sent(pool: { $0.maxRetries = 0 }, { $0.maxRetries = 1 })
    #expect(once.answered("r0", 500, RetryAdvice(retryAfter: .seconds(1))).last == "discard r0")
    once.finish("r0")
    #expect(once.run(.seconds(1)).last == "1000 ms: send r0 on c0 reused")
    #expect(once.answered("r0", 500) == ["deliver r0"])
    for (bound, last) in [(Nanoseconds.seconds(5), "deliver r0"), (.max, "discard r0"), (.seconds(90), "discard r0")] {
      let pool = sent(pool: { _ in }, { $0.retryAfterMax = bound })
      #expect(pool.answered("r0", 429, RetryAdvice(retryAfter: .seconds(70))).last == last)
    }
  }

  @Test func theServersWordCounts() {
    #expect(sent().answered("r0", 500, RetryAdvice(shouldRetry: false)) == ["deliver r0"])
    #expect(sent().answered("r0", 400, RetryAdvice(shouldRetry: true)) == ["retry r0 400", "discard r0"])
    // A success is one, whatever it says of itself.
    #expect(sent().answered("r0", 200, RetryAdvice(shouldRetry: true)) == ["deliver r0"])
  }

  @Test func retryAfterIsObeyed() {
    let pool = sent()
    pool.answered("r0", 429, RetryAdvice(retryAfter: .seconds(7)))
    pool.finish("r0")
    #expect(pool.delays == [.seconds(7)])
    #expect(pool.run(.seconds(7)) == ["7000 ms: send r0 on c0 reused"])
  }

  @Test func beyondTheLimitTheAnswerIsDelivered() {
    #expect(sent().answered("r0", 429, RetryAdvice(retryAfter: .seconds(60))).last == "discard r0")
    #expect(sent().answered("r0", 429, RetryAdvice(retryAfter: .seconds(61))) == ["deliver r0"])
  }

  @Test func beyondTheTotalTimeTheAnswerIsDelivered() {
    let pool = Script()
    pool.submit(flags: .retryStatus) { $0.timeouts.total = .seconds(5) }
    pool.dialed("c0")
    pool.run(.seconds(1))
    #expect(pool.answered("r0", 429, RetryAdvice(retryAfter: .seconds(4))) == ["deliver r0"])
  }

  /// A limit for the server's wish held back our own backoff, too.
  @Test func theLimitIsForRetryAfterOnly() {
    let pool = sent(.retryStatus) {
      $0.retryAfterMax = 1
      $0.retryBackoff = .seconds(1)
    }
    #expect(pool.answered("r0", 500).last == "discard r0")
  }

  @Test func aDroppedAnswerThatDoesNotEndIsLeft() {
    let pool = sent()
    pool.answered("r0", 429, RetryAdvice(retryAfter: .seconds(1)))
    #expect(pool.run(.seconds(1)) == ["1000 ms: abort r0 on c0", "1000 ms: close c0 aborted", "1000 ms: dial c1"])
  }

  /// A connection lost, or silent, while a dropped answer came ended the request.
  @Test func aDroppedAnswerThatBreaksIsDroppedAllTheSame() {
    let pool = sent()
    pool.answered("r0", 429, RetryAdvice(retryAfter: .seconds(7)))
    #expect(pool.fail("r0", .read) == ["close c0 error"])
    #expect(pool.run(.seconds(7)) == ["7000 ms: dial c1"])

    let silent = sent(.retryStatus) { $0.timeouts.read = .seconds(1) }
    silent.answered("r0", 429, RetryAdvice(retryAfter: .seconds(7)))
    #expect(silent.run(.seconds(1)) == ["1000 ms: abort r0 on c0", "1000 ms: close c0 aborted"])
    #expect(silent.run(.seconds(7)) == ["6000 ms: dial c1"])

    let lost = sent()
    lost.answered("r0", 429, RetryAdvice(retryAfter: .seconds(7)))
    #expect(lost.lost("c0") == [])
    #expect(lost.run(.seconds(7)) == ["7000 ms: dial c1"])
  }

  @Test func cancelWhileDropping() {
    let pool = sent()
    pool.answered("r0", 429)
    #expect(pool.cancel("r0") == ["abort r0 on c0", "close c0 aborted", "complete r0 cancelled"])
  }

  @Test func nothingIsRetriedAfterItWasDelivered() {
    let pool = sent([.retrySent, .retryStatus, .streamed])
    #expect(pool.answered("r0", 200) == ["deliver r0"])
    #expect(pool.fail("r0", .read) == ["close c0 error", "complete r0 read"])
  }

  @Test func aCollectedAnswerThatBreaksMayBeRetried() {
    let pool = sent(.retrySent)
    pool.answered("r0", 200)
    #expect(pool.fail("r0", .read) == ["retry r0 read", "close c0 error"].reversed())
  }

  @Test func anUploadThatIsGoneIsNotRetried() {
    let pool = sent([.retrySent, .retryStatus])
    pool.handle(.bodyConsumed(pool.request("r0")))
    #expect(pool.answered("r0", 503) == ["deliver r0"])
    #expect(pool.fail("r0", .refused, unseen: true).last == "complete r0 refused")
  }

  @Test func anUploadThatGoesOnAfterTheRetryWasDecidedFails() {
    let pool = sent()
    pool.answered("r0", 503)
    #expect(
      pool.handle(.bodyConsumed(pool.request("r0"))) == ["abort r0 on c0", "close c0 aborted", "complete r0 write"])
  }

  @Test func attemptsAreCounted() {
    let pool = sent()
    pool.answered("r0", 500)
    pool.finish("r0")
    pool.run(0)
    pool.answered("r0", 200)
    let actions = pool.actions(of: .finished(pool.attempt("r0"), .success, reusable: true))
    guard case .complete(_, let completion) = actions[0] else { return #expect(Bool(false)) }
    #expect(completion == Completion(failure: nil, unseen: false, attempts: 2))
    #expect(pool.counters.retries == 1)
  }

  /// Else the notice of the dial would be taken for another of the attempt before.
  @Test func aDialThatFailsIsNoAttempt() {
    let pool = sent()
    pool.answered("r0", 503)
    pool.finish("r0", reusable: false)
    pool.run(0)
    pool.dialFailed("c1")
    #expect(pool.failedAttempts == [1, 0])
  }
}
