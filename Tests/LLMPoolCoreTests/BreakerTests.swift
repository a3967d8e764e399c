import Testing

@testable import LLMPoolCore

/// A server that is down costs one timeout, and not one for each call.
@Suite struct Breakers {
  private func script(
    _ failures: Int, tls: Bool = false, named: Bool = false, _ change: (inout PoolOptions) -> Void = { _ in }
  ) -> Script {
    let pool = Script(tls: tls, named: named) {
      $0.breakerFailures = failures
      change(&$0)
    }
    pool.watch([.breakerOpened, .breakerClosed])
    return pool
  }

  @Test func isOffByDefault() {
    let pool = Script()
    for index in 0..<20 {
      pool.submit(flags: .noRedial)
      #expect(pool.dialFailed("c\(index)") == ["complete r\(index) connect unseen"])
    }
    #expect(pool.counters.breakersOpen == 0)
  }

  @Test func theNextCallsEndAtOnce() {
    let pool = script(1)
    pool.submit()
    #expect(pool.wait(.seconds(5)).contains("complete r0 connectTimeout unseen"))
    for index in 1...100 { #expect(pool.submit() == ["complete r\(index) connectTimeout unseen broken"]) }
    #expect(pool.counters.breakerRejections == 100 && pool.counters.breakersOpen == 1)
    #expect(pool.counters.retries == 0)
  }

  /// A dial of the breaker's own finds out that the server is back: no caller waits for it.
  @Test func itDialsItselfAndCloses() {
    let pool = script(1)
    pool.submit()
    #expect(pool.dialFailed("c0") == ["broke o0 after 1: connect", "complete r0 connect unseen"])
    #expect(pool.submit() == ["complete r1 connect unseen broken"])
    let lines = pool.run(.seconds(1)).map { $0.split(separator: " ", maxSplits: 2).last! }
    #expect(lines == ["dial c1"])
    #expect(pool.submit() == ["complete r2 connect unseen broken"])
    #expect(pool.dialed("c1") == ["mended o0"])
    #expect(pool.submit() == ["send r3 on c1"])
    #expect(pool.counters.breakersOpen == 0)
  }

  @Test func oneProbeAtATimeWithAPauseOfASecondAtMost() {
    let pool = script(1) { $0.retryBackoff = .seconds(100) }
    pool.submit()
    pool.dialFailed("c0")
    for index in 1...10 {
      pool.submit()
      let start = pool.now
      let lines = pool.run(.seconds(1))
      #expect(lines.count == 1 && lines[0].hasSuffix("dial c\(index)"))
      #expect(pool.now - start <= .seconds(1))
      #expect(pool.run(.seconds(2)) == [])
      #expect(pool.dialFailed("c\(index)") == [])
    }
  }

  @Test func itDialsForNobodyWhenTheCallersHaveGone() {
    let pool = script(1)
    pool.submit()
    pool.dialFailed("c0")
    var dials = 0
    for _ in 0..<200 where !pool.run(.seconds(1)).isEmpty {
      dials += 1
      pool.dialFailed("c\(dials)")
    }
    #expect((50...70).contains(dials), "\(dials)")
    // The next call is the probe.
    #expect(pool.submit() == ["dial c\(dials + 1)"])
    #expect(pool.submit() == ["complete r2 connect unseen broken"])
    #expect(pool.dialed("c\(dials + 1)") == ["mended o0", "send r1 on c\(dials + 1)"])
  }

  @Test func thoseThatWaitAreTold() {
    let pool = script(2) {
      $0.maxConnections = 1
      $0.retryBackoff = .seconds(1)
    }
    pool.submit()
    pool.submit(flags: .noRetry)
    pool.submit { $0.submittedAt = $0.submittedAt + -1_000 }
    #expect(pool.dialFailed("c0") == [])
    #expect(pool.counters.backingOff == 1)
    pool.run(.seconds(1))
    let told = pool.dialFailed("c1")
    #expect(told.first == "broke o0 after 2: connect")
    #expect(told.filter { $0.hasPrefix("complete") }.count == 3)
    #expect(pool.counters.failed == 3 && pool.counters.pending + pool.counters.backingOff == 0)
  }

  @Test func alsoThoseThatWaitForTheirBudget() {
    let pool = script(1)
    pool.budget { $0.maxConcurrent = 1 }
    pool.spend()
    pool.spend()
    #expect(
      pool.dialFailed("c0") == [
        "broke o0 after 1: connect", "complete r0 connect unseen", "complete r1 connect unseen broken",
      ])
  }

  @Test func oneRefusedDialAmongGoodOnesOpensNothing() {
    let pool = script(3)
    for index in 0..<10 {
      pool.submit(flags: .noRedial)
      pool.dialFailed("c\(3 * index)")
      pool.submit()
      pool.dialed("c\(3 * index + 1)")
      pool.answered("r\(3 * index + 1)", 200)
      pool.submit()
      // While something is open a dial that fails is no sign.
      for _ in 0..<2 { pool.dialFailed("c\(3 * index + 2)") }
      pool.finish("r\(3 * index + 1)", reusable: false)
      pool.cancel("r\(3 * index + 2)")
    }
    #expect(pool.counters.breakersOpen == 0)
  }

  /// Connections can be made, and bring no answer: one request finds out.
  @Test func whereDialsSucceedARequestIsTheProbe() {
    let pool = script(2)
    for index in 0..<2 {
      pool.submit()
      pool.dialed("c\(index)")
      pool.progress("r\(index)", .sent)
      let lines = pool.fail("r\(index)", .read)
      let ending = ["close c\(index) error", "complete r\(index) read"]
      #expect(lines == (index == 0 ? [] : ["broke o0 after 2: read"]) + ending)
    }
    #expect(pool.submit() == ["complete r2 read unseen broken"])
    #expect(pool.run(.seconds(2)) == [])
    #expect(pool.submit() == ["dial c2"])
    #expect(pool.submit() == ["complete r4 read unseen broken"])
    #expect(pool.dialed("c2") == ["send r3 on c2"])
    #expect(pool.submit() == ["complete r5 read unseen broken"])
    pool.progress("r3", .sent)
    #expect(pool.fail("r3", .read) == ["close c2 error", "complete r3 read"])
    #expect(pool.submit() == ["complete r6 read unseen broken"])
    pool.wait(.seconds(1))
    pool.submit()
    pool.dialed("c3")
    #expect(pool.answered("r7", 404) == ["mended o0", "deliver r7"])
    #expect(pool.submit() == ["dial c4"])
  }

  @Test func aProbeWithoutAVerdictLeavesTheNext() {
    let pool = script(1)
    pool.submit()
    pool.dialed("c0")
    pool.progress("r0", .sent)
    pool.fail("r0", .read)
    pool.wait(.seconds(1))
    #expect(pool.submit() == ["dial c1"])
    pool.cancel("r1")
    #expect(pool.submit() == [])
    #expect(pool.dialed("c1") == ["send r2 on c1"])
  }

  /// 50 on one connection, which is lost: one failure.
  @Test func aLostConnectionCountsOnce() {
    let pool = script(2, tls: true)
    pool.open(0, .http2)
    for index in 1...50 {
      pool.submit(flags: .noRetry)
      pool.progress("r\(index)", .sent)
    }
    pool.goAway("c0")
    for index in 1...50 { pool.fail("r\(index)", .read) }
    pool.lost("c0")
    #expect(pool.counters.breakersOpen == 0)
    #expect(pool.submit() == ["dial c1"])
    #expect(pool.dialFailed("c1").first == "broke o0 after 2: connect")
  }

  /// The server had closed it before the request came.
  @Test func aConnectionThatHadBeenClosedIsNoFailure() {
    let pool = script(1)
    pool.open()
    pool.submit(flags: .noRetry)
    #expect(pool.fail("r1", .read, unseen: true) == ["close c0 error", "complete r1 read unseen"])
    #expect(pool.counters.breakersOpen == 0)
  }

  @Test func onlyThePoolsTimeoutsCount() {
    let pool = script(1) { $0.timeouts.read = .seconds(60) }
    pool.open()
    pool.submit { $0.timeouts.read = .seconds(1) }
    pool.progress("r1", .sent)
    #expect(pool.wait(.seconds(1)).last == "complete r1 readTimeout")
    pool.submit { $0.timeouts.connect = .seconds(1) }
    #expect(pool.wait(.seconds(1)) == ["complete r2 connectTimeout unseen"])
    #expect(pool.counters.breakersOpen == 0)
    pool.dialed("c1")
    pool.submit()
    pool.progress("r3", .sent)
    #expect(pool.wait(.seconds(60)).contains("broke o0 after 1: readTimeout"))
  }

  /// After the head the server has answered.
  @Test func notWhatBreaksAfterTheHead() {
    let pool = script(1)
    pool.submit(flags: .streamed)
    pool.dialed("c0")
    pool.progress("r0", .sent, .received)
    pool.answered("r0", 200)
    #expect(pool.fail("r0", .read) == ["close c0 error", "complete r0 read"])
    #expect(pool.counters.breakersOpen == 0)
  }

  @Test func statusesCountWhereTheyAreListed() {
    let pool = script(2) { $0.breakerStatuses.insert(503) }
    pool.open()
    for (index, status) in [503, 500, 503, 200, 503].enumerated() {
      pool.submit()
      #expect(pool.answered("r\(index + 1)", status) == ["deliver r\(index + 1)"])
      pool.finish("r\(index + 1)")
    }
    pool.submit()
    #expect(pool.answered("r6", 503) == ["broke o0 after 2: 503", "deliver r6"])
  }

  @Test func anAnswerThatIsListedOpensAndIsDelivered() {
    let pool = script(1) { $0.breakerStatuses.insert(503) }
    pool.open()
    pool.submit(flags: .retryStatus)
    #expect(pool.answered("r1", 500) == ["discard r1"])
    pool.cancel("r1")
    pool.submit(flags: .retryStatus)
    pool.dialed("c1")
    // Not tried again by the pool.
    #expect(pool.answered("r2", 503) == ["broke o0 after 1: 503", "deliver r2"])
    #expect(pool.submit() == ["complete r3 refused unseen broken"])
    pool.finish("r2")
    pool.wait(.seconds(1))
    #expect(pool.submit() == ["send r4 on c1 reused"])
    #expect(pool.answered("r4", 200) == ["mended o0", "deliver r4"])
  }

  @Test func aNameThatDoesNotResolveIsOneFailure() {
    let pool = script(2, named: true)
    for _ in 0..<5 { pool.submit() }
    pool.resolveFailed(0)
    #expect(pool.counters.breakersOpen == 0)
    pool.wait(.seconds(2))
    pool.submit()
    #expect(pool.resolveFailed(0).first == "broke o0 after 2: resolve")
    #expect(pool.submit() == ["complete r6 resolve unseen broken"])
  }

  /// What was sent before it opened is not sent twice, and the second attempt's refusal is an answer as well.
  @Test func hedgesMindIt() {
    let pool = script(1, tls: true) { $0.breakerStatuses.insert(503) }
    pool.open(0, .http2)
    for _ in 0..<2 {
      pool.submit(flags: [.retrySent]) { $0.hedgeAfter = .seconds(1) }
    }
    pool.submit()
    #expect(pool.answered("r3", 503) == ["broke o0 after 1: 503", "deliver r3"])
    #expect(pool.run(.seconds(2)) == [])
    #expect(pool.submit() == ["send r4 on c0 reused"])
    #expect(pool.answered("r4", 429) == ["mended o0", "deliver r4"])
    #expect(pool.counters.hedges == 0)
  }

  // MARK: A pool that is full, and probes that wait

  /// The pool's own dials take no place from others: a call waits for one in turn.
  @Test func whereThereIsNoPlaceACallIsTheProbe() {
    let pool = Script(origins: 2) {
      $0.maxConnections = 1
      $0.breakerFailures = 1
    }
    pool.submit()
    pool.dialFailed("c0")
    pool.submit(1)
    pool.dialed("c1")
    pool.submit(1)
    #expect(pool.run(.seconds(1)) == [])
    #expect(pool.submit() == [])
    #expect(pool.submit() == ["complete r4 connect unseen broken"])
    pool.wait(.seconds(2))
    #expect(pool.finish("r1").contains("dial c2"))
    #expect(pool.dialed("c2") == ["send r3 on c2"])
    #expect(pool.counters.breakersOpen == 0)
  }

  @Test func aProbeWaitsNeitherForItsBudgetNorForWhoWrites() {
    let pool = script(1)
    pool.budget { $0.maxConcurrent = 1 }
    pool.submit()
    pool.dialed("c0")
    pool.spend()
    pool.dialed("c1")
    pool.progress("r0", .sent)
    pool.fail("r0", .read)
    pool.wait(.seconds(1))
    #expect(pool.spend() == ["complete r2 read unseen broken"])
    #expect(pool.submit(flags: .upload) == ["complete r3 read unseen broken"])
    #expect(pool.submit() == ["dial c2"])
  }

  /// It may be as patient as it likes, and the server be back for all others.
  @Test func aProbeThatTakesLongLeavesTheNext() {
    let pool = script(1) { $0.timeouts.read = .seconds(10) }
    pool.submit()
    pool.dialed("c0")
    pool.progress("r0", .sent)
    pool.fail("r0", .read)
    pool.wait(.seconds(1))
    pool.submit { $0.timeouts.read = .max }
    pool.dialed("c1")
    pool.progress("r1", .sent)
    pool.wait(.seconds(9))
    #expect(pool.submit() == ["complete r2 read unseen broken"])
    pool.wait(.seconds(1))
    #expect(pool.submit() == ["dial c2"])
    pool.dialed("c2")
    // The first answers after all.
    #expect(pool.answered("r1", 200) == ["mended o0", "deliver r1"])
  }

  // MARK: What says nothing about the server

  @Test func notAConnectionThatHadCarriedOthers() {
    let pool = script(1)
    pool.open()
    pool.submit()
    pool.progress("r1", .sent)
    pool.fail("r1", .read)
    #expect(pool.counters.breakersOpen == 0)
  }

  @Test func whatIsLostTogetherCountsOnce() {
    let pool = script(2)
    for _ in 0..<5 { pool.submit() }
    for index in 0..<5 {
      pool.dialed("c\(index)")
      pool.progress("r\(index)", .sent)
    }
    for index in 0..<5 { pool.fail("r\(index)", .read) }
    #expect(pool.counters.breakersOpen == 0)
    pool.submit()
    pool.dialed("c5")
    pool.progress("r5", .sent)
    pool.fail("r5", .read)
    #expect(pool.counters.breakersOpen == 1)
  }

  @Test func notAStreamThatTheServerHasReset() {
    let pool = script(1, tls: true)
    pool.open(0, .http2)
    pool.submit()
    pool.progress("r1", .sent)
    #expect(pool.fail("r1", .read) == ["complete r1 read"])
    #expect(pool.counters.breakersOpen == 0)
  }

  @Test func notATimeoutWhileOthersHear() {
    let pool = script(1) { $0.timeouts.read = .seconds(10) }
    for index in 0..<2 {
      pool.submit(flags: .streamed)
      pool.dialed("c\(index)")
      pool.progress("r\(index)", .sent)
    }
    pool.progress("r0", .received)
    pool.answered("r0", 200)
    pool.wait(.seconds(9))
    pool.progress("r0", .received)
    #expect(pool.wait(.seconds(1)).contains("complete r1 readTimeout"))
    #expect(pool.counters.breakersOpen == 0)
  }

  @Test func ofItsTotalTimeTheServerMustHaveHadHalf() {
    let pool = script(1) {
      $0.maxConnections = 1
      $0.timeouts.total = .seconds(9)
    }
    pool.submit()
    pool.dialed("c0")
    pool.progress("r0", .sent)
    pool.wait(.seconds(3))
    pool.submit { $0.timeouts.total = .max }
    pool.submit()
    pool.wait(.seconds(3))
    pool.cancel("r0")
    pool.dialed("c1")
    pool.answered("r1", 200)
    pool.progress("r1", .received)
    pool.wait(.seconds(5))
    pool.finish("r1")
    pool.progress("r2", .sent)
    #expect(pool.wait(.seconds(1)).contains("complete r2 totalTimeout"))
    #expect(pool.counters.breakersOpen == 0)
  }

  /// What nobody has acted on is not announced to be sent again.
  @Test func noResendWhileItIsOpen() {
    let pool = script(1, tls: true)
    pool.watch([.retry])
    pool.open(0, .http2)
    for index in 1...2 {
      pool.submit()
      pool.progress("r\(index)", .sent)
    }
    pool.goAway("c0")
    #expect(pool.fail("r1", .read) == ["complete r1 read"])
    #expect(pool.fail("r2", .refused, unseen: true).contains("complete r2 read unseen broken"))
    #expect(pool.counters.retries == 0)
  }

  @Test func otherOptionsBeginAnew() {
    let pool = script(1)
    pool.submit()
    pool.dialFailed("c0")
    #expect(pool.configure { $0.breakerFailures = 5 } == ["reset o0"])
    #expect(pool.submit() == ["dial c1"])
    pool.dialFailed("c1")
    #expect(pool.counters.breakersOpen == 0)
    #expect(pool.configure { $0.breakerFailures = 0 } == [])
  }
}
