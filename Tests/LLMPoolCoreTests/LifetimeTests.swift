import Testing

@testable import LLMPoolCore

@Suite struct Warm {
  @Test func opensAheadOfNeed() {
    let pool = Script()
    let warm = Event.warm(OriginID(slot: 0), connections: 2)
    #expect(pool.handle(warm) == ["dial c0", "dial c1"])
    #expect(pool.handle(warm) == [])
    pool.dialed("c0")
    #expect(pool.submit() == ["send r0 on c0"])
  }

  @Test func withinTheLimits() {
    let pool = Script(origins: 2) {
      $0.maxConnections = 5
      $0.maxConnectionsPerOrigin = 3
      $0.maxKeepaliveConnections = 100
    }
    #expect(pool.handle(.warm(OriginID(slot: 0), connections: 10)).count == 3)
    #expect(pool.handle(.warm(OriginID(slot: 1), connections: 10)).count == 2)
    let few = Script { $0.maxKeepaliveConnections = 2 }
    #expect(few.handle(.warm(OriginID(slot: 0), connections: 10)).count == 2)
  }

  @Test func oneWhereItMayCarryAll() {
    let pool = Script(tls: true)
    #expect(pool.handle(.warm(OriginID(slot: 0), connections: 3)) == ["dial c0"])
    #expect(pool.dialed("c0", .http2) == [])
  }

  /// Only one was opened where the first turned out to speak h1.
  @Test func theRestOnceItIsKnownThatOneDoesNot() {
    let pool = Script(tls: true)
    pool.handle(.warm(OriginID(slot: 0), connections: 3))
    #expect(pool.dialed("c0", .http1) == ["dial c1", "dial c2"])
  }
}

@Suite struct Configure {
  @Test func noRequestRidesAnOldConnection() {
    let pool = Script(tls: true)
    pool.submit()
    pool.dialed("c0", .http2)
    #expect(pool.configure(identity: true) { _ in } == [])
    #expect(pool.submit() == ["dial c1"])
    #expect(pool.finish("r0") == ["close c0 reconfigured", "complete r0 ok"])
  }

  @Test func idleAndDialledConnectionsGoAtOnce() {
    let pool = Script(origins: 2)
    pool.open(0)
    pool.submit(1)
    #expect(
      pool.configure(identity: true) { _ in } == ["close c0 reconfigured", "close c1 reconfigured", "dial c2 o1"])
    #expect(pool.dialed("c1") == [])
    #expect(pool.dialed("c2") == ["send r1 on c2"])
  }

  @Test func otherVersionsAreAnotherIdentity() {
    let pool = Script(tls: true)
    pool.open(0, .http2)
    #expect(pool.configure { $0.httpVersions = .http1 } == ["close c0 reconfigured"])
    #expect(pool.submit() + pool.submit() == ["dial c1", "dial c2"])
  }

  @Test func theRestKeepsItsConnections() {
    let pool = Script()
    pool.open()
    #expect(pool.configure { $0.timeouts.read = .seconds(1) } == [])
    #expect(pool.submit() == ["send r1 on c0 reused"])
    pool.progress("r1", .sent)
    #expect(pool.run(.seconds(1)).last == "1000 ms: complete r1 readTimeout")
  }

  @Test func keepaliveIsTrimmed() {
    let pool = Script(origins: 3)
    for origin in 0..<3 {
      pool.wait(1)
      pool.open(origin)
    }
    #expect(
      pool.configure { $0.maxKeepaliveConnections = 1 } == ["close c0 keepaliveLimit", "close c1 keepaliveLimit"])
  }

  @Test func fewerStreams() {
    let pool = Script(tls: true)
    pool.submit()
    pool.dialed("c0", .http2)
    pool.configure { $0.maxStreamsPerConnection = 1 }
    #expect(pool.submit() == ["dial c1"])
    #expect(pool.configure { $0.maxStreamsPerConnection = 2 } == ["send r1 on c0 reused"])
  }
}

@Suite struct Notices {
  @Test func utilisationWithHysteresis() {
    let pool = Script { $0.maxConnections = 10 }
    pool.watch([.utilizationHigh, .utilizationNormal])
    for index in 0..<8 { #expect(pool.submit() == ["dial c\(index)"]) }
    pool.run(.milliseconds(5))
    #expect(pool.submit() == ["dial c8", "high 9/10, 9 waiting, 5 ms"])
    #expect(pool.submit() == ["dial c9"])
    for index in 0..<10 { pool.dialed("c\(index)") }
    #expect(pool.finish("r0").last == "complete r0 ok")
    #expect(pool.finish("r1").last == "complete r1 ok")
    #expect(pool.finish("r2").last == "normal 7/10")
    #expect(pool.finish("r3").last == "complete r3 ok")
  }

  @Test func theLastNoticeComesBeforeTheEnd() {
    let pool = Script { $0.maxConnections = 1 }
    pool.watch([.utilizationHigh, .utilizationNormal])
    #expect(pool.handle(.warm(OriginID(slot: 0), connections: 1)) == ["dial c0", "high 1/1, 0 waiting, 0 ms"])
    #expect(pool.close(within: .seconds(1)) == ["close c0 poolClosed", "normal 0/1", "stopped"])
    #expect(pool.submit() == ["complete r0 closed unseen"])
  }

  @Test func noneWithoutALimitOrALevel() {
    for change: (inout PoolOptions) -> Void in [{ $0.maxConnections = .max }, { $0.utilizationWarning = 0 }] {
      let pool = Script(change)
      pool.watch([.utilizationHigh, .utilizationNormal])
      for _ in 0..<100 { #expect(pool.submit().count <= 1) }
    }
  }

  @Test func openedAndClosedWithTheReason() {
    let pool = Script()
    pool.watch([.connectionOpened, .connectionClosed])
    pool.submit()
    #expect(pool.dialed("c0") == ["send r0 on c0", "opened c0"].reversed())
    pool.finish("r0")
    #expect(pool.run(.seconds(30)) == ["30000 ms: close c0 expired", "30000 ms: closed c0 expired"])
    // A dial that failed was never open.
    pool.submit(flags: .noRetry)
    #expect(pool.dialFailed("c1") == ["complete r1 connect unseen"])
  }

  @Test func aRetiredConnectionSaysWhy() {
    let pool = Script(tls: true)
    pool.watch(.connectionClosed)
    pool.submit()
    pool.dialed("c0", .http2)
    pool.goAway("c0")
    #expect(pool.finish("r0") == ["close c0 goAway", "closed c0 goAway", "complete r0 ok"])
  }

  @Test func onlyWhatIsWatched() {
    let pool = Script { $0.maxConnections = 1 }
    pool.submit()
    #expect(pool.dialed("c0") == ["send r0 on c0"])
  }
}

@Suite struct Closing {
  @Test func anEmptyPoolStopsAtOnce() {
    let pool = Script()
    #expect(pool.close(within: .seconds(5)) == ["stopped"])
    #expect(pool.nextDeadline == nil)
  }

  @Test func idleConnectionsGoAtOnceAndRequestsMayEnd() {
    let pool = Script(origins: 2) { $0.maxConnections = 2 }
    pool.submit(0)
    pool.open(1)
    pool.submit(0)
    pool.submit(0)
    pool.dialed("c0")
    #expect(pool.close(within: .seconds(5)) == [])
    #expect(pool.submit() == ["complete r4 closed unseen"])
    #expect(pool.finish("r0").last == "send r2 on c0 reused")
  }

  @Test func theLastRequestEndsIt() {
    let pool = Script()
    pool.submit()
    pool.dialed("c0")
    pool.close(within: .seconds(5))
    #expect(pool.finish("r0") == ["complete r0 ok", "close c0 keepaliveLimit", "stopped"])
  }

  @Test func theDeadlineEndsTheRest() {
    let pool = Script {
      $0.maxConnections = 2
      $0.retryBackoff = .seconds(50)
      $0.retryBackoffMax = .seconds(50)
    }
    pool.submit()
    pool.submit()
    pool.dialed("c0")
    pool.submit()
    pool.close(within: .seconds(1))
    #expect(
      pool.run(.seconds(2)) == [
        "1000 ms: abort r0 on c0", "1000 ms: close c0 poolClosed", "1000 ms: close c1 poolClosed",
        "1000 ms: complete r0 closed", "1000 ms: complete r1 closed unseen", "1000 ms: complete r2 closed unseen",
        "1000 ms: stopped",
      ])
    #expect(pool.counters.failed == 3)
  }

  @Test func atOnce() {
    let pool = Script()
    pool.submit()
    #expect(pool.close(within: 0) == ["close c0 poolClosed", "complete r0 closed unseen", "stopped"])
  }

  @Test func aBackoffEndsWithinTheDeadline() {
    let pool = Script {
      $0.retryBackoff = .seconds(3)
      $0.retryBackoffMax = .seconds(3)
    }
    pool.submit()
    pool.dialFailed("c0")
    pool.close(within: .seconds(10))
    #expect(pool.run(.seconds(4)).count == 1)
    pool.dialed("c1")
    #expect(pool.finish("r0").last == "stopped")
  }

  @Test func nothingIsRetriedAnyMore() {
    let pool = Script()
    pool.submit(flags: [.retrySent, .retryStatus])
    pool.dialed("c0")
    pool.close(within: .seconds(5))
    #expect(pool.answered("r0", 503) == ["deliver r0"])
    #expect(pool.fail("r0", .read) == ["close c0 error", "complete r0 read", "stopped"])
  }

  @Test func theEarlierDeadlineHolds() {
    let pool = Script()
    pool.submit()
    pool.close(within: .seconds(4))
    pool.close(within: .seconds(1))
    pool.close(within: .seconds(9))
    #expect(pool.run(.seconds(2)).last == "1000 ms: stopped")
  }

  @Test func afterTheEndNothingFollows() {
    let pool = Script()
    pool.submit()
    pool.dialed("c0")
    let id = pool.connection("c0")
    pool.close(within: 0)
    #expect(pool.lost("c0") + pool.finish("r0") + pool.cancel("r0") == [])
    #expect(pool.handle(.settings(id, maxStreams: 1)) == [])
    #expect(pool.handle(.warm(OriginID(slot: 0), connections: 1)) == [])
    #expect(pool.run(.seconds(1000)) == [])
    #expect(pool.submit() == ["complete r1 closed unseen"])
  }

  @Test func reconfiguringDoesNotBringItBack() {
    let pool = Script()
    pool.submit()
    pool.dialed("c0")
    pool.close(within: .seconds(5))
    pool.configure { $0.maxKeepaliveConnections = 7 }
    #expect(pool.finish("r0").contains("close c0 keepaliveLimit"))
  }
}

@Suite struct Structure {
  /// An event or an action must not cost a reference count.
  @Test func eventsAndActionsAreTrivial() {
    #expect(_isPOD(Event.self))
    #expect(_isPOD(Action.self))
  }

  @Test func countersPerOrigin() {
    let pool = Script(origins: 2)
    pool.open(0)
    pool.submit(1)
    #expect(pool.pool.counters(of: OriginID(slot: 0))?.idle == 1)
    #expect(pool.pool.counters(of: OriginID(slot: 1))?.pending == 1)
    #expect(pool.pool.counters(of: OriginID(slot: 9)) == nil)
  }

  @Test func theHeapIsOneUnderRandomUse() {
    var random = RandomSource(seed: 7)
    var heap = IndexedHeap()
    var positions = IndexedHeap.Positions(repeating: IndexedHeap.absent, count: 200)
    var keys: [Int32: Int64] = [:]
    for step in 0..<20_000 {
      let slot = Int32.random(in: 0..<200, using: &random)
      let major = Int64.random(in: 0..<1_000, using: &random)
      let key = IndexedHeap.Key(major: major, minor: UInt64(slot))
      if keys[slot] == nil {
        heap.insert(slot, key, &positions)
        keys[slot] = major
      } else if step % 3 == 0 {
        heap.remove(slot, &positions)
        keys[slot] = nil
      } else {
        heap.update(slot, key, &positions)
        keys[slot] = major
      }
      #expect(heap.count == keys.count)
      #expect(heap.first?.key.major == keys.values.min())
    }
  }

  @Test func instantsSaturate() {
    #expect(Instant(nanoseconds: 5) + .max == .never)
    #expect(Instant.never + 1 == .never)
    #expect(Instant(nanoseconds: 7) - Instant(nanoseconds: 2) == 5)
  }

  /// Twenty thousand waiting requests: each step stays cheap, also where many are cancelled from the middle.
  @Test func manyWaiters() {
    var options = PoolOptions()
    options.maxConnections = 1
    options.maxPendingRequests = .max
    var pool = PoolStateMachine(options: options, seed: 1)
    var actions: [Action] = []
    var now = Instant(nanoseconds: 0)
    pool.handle(.originAdded(OriginID(slot: 0), nil, isTLS: false), now: now, into: &actions)
    for slot in 0..<20_000 {
      now = now + 1
      let id = RequestID(serial: 1, slot: slot)
      pool.handle(.submitted(id, OriginID(slot: 0), RequestOptions(submittedAt: now)), now: now, into: &actions)
    }
    for slot in stride(from: 0, to: 20_000, by: 2) {
      pool.handle(.cancelled(RequestID(serial: 1, slot: slot)), now: now, into: &actions)
    }
    #expect(pool.counters.pending == 10_000)
    #expect(pool.requestTimers.count == 10_000)
    #expect(pool.checkInvariants() == nil)
  }
}
