import Testing

@testable import LLMPoolCore

@Suite struct Cancel {
  @Test func whileWaiting() {
    let pool = Script { $0.maxConnections = 1 }
    pool.submit()
    pool.dialed("c0")
    pool.submit()
    #expect(pool.cancel("r1") == ["complete r1 cancelled unseen"])
    #expect(pool.finish("r0") == ["complete r0 ok"])
  }

  @Test func whileDialling() {
    let pool = Script()
    pool.submit()
    #expect(pool.cancel("r0") == ["complete r0 cancelled unseen"])
    #expect(pool.dialed("c0") == [])
    #expect(pool.submit() == ["send r1 on c0"])
  }

  @Test func whileOnHTTP1TheConnectionGoesFirst() {
    let pool = Script { $0.maxConnections = 1 }
    pool.submit()
    pool.dialed("c0")
    pool.submit()
    #expect(pool.cancel("r0") == ["abort r0 on c0", "close c0 aborted", "complete r0 cancelled", "dial c1"])
  }

  @Test func whileOnHTTP2TheStreamIsFree() {
    let pool = Script(tls: true) { $0.maxStreamsPerConnection = 1 }
    pool.submit()
    pool.dialed("c0", .http2)
    #expect(pool.cancel("r0") == ["abort r0 on c0", "complete r0 cancelled"])
    #expect(pool.submit() == ["send r1 on c0 reused"])
  }

  @Test func whileBackingOff() {
    let pool = Script {
      $0.retryBackoff = .seconds(8)
      $0.retryBackoffMax = .seconds(8)
    }
    pool.submit()
    pool.dialFailed("c0")
    #expect(pool.cancel("r0") == ["complete r0 cancelled unseen"])
    #expect(pool.run(.seconds(20)) == [])
  }

  @Test func twiceOrTooLate() {
    let pool = Script()
    pool.submit()
    pool.cancel("r0")
    #expect(pool.cancel("r0") == [])
    pool.dialed("c0")
    pool.submit()
    pool.finish("r1")
    #expect(pool.cancel("r1") == [])
  }

  @Test func aCoveredOneMakesPlaceForTheNext() {
    let pool = Script { $0.maxConnections = 1 }
    pool.submit()
    pool.submit()
    pool.cancel("r0")
    // Now r1 counts on the dial: its connect clock runs.
    #expect(pool.run(.seconds(5)).last == "5000 ms: complete r1 connectTimeout unseen")
  }

  @Test func resetsAreCounted() {
    let pool = Script(tls: true)
    for index in 0..<500 {
      pool.submit()
      if index == 0 { pool.dialed("c0", .http2) }
      let ended = pool.cancel("r\(index)")
      #expect(ended.contains("close c0 retired") == (index == 499))
    }
    #expect(pool.submit() == ["dial c1"])
  }

  @Test func resetsAreForgivenWithTime() {
    let pool = Script(tls: true)
    for index in 0..<2_000 {
      pool.submit()
      if index == 0 { pool.dialed("c0", .http2) }
      pool.received("c0")
      #expect(pool.cancel("r\(index)") == ["abort r\(index) on c0", "complete r\(index) cancelled"])
      pool.wait(.milliseconds(100))
    }
  }
}

@Suite struct Dials {
  @Test func theOldestWaiterFailsAndTheRestRedials() {
    let pool = Script(tls: true)
    for _ in 0..<3 { pool.submit(flags: .noRetry) }
    #expect(pool.dialFailed("c0") == ["complete r0 connect unseen", "dial c1"])
    #expect(pool.dialed("c1", .http2) == ["send r1 on c1", "send r2 on c1 reused"])
  }

  @Test func whoIsServedByAnotherDialDoesNotFail() {
    let pool = Script()
    pool.submit(flags: .noRetry)
    pool.submit(flags: .noRetry)
    pool.cancel("r0")
    #expect(pool.dialFailed("c0") == [])
    #expect(pool.dialed("c1") == ["send r1 on c1"])
  }

  @Test func afterThreeInARowAllFail() {
    let pool = Script(tls: true)
    for _ in 0..<5 { pool.submit(flags: .noRetry) }
    pool.dialFailed("c0")
    pool.dialFailed("c1")
    #expect(
      pool.dialFailed("c2") == [
        "complete r2 connect unseen", "complete r3 connect unseen", "complete r4 connect unseen",
      ])
  }

  @Test func redialsWaitForTheBackoff() {
    let pool = Script(tls: true) {
      $0.retryBackoff = .seconds(1)
      $0.retryBackoffMax = .seconds(8)
    }
    for _ in 0..<3 { pool.submit(flags: .noRetry) }
    let failed = pool.dialFailed("c0")
    #expect(failed == ["complete r0 connect unseen"])
    // The pool clock runs meanwhile.
    #expect(pool.submit() == [])
    let redial = pool.run(.seconds(1))
    #expect(redial.count == 1 && redial[0].hasSuffix("dial c1"))
  }

  @Test func aSuccessForgetsTheFailures() {
    let pool = Script(tls: true)
    for _ in 0..<5 { pool.submit(flags: .noRetry) }
    pool.dialFailed("c0")
    pool.dialFailed("c1")
    pool.dialed("c2", .http2)
    pool.lost("c2")
    pool.submit(flags: .noRetry)
    pool.submit(flags: .noRetry)
    #expect(pool.dialFailed("c3").filter { $0.hasPrefix("complete") }.count == 1)
  }

  @Test func aRequestThatWasNeverConnectedIsTriedAgain() {
    let pool = Script()
    pool.watch(.retry)
    pool.submit()
    #expect(pool.dialFailed("c0") == ["retry r0 connect"])
    #expect(pool.run(0) == ["0 ms: dial c1"])
    pool.dialFailed("c1")
    pool.run(0)
    #expect(pool.dialFailed("c2") == ["complete r0 connect unseen"])
  }

  @Test(arguments: [Failure.tls, .tlsVerify, .proxy, .connectTimeout]) func whatWillNotHealIsNot(failure: Failure) {
    let pool = Script()
    pool.submit()
    #expect(pool.dialFailed("c0", failure) == ["complete r0 \(failure) unseen"])
  }

  @Test func aConnectionClosedWhileDialled() {
    let pool = Script()
    pool.submit(flags: .noRetry)
    #expect(pool.lost("c0") == ["complete r0 connect unseen"])
  }

  @Test func counts() {
    let pool = Script()
    pool.submit(flags: .noRetry)
    pool.dialFailed("c0")
    #expect(pool.counters.connectFailures == 1)
    #expect(pool.counters.opened == 1)
    #expect(pool.counters.closed == 1)
  }
}

@Suite struct Names {
  @Test func oneLookupForMany() {
    let pool = Script(origins: 0)
    pool.add(0, host: 0)
    pool.add(1, tls: true, host: 0)
    #expect(pool.submit(0) == ["resolve h0"])
    for _ in 0..<10 { #expect(pool.submit(0) == []) }
    #expect(pool.submit(1) == [])
    let dials = pool.resolved(0, 1, 2)
    #expect(dials.count == 12)
    #expect(pool.counters.dnsLookups == 1)
    // Spread over the addresses.
    #expect(pool.rotations == Array(0..<12))
  }

  @Test func aCachedAnswerServes() {
    let pool = Script(named: true)
    pool.submit()
    pool.resolved(0, 1)
    #expect(pool.submit() == ["dial c1"])
    #expect(pool.counters.dnsCacheHits == 1)
  }

  @Test func anOldAnswerServesWhileItIsRefreshed() {
    let pool = Script(named: true)
    pool.submit()
    pool.resolved(0, 1)
    pool.cancel("r0")
    pool.dialFailed("c0")
    pool.run(.seconds(301))
    #expect(pool.submit() == ["resolve h0", "dial c1"])
    #expect(pool.submit() == ["dial c2"])
    #expect(pool.resolved(0, 1) == [])
    pool.run(.seconds(1))
    #expect(pool.submit() == ["dial c3"])
    #expect(pool.counters.dnsLookups == 2)
  }

  @Test func withoutCacheEachDialAsks() {
    let pool = Script(named: true) { $0.dnsCacheTTL = 0 }
    pool.submit()
    #expect(pool.resolved(0, 1) == ["dial c0"])
    #expect(pool.submit() == ["resolve h0"])
    #expect(pool.resolved(0, 1) == ["dial c1"])
  }

  @Test func aFailureFailsAllWaiters() {
    let pool = Script(tls: true, named: true)
    for _ in 0..<3 { pool.submit() }
    #expect(
      pool.resolveFailed(0) == [
        "complete r0 resolve unseen", "complete r1 resolve unseen", "complete r2 resolve unseen",
      ])
  }

  @Test func aFailureIsKeptForASecond() {
    let pool = Script(named: true)
    pool.submit()
    pool.resolveFailed(0)
    pool.run(.milliseconds(999))
    #expect(pool.submit() == ["complete r1 resolve unseen"])
    pool.run(.milliseconds(1))
    #expect(pool.submit() == ["resolve h0"])
  }

  @Test func anEmptyAnswerIsAFailure() {
    let pool = Script(named: true)
    pool.submit()
    #expect(pool.resolved(0) == ["complete r0 resolve unseen"])
  }

  /// Without a cache: the waiters of a dial whose lookup failed counted on it for ever where another was under way.
  @Test func aFailedLookupBesideADial() {
    let pool = Script(named: true) { $0.dnsCacheTTL = 0 }
    pool.submit()
    pool.resolved(0, 1)
    pool.submit()
    #expect(pool.resolveFailed(0) == ["resolve h0"])
    #expect(pool.resolved(0, 1) == ["dial c1"])
    #expect(pool.dialed("c0") == ["send r0 on c0"])
    #expect(pool.dialed("c1") == ["send r1 on c1"])
  }

  @Test func aFailedRefreshKeepsTheOldAddresses() {
    let pool = Script(named: true)
    pool.submit()
    pool.resolved(0, 1)
    pool.dialed("c0")
    pool.progress("r0", .sent)
    pool.finish("r0", reusable: false)
    pool.run(.seconds(301))
    #expect(pool.submit() == ["resolve h0", "dial c1"])
    #expect(pool.resolveFailed(0) == [])
    #expect(pool.submit() == ["dial c2"])
    pool.run(.seconds(1))
    #expect(pool.submit() == ["resolve h0", "dial c3"])
  }

  @Test func connectionsToGoneAddresses() {
    let pool = Script(named: true) { $0.keepaliveExpiry = .max }
    for _ in 0..<3 { pool.submit { $0.timeouts.read = .max } }
    pool.resolved(0, 1, 2)
    pool.dialed("c0", at: 1)
    pool.dialed("c1", at: 1)
    pool.dialed("c2", at: 2)
    for name in ["r0", "r1", "r2"] { pool.progress(name, .sent) }
    pool.finish("r0")
    pool.run(.seconds(301))
    pool.submit()
    #expect(pool.submit() == ["resolve h0", "dial c3"])
    pool.cancel("r4")
    #expect(pool.finish("r3").last == "complete r3 ok")
    #expect(pool.resolved(0, 2, 3) == ["close c0 addressGone"])
    #expect(pool.finish("r1") == ["close c1 addressGone", "complete r1 ok"])
    #expect(pool.finish("r2") == ["complete r2 ok"])
  }

  @Test func aHangingLookupCostsTheConnectTimeoutAndNoMore() {
    let pool = Script(origins: 2, named: true)
    pool.submit(0)
    // Nobody has told the engine to dial: nothing to close.
    #expect(pool.run(.seconds(6)) == ["5000 ms: complete r0 connectTimeout unseen"])
    pool.submit(1)
    #expect(pool.resolved(1, 7) == ["dial c0 o1"])
    #expect(pool.submit(0) == [])
    #expect(pool.resolved(0, 8) == ["dial c1"])
  }

  @Test func strayAnswersAreIgnored() {
    let pool = Script(named: true)
    #expect(pool.resolved(0, 1) == [])
    #expect(pool.resolveFailed(0) == [])
    #expect(pool.resolved(77, 1) == [])
    #expect(pool.submit() == ["resolve h0"])
  }

  @Test func anotherProxyAnotherHost() {
    let pool = Script(named: true)
    pool.submit()
    pool.add(0, host: nil)
    #expect(pool.counters.connecting == 1)
    #expect(pool.configure(identity: true) { _ in } == ["close c0 reconfigured", "dial c1"])
    #expect(pool.resolved(0, 1) == [])
    #expect(pool.submit() == ["dial c2"])
  }

  @Test func anOriginIsNotForgottenWhileItsNameIsLookedUp() {
    let pool = Script(named: true)
    pool.submit()
    pool.cancel("r0")
    #expect(pool.run(.seconds(650)) == [])
    #expect(pool.resolved(0, 1) == [])
    #expect(pool.run(.seconds(700)).last?.hasSuffix("forget o0") == true)
  }
}

@Suite struct Loss {
  @Test func goAwayDrains() {
    let pool = Script(tls: true)
    pool.submit()
    pool.submit()
    pool.dialed("c0", .http2)
    #expect(pool.goAway("c0") == [])
    #expect(pool.submit() == ["dial c1"])
    #expect(pool.finish("r0") == ["complete r0 ok"])
    #expect(pool.finish("r1") == ["close c0 goAway", "complete r1 ok"])
  }

  @Test func goAwayOfAnIdleConnection() {
    let pool = Script(tls: true)
    pool.open(0, .http2)
    #expect(pool.goAway("c0") == ["close c0 goAway"])
    #expect(pool.goAway("c0") == [])
  }

  @Test func aConnectionThatDiesIsAnnouncedInThreeSteps() {
    let pool = Script(tls: true)
    pool.submit()
    pool.submit()
    pool.dialed("c0", .http2)
    pool.progress("r0", .sent)
    pool.goAway("c0")
    #expect(pool.fail("r0", .read) == ["complete r0 read"])
    #expect(pool.fail("r1", .refused, unseen: true) == ["close c0 goAway", "dial c1"])
    #expect(pool.lost("c0") == [])
    #expect(pool.dialed("c1", .http2) == ["send r1 on c1"])
  }

  @Test func whatWasNotSentYetGoesElsewhere() {
    let pool = Script { $0.maxRetries = 0 }
    pool.submit(flags: .noRetry)
    pool.dialed("c0")
    #expect(pool.lost("c0") == ["dial c1"])
    #expect(pool.counters.retries == 0)
  }

  @Test func notForEver() {
    let pool = Script {
      $0.maxRetries = 0
      $0.timeouts.pool = .seconds(5)
    }
    pool.submit()
    for index in 0..<2 {
      pool.dialed("c\(index)")
      #expect(pool.lost("c\(index)") == ["dial c\(index + 1)"])
    }
    pool.dialed("c2")
    pool.wait(.seconds(5))
    #expect(pool.lost("c2") == ["complete r0 write unseen"])
  }

  /// It was sent again although it may have been acted on.
  @Test func whatWasSentFails() {
    let pool = Script()
    pool.submit()
    pool.dialed("c0")
    pool.progress("r0", .wrote)
    #expect(pool.lost("c0") == ["complete r0 read"])
  }

  @Test func anIdleConnectionThatEnds() {
    let pool = Script()
    pool.open()
    #expect(pool.lost("c0") == [])
    #expect(pool.counters.idle == 0)
    #expect(pool.submit() == ["dial c1"])
  }

  @Test func eventsOfTheDeadAreIgnored() {
    let pool = Script()
    pool.submit()
    pool.dialed("c0")
    let attempt = pool.attempt("r0")
    pool.fail("r0", .refused, unseen: true)
    pool.dialed("c1")
    #expect(pool.attempt("r0") != attempt)
    #expect(pool.handle(.finished(attempt, .success, reusable: true)) == [])
    #expect(pool.handle(.answered(attempt, httpStatus: 200, .none)) == [])
    #expect(pool.handle(.progressed(attempt, .sent)) == [])
    #expect(pool.lost("c0") + pool.goAway("c0") + pool.settings("c0", 0) + pool.received("c0") == [])
    #expect(pool.dialed("c0") + pool.dialFailed("c0") + pool.dialed("c1") + pool.dialFailed("c1") == [])
    #expect(pool.finish("r0") == ["complete r0 ok"])
    #expect(pool.finish("r0") == [])
    #expect(pool.handle(.bodyConsumed(pool.request("r0"))) == [])
  }

  @Test func aSlotOfAConnectionIsReusedUnderAnotherName() {
    let pool = Script()
    pool.open()
    let old = pool.connection("c0")
    pool.lost("c0")
    pool.submit()
    #expect(pool.connection("c1").slot == old.slot)
    #expect(pool.connection("c1") != old)
    #expect(pool.lost("c0") == [])
    #expect(pool.dialed("c1") == ["send r1 on c1"])
  }
}
