import Testing

@testable import LLMPoolCore

@Suite struct Timeouts {
  @Test func pool() {
    let pool = Script { $0.maxConnections = 1 }
    pool.submit()
    pool.dialed("c0")
    pool.progress("r0", .sent)
    pool.submit()
    #expect(pool.run(.seconds(10)) == ["10000 ms: complete r1 poolTimeout unseen"])
  }

  @Test func poolCountsFromSubmission() {
    let pool = Script { $0.maxConnections = 1 }
    pool.submit()
    pool.dialed("c0")
    pool.progress("r0", .sent)
    pool.wait(.seconds(3))
    let early = pool.now
    pool.wait(.seconds(2))
    pool.submit { $0.submittedAt = early }
    #expect(pool.run(.seconds(10)) == ["8000 ms: complete r1 poolTimeout unseen"])
  }

  @Test func connect() {
    let pool = Script()
    pool.submit()
    #expect(
      pool.run(.seconds(6)) == ["5000 ms: close c0 connectTimeout", "5000 ms: complete r0 connectTimeout unseen"])
  }

  @Test func connectOfTheRequest() {
    let pool = Script()
    pool.submit { $0.timeouts.connect = .seconds(1) }
    // The dial goes on: another may want it.
    #expect(pool.run(.seconds(2)) == ["1000 ms: complete r0 connectTimeout unseen"])
    #expect(pool.submit() == [])
    #expect(pool.dialed("c0") == ["send r1 on c0"])
  }

  @Test func connectThatIsLongerThanThePools() {
    let pool = Script()
    pool.submit { $0.timeouts.connect = .seconds(20) }
    #expect(pool.dialDeadlines == [pool.now + .seconds(20)])
    #expect(pool.run(.seconds(19)) == [])
    #expect(pool.dialed("c0") == ["send r0 on c0"])
  }

  /// The pool clock stands still while a dial serves the request.
  @Test func thePoolClockStandsWhileADialServes() {
    let pool = Script { $0.timeouts.connect = .seconds(30) }
    pool.submit { $0.timeouts.connect = .seconds(30) }
    #expect(pool.run(.seconds(29)) == [])
    #expect(pool.dialed("c0") == ["send r0 on c0"])
  }

  @Test func thePoolClockGoesOnWhereItStopped() {
    let pool = Script {
      $0.maxConnections = 1
      $0.retryBackoff = .seconds(1)
      $0.retryBackoffMax = .seconds(1)
    }
    pool.submit()
    pool.dialed("c0")
    pool.submit()
    pool.run(.seconds(2))
    // Served by a dial for two seconds, which another request then takes.
    #expect(pool.finish("r0", reusable: false).last == "dial c1")
    pool.run(.seconds(2))
    pool.submit(priority: 1)
    #expect(pool.dialed("c1") == ["send r2 on c1"])
    pool.progress("r2", .sent)
    #expect(pool.run(.seconds(9)) == ["8000 ms: complete r1 poolTimeout unseen"])
  }

  @Test func write() {
    let pool = Script()
    pool.submit()
    pool.dialed("c0")
    pool.run(.seconds(9))
    pool.progress("r0", .wrote)
    #expect(
      pool.run(.seconds(10)) == [
        "10000 ms: abort r0 on c0", "10000 ms: close c0 aborted", "10000 ms: complete r0 writeTimeout",
      ])
  }

  @Test func writeStandsWhileAnUploadWaits() {
    let pool = Script()
    pool.submit()
    pool.dialed("c0")
    pool.progress("r0", .wrote, .waitingForApplication)
    #expect(pool.run(.seconds(100)) == [])
    pool.progress("r0", .wrote)
    #expect(pool.run(.seconds(10)).last == "10000 ms: complete r0 writeTimeout")
  }

  @Test func firstByte() {
    let pool = Script { $0.timeouts.firstByte = .seconds(100) }
    pool.submit()
    pool.dialed("c0")
    pool.progress("r0", .sent)
    #expect(pool.run(.seconds(100)).last == "100000 ms: complete r0 firstByteTimeout")
  }

  @Test func afterTheFirstByteTheReadClockRuns() {
    let pool = Script { $0.timeouts.firstByte = .seconds(100) }
    pool.submit()
    pool.dialed("c0")
    pool.progress("r0", .sent)
    pool.run(.seconds(90))
    pool.progress("r0", .received)
    #expect(pool.run(.seconds(100)).last == "60000 ms: complete r0 readTimeout")
  }

  @Test func withoutItsOwnClockTheFirstByteIsRead() {
    let pool = Script()
    pool.submit()
    pool.dialed("c0")
    pool.progress("r0", .sent)
    #expect(pool.run(.seconds(100)).last == "60000 ms: complete r0 readTimeout")
  }

  @Test func eachByteRestartsTheReadClock() {
    let pool = Script()
    pool.submit()
    pool.dialed("c0")
    pool.progress("r0", .sent)
    for _ in 0..<10 {
      pool.progress("r0", .received)
      #expect(pool.run(.seconds(59)) == [])
    }
    #expect(pool.run(.seconds(1)).last == "1000 ms: complete r0 readTimeout")
  }

  /// An answer that began before the request was sent got the clock of the first byte, which nothing stopped.
  @Test func anEarlyAnswerHasHadItsFirstByte() {
    let pool = Script { $0.timeouts.firstByte = .seconds(5) }
    pool.submit()
    pool.dialed("c0")
    pool.progress("r0", .wrote, .received, .sent)
    #expect(pool.run(.seconds(59)) == [])
    #expect(pool.run(.seconds(2)).last == "1000 ms: complete r0 readTimeout")
  }

  @Test func readStandsWhileTheApplicationHolds() {
    let pool = Script()
    pool.submit()
    pool.dialed("c0")
    pool.progress("r0", .sent, .received, .heldByApplication)
    #expect(pool.run(.seconds(1000)) == [])
    // What was under way when the window closed starts no clock.
    pool.progress("r0", .received)
    #expect(pool.run(.seconds(1000)) == [])
    pool.progress("r0", .releasedByApplication)
    #expect(pool.run(.seconds(60)).last == "60000 ms: complete r0 readTimeout")
  }

  /// Holding the answer stopped the clock of the request, too.
  @Test func writeRunsWhileTheApplicationHolds() {
    let pool = Script()
    pool.submit()
    pool.dialed("c0")
    pool.progress("r0", .wrote, .received, .heldByApplication)
    #expect(pool.run(.seconds(10)).last == "10000 ms: complete r0 writeTimeout")
  }

  @Test func heldBeforeTheFirstByteKeepsItsClock() {
    let pool = Script { $0.timeouts.firstByte = .seconds(100) }
    pool.submit()
    pool.dialed("c0")
    pool.progress("r0", .sent, .heldByApplication)
    pool.run(.seconds(200))
    pool.progress("r0", .releasedByApplication)
    #expect(pool.run(.seconds(100)).last == "100000 ms: complete r0 firstByteTimeout")
  }

  /// A stream of events whose head is here.
  private func stream(_ timeout: Nanoseconds) -> Script {
    let pool = Script { $0.timeouts.event = timeout }
    pool.submit { $0.flags = .streamed }
    pool.dialed("c0")
    pool.progress("r0", .sent, .received)
    pool.answered("r0", 200)
    pool.progress("r0", .beganEvents)
    return pool
  }

  @Test func noEventAfterTheHead() {
    let pool = stream(.seconds(5))
    #expect(pool.run(.seconds(10)).last == "5000 ms: complete r0 eventTimeout")
  }

  /// What keeps the read clock going: comments, pings, the parts of an event.
  @Test func bytesDoNotRestartTheEventClock() {
    let pool = stream(.seconds(5))
    for _ in 0..<4 {
      pool.progress("r0", .received)
      #expect(pool.run(.seconds(1)) == [])
    }
    #expect(pool.run(.seconds(10)).last == "1000 ms: complete r0 eventTimeout")
  }

  @Test func eachEventRestartsTheEventClock() {
    let pool = stream(.seconds(5))
    for _ in 0..<10 {
      pool.progress("r0", .received, .receivedEvent)
      #expect(pool.run(.seconds(4)) == [])
    }
    #expect(pool.run(.seconds(10)).last == "1000 ms: complete r0 eventTimeout")
  }

  @Test func whichComesFirst() {
    let pool = stream(.seconds(90))
    #expect(pool.run(.seconds(100)).last == "60000 ms: complete r0 readTimeout")
  }

  @Test func theEventClockStandsWhileTheApplicationHolds() {
    let pool = stream(.seconds(5))
    pool.progress("r0", .receivedEvent, .heldByApplication)
    #expect(pool.run(.seconds(1000)) == [])
    pool.progress("r0", .received, .receivedEvent)
    #expect(pool.run(.seconds(1000)) == [])
    pool.progress("r0", .releasedByApplication)
    #expect(pool.run(.seconds(4)) == [])
    #expect(pool.run(.seconds(4)).last == "1000 ms: complete r0 eventTimeout")
  }

  @Test func whatIsNoStreamOfEventsHasNoEventClock() {
    let pool = Script { $0.timeouts.event = .seconds(1) }
    pool.submit()
    pool.dialed("c0")
    pool.progress("r0", .sent, .received)
    pool.answered("r0", 200)
    #expect(pool.run(.seconds(59)) == [])
  }

  /// A collected one, where the caller said that it may be sent twice.
  @Test func anEventTimeoutIsRetriedAsOtherSilenceIs() {
    let pool = Script {
      $0.timeouts.event = .seconds(1)
      $0.retryBackoff = 0
    }
    pool.submit { $0.flags = .retrySent }
    pool.dialed("c0")
    pool.progress("r0", .sent, .received)
    pool.answered("r0", 200)
    pool.progress("r0", .beganEvents)
    #expect(!pool.run(.seconds(1)).contains { $0.contains("complete") })
  }

  @Test func totalEndsEveryState() {
    let pool = Script { $0.maxConnections = 1 }
    pool.submit { $0.timeouts.total = .seconds(1) }
    #expect(pool.run(.seconds(1)) == ["1000 ms: complete r0 totalTimeout unseen"])
    pool.dialed("c0")
    pool.submit { $0.timeouts.total = .seconds(1) }
    pool.submit { $0.timeouts.total = .milliseconds(500) }
    pool.progress("r1", .sent, .received, .heldByApplication)
    #expect(
      pool.run(.seconds(1)) == [
        "500 ms: complete r2 totalTimeout unseen", "1000 ms: abort r1 on c0", "1000 ms: close c0 aborted",
        "1000 ms: complete r1 totalTimeout",
      ])
  }

  @Test func noBackoffBeyondTheTotal() {
    let pool = Script {
      $0.retryBackoff = .seconds(100)
      $0.retryBackoffMax = .seconds(100)
    }
    pool.submit { $0.timeouts.total = .milliseconds(10) }
    #expect(pool.dialFailed("c0") == ["complete r0 connect unseen"])
  }

  @Test func anHTTP2TimeoutLeavesTheOthers() {
    let pool = Script(tls: true)
    pool.submit { $0.timeouts.read = .seconds(1) }
    pool.submit()
    pool.dialed("c0", .http2)
    pool.progress("r0", .sent)
    pool.progress("r1", .sent)
    #expect(pool.run(.seconds(1)) == ["1000 ms: abort r0 on c0", "1000 ms: complete r0 readTimeout"])
    #expect(pool.finish("r1") == ["complete r1 ok"])
  }

  @Test func timeoutsOfNoLimit() {
    let pool = Script()
    pool.submit {
      $0.timeouts.connect = .max
      $0.timeouts.read = .max
      $0.timeouts.write = .max
      $0.timeouts.pool = .max
    }
    #expect(pool.run(.seconds(4)) == [])
    pool.dialed("c0")
    #expect(pool.run(.seconds(1_000_000)) == [])
    pool.progress("r0", .sent)
    #expect(pool.run(.seconds(1_000_000)) == [])
  }

  @Test func aThousandPoolTimeoutsFireEachAtItsTime() {
    let pool = Script { $0.maxConnections = 1 }
    pool.submit()
    pool.dialed("c0")
    for index in 1...1000 { pool.submit { $0.timeouts.pool = .milliseconds(2_000 - index) } }
    let expected = (1...1000).reversed().map { "\(2_000 - $0) ms: complete r\($0) poolTimeout unseen" }
    #expect(pool.run(.seconds(2)) == expected)
  }
}

@Suite struct ConnectionClocks {
  @Test func keepaliveExpiry() {
    let pool = Script()
    pool.open()
    #expect(pool.run(.seconds(31)) == ["30000 ms: close c0 expired"])
  }

  @Test func useRestartsTheExpiry() {
    let pool = Script()
    pool.open()
    pool.run(.seconds(29))
    #expect(pool.submit() == ["send r1 on c0 reused"])
    pool.run(.seconds(5))
    pool.finish("r1")
    #expect(pool.run(.seconds(31)) == ["30000 ms: close c0 expired"])
  }

  /// The server's N is met with one second to spare, also when it is heard after the connection became idle.
  @Test(arguments: [true, false]) func learnedExpiry(isEarly: Bool) {
    let pool = Script()
    pool.submit()
    pool.dialed("c0")
    let event = Event.keepAlive(pool.connection("c0"), .seconds(5))
    if isEarly { pool.handle(event) }
    pool.finish("r0")
    if !isEarly { pool.handle(event) }
    #expect(pool.run(.seconds(31)) == ["4000 ms: close c0 expired"])
  }

  @Test func learnedExpiryNeverLengthens() {
    let pool = Script()
    pool.open()
    pool.handle(.keepAlive(pool.connection("c0"), .seconds(500)))
    #expect(pool.run(.seconds(31)) == ["30000 ms: close c0 expired"])
  }

  @Test func expiryThatIsShortenedInUse() {
    let pool = Script()
    pool.open()
    pool.configure { $0.keepaliveExpiry = .seconds(1) }
    #expect(pool.run(.seconds(31)) == ["1000 ms: close c0 expired"])
  }

  @Test func maxAgeHasJitterOfATenth() {
    var ages: Set<Nanoseconds> = []
    for seed: UInt64 in 0..<20 {
      var options = PoolOptions()
      options.maxConnectionAge = .seconds(100)
      options.keepaliveExpiry = .max
      var pool = PoolStateMachine(options: options, seed: seed)
      var actions: [Action] = []
      let start = Instant(nanoseconds: 0)
      pool.handle(.originAdded(OriginID(slot: 0), nil, isTLS: false), now: start, into: &actions)
      pool.handle(.warm(OriginID(slot: 0), connections: 1), now: start, into: &actions)
      guard case .dial(let id, _, _, _) = actions[0] else { return #expect(Bool(false)) }
      pool.handle(.dialed(id, .http1, nil), now: start, into: &actions)
      actions = []
      while actions.isEmpty { pool.advance(to: pool.nextDeadline!, into: &actions) }
      ages.insert(pool.now - start)
    }
    #expect(ages.allSatisfy { $0 >= .seconds(90) && $0 <= .seconds(110) })
    #expect(ages.count > 10)
  }

  @Test func anAgedConnectionInUseEndsWithItsRequest() {
    let pool = Script { $0.maxConnectionAge = .seconds(10) }
    pool.submit()
    pool.dialed("c0")
    pool.progress("r0", .sent)
    pool.run(.seconds(12))
    #expect(pool.finish("r0") == ["close c0 aged", "complete r0 ok"])
    #expect(pool.submit() == ["dial c1"])
  }

  @Test func pingAfterSilenceAndItsDeadline() {
    let pool = Script(tls: true)
    pool.submit { $0.timeouts.read = .max }
    pool.dialed("c0", .http2)
    pool.progress("r0", .sent)
    #expect(
      pool.run(.seconds(45)) == [
        "30000 ms: ping c0", "45000 ms: abort r0 on c0", "45000 ms: complete r0 read", "45000 ms: close c0 pingTimeout",
      ])
  }

  @Test func anAnsweredPingIsNotRepeatedTooSoon() {
    let pool = Script(tls: true)
    pool.submit { $0.timeouts.read = .max }
    pool.dialed("c0", .http2)
    pool.progress("r0", .sent)
    #expect(pool.run(.seconds(30)) == ["30000 ms: ping c0"])
    pool.run(.seconds(1))
    pool.received("c0")
    #expect(pool.run(.seconds(30)) == ["30000 ms: ping c0"])
  }

  @Test func trafficNeedsNoPing() {
    let pool = Script(tls: true)
    pool.submit { $0.timeouts.read = .max }
    pool.dialed("c0", .http2)
    for _ in 0..<10 {
      pool.received("c0")
      pool.progress("r0", .sent, .received)
      #expect(pool.run(.seconds(29)) == [])
    }
  }

  @Test(arguments: [Nanoseconds.max, 0]) func noPing(interval: Nanoseconds) {
    let pool = Script(tls: true) { $0.pingInterval = interval }
    pool.submit { $0.timeouts.read = .max }
    pool.dialed("c0", .http2)
    pool.progress("r0", .sent)
    #expect(pool.run(.seconds(1_000)) == [])
  }

  @Test func nothingWaitsNothingIsDue() {
    let pool = Script()
    #expect(pool.run(.seconds(600)) == ["600000 ms: forget o0"])
    #expect(pool.nextDeadline == nil)
  }

  @Test func originsInUseAreNotForgotten() {
    let pool = Script { $0.keepaliveExpiry = .seconds(700) }
    pool.open()
    #expect(pool.run(.seconds(1_299)) == ["700000 ms: close c0 expired"])
    #expect(pool.run(.seconds(2)) == ["1000 ms: forget o0"])
    pool.add(0, tls: true)
    #expect(pool.submit() == ["dial c1"])
    #expect(pool.submit() == [])
  }
}
