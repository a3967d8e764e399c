import Testing

@testable import LLMPoolCore

@Suite struct ColdBurst {
  @Test func unknownVersionDialsOnceAndSharesHTTP2() {
    let pool = Script(tls: true)
    #expect(pool.submit() == ["dial c0"])
    for _ in 1..<100 { #expect(pool.submit() == []) }
    let sent = pool.dialed("c0", .http2)
    #expect(sent.count == 100)
    #expect(sent.first == "send r0 on c0")
    #expect(sent.last == "send r99 on c0 reused")
    #expect(pool.counters.opened == 1)
  }

  @Test func unknownVersionThatTurnsOutHTTP1DialsOnToTheLimits() {
    let pool = Script(tls: true) { $0.maxConnections = 4 }
    for _ in 0..<10 { pool.submit() }
    #expect(pool.dialed("c0", .http1) == ["send r0 on c0", "dial c1", "dial c2", "dial c3"])
    #expect(pool.counters.connections == 4)
  }

  @Test func knownHTTP1DialsForEach() {
    let pool = Script()
    #expect(pool.submit() == ["dial c0"])
    #expect(pool.submit() == ["dial c1"])
  }

  @Test func theVersionIsRemembered() {
    let pool = Script(tls: true)
    pool.open(0, .http1)
    pool.lost("c0")
    #expect(pool.submit() == ["dial c1"])
    #expect(pool.submit() == ["dial c2"])
  }

  @Test func aKnownHTTP2OriginDialsAsManyAsItsStreamsNeed() {
    let pool = Script(tls: true) { $0.maxStreamsPerConnection = 10 }
    pool.open(0, .http2)
    pool.settings("c0", 2)
    pool.lost("c0")
    #expect(pool.submit() == ["dial c1"])
    #expect(pool.submit() == [])
    #expect(pool.submit() == ["dial c2"])
    #expect(pool.dialed("c1", .http2) == ["send r1 on c1", "send r2 on c1 reused"])
  }

  @Test func optionsThatLeaveNoChoiceNeedNoProbe() {
    let one = Script(tls: true) { $0.httpVersions = .http1 }
    #expect(one.submit() + one.submit() == ["dial c0", "dial c1"])
    let two = Script { $0.httpVersions = .http2 }
    #expect(two.submit() + two.submit() == ["dial c0"])
  }
}

@Suite struct Limits {
  @Test func total() {
    let pool = Script(origins: 2) { $0.maxConnections = 2 }
    #expect(pool.submit(0) == ["dial c0"])
    #expect(pool.submit(1) == ["dial c1 o1"])
    #expect(pool.submit(0) == [])
    pool.dialed("c0")
    #expect(pool.finish("r0") == ["complete r0 ok", "send r2 on c0 reused"])
  }

  @Test func perOrigin() {
    let pool = Script { $0.maxConnectionsPerOrigin = 2 }
    #expect(pool.submit() + pool.submit() + pool.submit() == ["dial c0", "dial c1"])
    pool.dialed("c0")
    #expect(pool.finish("r0", reusable: false) == ["close c0 notReusable", "complete r0 ok", "dial c2"])
  }

  @Test func keepaliveClosesTheLeastRecentlyUsed() {
    let pool = Script(origins: 3) { $0.maxKeepaliveConnections = 2 }
    for origin in 0..<3 { pool.submit(origin) }
    for name in ["c0", "c1", "c2"] { pool.dialed(name) }
    pool.finish("r1")
    pool.finish("r0")
    #expect(pool.finish("r2") == ["complete r2 ok", "close c1 keepaliveLimit"])
  }

  @Test func keepaliveOfZeroKeepsNone() {
    let pool = Script { $0.maxKeepaliveConnections = 0 }
    pool.submit()
    pool.dialed("c0")
    #expect(pool.finish("r0") == ["complete r0 ok", "close c0 keepaliveLimit"])
  }

  @Test func pendingRequests() {
    let pool = Script {
      $0.maxConnections = 1
      $0.maxPendingRequests = 2
    }
    pool.submit()
    pool.dialed("c0")
    #expect(pool.submit() + pool.submit() == [])
    #expect(pool.submit() == ["complete r3 queueFull unseen"])
    pool.finish("r0")
    #expect(pool.submit() == [])
  }

  @Test func streams() {
    let pool = Script(tls: true) {
      $0.maxStreamsPerConnection = 2
      $0.maxConnections = 2
    }
    for _ in 0..<5 { pool.submit() }
    #expect(pool.dialed("c0", .http2) == ["send r0 on c0", "send r1 on c0 reused", "dial c1"])
    #expect(pool.dialed("c1", .http2) == ["send r2 on c1", "send r3 on c1 reused"])
    #expect(pool.finish("r0") == ["complete r0 ok", "send r4 on c0 reused"])
  }

  @Test func settingsLowerAndRaise() {
    let pool = Script(tls: true) { $0.maxConnections = 1 }
    for _ in 0..<4 { pool.submit() }
    pool.dialed("c0", .http2)
    #expect(pool.settings("c0", 2) == [])
    #expect(pool.submit() == [])
    #expect(pool.finish("r0") + pool.finish("r1") == ["complete r0 ok", "complete r1 ok"])
    #expect(pool.finish("r2") == ["complete r2 ok", "send r4 on c0 reused"])
    #expect(pool.submit() == [])
    #expect(pool.settings("c0", 10) == ["send r5 on c0 reused"])
  }

  @Test func ourOwnLimitHoldsAboveTheServers() {
    let pool = Script(tls: true) {
      $0.maxStreamsPerConnection = 1
      $0.maxConnections = 1
    }
    pool.open(0, .http2)
    pool.settings("c0", 1000)
    #expect(pool.submit() + pool.submit() == ["send r1 on c0 reused"])
  }

  /// Reconfiguring took the limit of the origin's last SETTINGS for that of each of its connections.
  @Test func reconfigureKeepsEachConnectionsOwnStreamLimit() {
    let pool = Script(tls: true) {
      $0.maxConnections = 2
      $0.maxStreamsPerConnection = 1
    }
    pool.submit()
    pool.dialed("c0", .http2)
    pool.settings("c0", 2)
    pool.submit()
    pool.dialed("c1", .http2)
    pool.settings("c1", 50)
    pool.goAway("c1")
    #expect(pool.configure { $0.maxStreamsPerConnection = 10 } == [])
    #expect(pool.submit() == ["send r2 on c0 reused"])
    #expect(pool.submit() == [])
  }

  /// A server that allows no stream made the pool dial as fast as the server took it.
  @Test func aServerThatAllowsNothingIsDialledOnceASecond() {
    let pool = Script(tls: true)
    pool.submit()
    #expect(pool.dialed("c0", .http2) == ["send r0 on c0"])
    pool.settings("c0", 0)
    #expect(pool.fail("r0", .refused, unseen: true) == [])
    #expect(pool.run(.milliseconds(999)) == [])
    #expect(pool.run(.milliseconds(1)) == ["1 ms: dial c1"])
    #expect(pool.dialed("c1", .http2) == ["send r0 on c1"])
    pool.settings("c1", 0)
    #expect(pool.settings("c0", 1) == [])
  }

  @Test func aLimitThatIsLoweredIsReachedByAttrition() {
    let pool = Script { $0.maxConnections = 3 }
    for _ in 0..<3 { pool.submit() }
    for name in ["c0", "c1", "c2"] { pool.dialed(name) }
    pool.finish("r0")
    #expect(pool.configure { $0.maxConnections = 1 } == ["close c0 evicted"])
    #expect(pool.submit() == [])
    #expect(pool.finish("r1", reusable: false) == ["close c1 notReusable", "complete r1 ok"])
    #expect(pool.finish("r2", reusable: false) == ["close c2 notReusable", "complete r2 ok", "dial c3"])
  }

  /// A connection without room may be idle: evicted for another origin, it left its own at fewer than it may hold,
  /// and nobody dialled for those who waited there.
  @Test func whoLosesAConnectionToAnotherMayDial() {
    let pool = Script(tls: true) {
      $0.maxConnectionsPerOrigin = 1
      $0.maxConnections = 2
      $0.maxRetries = 9
    }
    pool.add(1)
    pool.add(2)
    pool.submit(0)
    pool.dialed("c0", .http2)
    pool.settings("c0", 0)
    pool.fail("r0", .refused, unseen: true)
    pool.run(.seconds(1))
    #expect(pool.submit(1) == ["dial c1 o1"])
    #expect(pool.submit(2) == ["close c0 evicted", "dial c2 o2"])
    pool.dialed("c1")
    #expect(pool.finish("r1", reusable: false) == ["close c1 notReusable", "complete r1 ok", "dial c3"])
  }

  /// An evicted connection made place for a dial although there were still too many.
  @Test func aLoweredLimitIsReachedWhileOthersWait() {
    let pool = Script(origins: 2) { $0.maxConnections = 3 }
    for _ in 0..<3 { pool.submit(0) }
    for name in ["c0", "c1", "c2"] { pool.dialed(name) }
    pool.configure { $0.maxConnections = 1 }
    pool.submit(1)
    #expect(pool.finish("r0") == ["complete r0 ok", "close c0 evicted"])
    #expect(pool.finish("r1") == ["complete r1 ok", "close c1 evicted"])
    #expect(pool.finish("r2") == ["complete r2 ok", "close c2 evicted", "dial c3 o1"])
  }

  @Test func aLimitThatIsRaisedServesAtOnce() {
    let pool = Script(origins: 2) {
      $0.maxConnections = 1
      $0.maxConnectionsPerOrigin = 1
    }
    pool.submit(0)
    pool.submit(1)
    pool.submit(0)
    #expect(pool.configure { $0.maxConnections = 3 } == ["dial c1 o1"])
    #expect(pool.configure { $0.maxConnectionsPerOrigin = 2 } == ["dial c2"])
  }
}

@Suite struct Choice {
  @Test func theMostRecentlyUsedIsReused() {
    let pool = Script()
    for _ in 0..<3 { pool.submit() }
    for name in ["c0", "c1", "c2"] { pool.dialed(name) }
    pool.finish("r1")
    pool.finish("r2")
    pool.finish("r0")
    #expect(pool.submit() + pool.submit() == ["send r3 on c0 reused", "send r4 on c2 reused"])
  }

  @Test func theLeastRecentlyUsedIsEvictedForAnother() {
    let pool = Script(origins: 3) { $0.maxConnections = 2 }
    pool.open(0)
    pool.wait(1)
    pool.open(1)
    #expect(pool.submit(2) == ["close c0 evicted", "dial c2 o2"])
  }

  @Test func theFullestHTTP2ConnectionWithRoomIsChosen() {
    let pool = Script(tls: true) { $0.maxStreamsPerConnection = 3 }
    for _ in 0..<6 { pool.submit() }
    pool.dialed("c0", .http2)
    pool.dialed("c1", .http2)
    pool.finish("r0")
    pool.finish("r3")
    pool.finish("r4")
    // c0 carries two of three, c1 one.
    #expect(pool.submit() == ["send r6 on c0 reused"])
    #expect(pool.submit() == ["send r7 on c1 reused"])
  }

  @Test func firstComeFirstServed() {
    let pool = Script { $0.maxConnections = 1 }
    for _ in 0..<4 { pool.submit() }
    pool.dialed("c0")
    for index in 0..<3 { #expect(pool.finish("r\(index)").last == "send r\(index + 1) on c0 reused") }
  }

  @Test func higherPriorityFirst() {
    let pool = Script { $0.maxConnections = 1 }
    pool.submit()
    pool.dialed("c0")
    for priority: Int32 in [0, -1, 5, 5, .max, .min] { pool.submit(priority: priority) }
    var order: [String] = []
    for _ in 0..<6 {
      let current = order.last ?? "r0"
      order.append(String(pool.finish(current).last!.split(separator: " ")[1]))
    }
    #expect(order == ["r5", "r3", "r4", "r1", "r2", "r6"])
  }

  @Test func whoHasWaitedForHalfOfItsTimeComesFirst() {
    let pool = Script { $0.maxConnections = 1 }
    pool.submit()
    pool.dialed("c0")
    pool.submit(priority: -100)
    pool.run(.milliseconds(4_999))
    pool.submit(priority: 100)
    pool.run(.milliseconds(1))
    #expect(pool.finish("r0").last == "send r1 on c0 reused")
  }

  @Test func beforeHalfOfItsTimeItDoesNot() {
    let pool = Script { $0.maxConnections = 1 }
    pool.submit()
    pool.dialed("c0")
    pool.submit(priority: -100)
    pool.run(.milliseconds(4_999))
    pool.submit(priority: 100)
    #expect(pool.finish("r0").last == "send r2 on c0 reused")
  }

  /// The time on a connection counted as waiting, so that whatever was retried came before every priority.
  @Test func onlyWaitingAges() {
    let pool = Script {
      $0.maxConnections = 1
      $0.maxRetries = 5
    }
    pool.submit(priority: -1)
    pool.dialed("c0")
    pool.progress("r0", .sent)
    pool.run(.seconds(8))
    pool.submit(priority: 1)
    #expect(pool.fail("r0", .refused, unseen: true) == ["close c0 error", "dial c1"])
    #expect(pool.dialed("c1") == ["send r1 on c1"])
  }

  @Test func aRequestSentAgainKeepsItsPlace() {
    let pool = Script(tls: true) {
      $0.maxConnections = 1
      $0.maxStreamsPerConnection = 2
    }
    for _ in 0..<4 { pool.submit() }
    pool.dialed("c0", .http2)
    pool.settings("c0", 2)
    #expect(pool.fail("r0", .refused, unseen: true) == ["send r0 on c0 reused"])
  }
}

@Suite struct AcrossOrigins {
  @Test func originsTakeTurnsAtTheLimit() {
    let pool = Script(origins: 3) { $0.maxConnections = 3 }
    for _ in 0..<3 { pool.submit(0) }
    for name in ["c0", "c1", "c2"] { pool.dialed(name) }
    for _ in 0..<2 {
      pool.submit(1)
      pool.submit(2)
    }
    #expect(pool.finish("r0", reusable: false).last == "dial c3 o1")
    #expect(pool.finish("r1", reusable: false).last == "dial c4 o2")
    #expect(pool.finish("r2", reusable: false).last == "dial c5 o1")
  }

  @Test func anOriginWithoutConnectionComesBeforeOneThatWantsMore() {
    let pool = Script(origins: 2) { $0.maxConnections = 2 }
    for _ in 0..<4 { pool.submit(0) }
    pool.dialed("c0")
    pool.dialed("c1")
    pool.submit(1)
    #expect(pool.finish("r0", reusable: false) == ["close c0 notReusable", "complete r0 ok", "dial c2 o1"])
  }

  @Test func theRichestGivesOneUpAfterASecond() {
    let pool = Script(origins: 2) { $0.maxConnections = 2 }
    for _ in 0..<6 { pool.submit(0) }
    pool.dialed("c0")
    pool.dialed("c1")
    pool.submit(1)
    pool.run(.milliseconds(999))
    #expect(pool.finish("r0") == ["complete r0 ok", "send r2 on c0 reused"])
    pool.run(.milliseconds(1))
    #expect(pool.finish("r1") == ["close c1 retired", "complete r1 ok", "dial c2 o1"])
    // One is enough.
    #expect(pool.finish("r2") == ["complete r2 ok", "send r3 on c0 reused"])
  }

  @Test func theRichestRetiresAnHTTP2Connection() {
    let pool = Script(origins: 1, tls: true) {
      $0.maxConnections = 2
      $0.maxStreamsPerConnection = 2
    }
    pool.add(1)
    for _ in 0..<8 { pool.submit(0) }
    pool.dialed("c0", .http2)
    pool.dialed("c1", .http2)
    pool.submit(1)
    #expect(pool.run(.milliseconds(1_000)) == [])
    #expect(pool.finish("r0") == ["complete r0 ok"])
    #expect(pool.finish("r1") == ["close c0 retired", "complete r1 ok", "dial c2 o1"])
    // Not one more with each second that passes.
    #expect(pool.finish("r2").last == "send r4 on c1 reused")
  }

  /// Retired one connection a second for as long as the first took to become empty.
  @Test func oneConnectionIsRetiredForOneOrigin() {
    let pool = Script(origins: 1, tls: true) {
      $0.maxConnections = 2
      $0.maxStreamsPerConnection = 2
    }
    pool.add(1)
    for _ in 0..<6 { pool.submit(0) }
    pool.dialed("c0", .http2)
    pool.dialed("c1", .http2)
    pool.submit(1) { $0.timeouts.pool = .seconds(60) }
    pool.run(.seconds(5))
    #expect(pool.finish("r2").last == "send r4 on c1 reused")
  }

  /// An origin whose last waiter was cancelled went on waiting: others lost connections for it, and it was forgotten
  /// while it stood in the list.
  @Test func whoGivesUpWaitsForNoPlace() {
    let pool = Script(origins: 2) { $0.maxConnections = 1 }
    pool.submit(0)
    pool.dialed("c0")
    pool.submit(0)
    pool.submit(1)
    pool.cancel("r2")
    pool.run(.seconds(2))
    #expect(pool.finish("r0") == ["complete r0 ok", "send r1 on c0 reused"])
    #expect(pool.finish("r1") == ["complete r1 ok"])
    pool.run(.seconds(700))
  }

  @Test func anIdleConnectionIsGivenUpAtOnce() {
    let pool = Script(origins: 2) { $0.maxConnections = 1 }
    pool.submit(0)
    pool.submit(1)
    pool.dialed("c0")
    #expect(pool.finish("r0") == ["complete r0 ok", "close c0 evicted", "dial c1 o1"])
  }

  @Test func aFailedDialGivesItsPlaceOn() {
    let pool = Script(origins: 2) { $0.maxConnections = 1 }
    pool.submit(0, flags: .noRetry)
    pool.submit(1)
    #expect(pool.dialFailed("c0") == ["complete r0 connect unseen", "dial c1 o1"])
  }

  @Test func aConnectTimeoutGivesItsPlaceOn() {
    let pool = Script(origins: 2) { $0.maxConnections = 1 }
    pool.submit(0)
    pool.submit(1)
    #expect(
      pool.run(.seconds(5)) == [
        "5000 ms: close c0 connectTimeout", "5000 ms: complete r0 connectTimeout unseen", "5000 ms: dial c1 o1",
      ])
  }

  @Test func anExpiredConnectionGivesItsPlaceOn() {
    let pool = Script(origins: 2) { $0.maxConnections = 1 }
    pool.open(0)
    #expect(pool.submit(1) == ["close c0 evicted", "dial c1 o1"])
  }
}
