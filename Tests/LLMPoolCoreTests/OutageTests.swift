import Testing

@testable import LLMPoolCore

/// Who waits at an origin that is down is told, and why.
@Suite struct Outages {
  /// 64 at limit 4: 36 of them ran into their pool timeout.
  @Test func whoWaitsForAPlaceIsToldToo() {
    let pool = Script {
      $0.maxConnections = 4
      $0.retryBackoff = .seconds(1)
    }
    for _ in 0..<64 { pool.submit(flags: .noRetry) }
    #expect(pool.dialFailed("c0") == ["complete r0 connect unseen"])
    #expect(pool.dialFailed("c1") == ["complete r1 connect unseen"])
    // r3 counts on the dial that is left.
    let told = pool.dialFailed("c2")
    #expect(told.count == 61 && !told.contains { $0.hasPrefix("complete r3 ") })
    #expect(pool.dialFailed("c3") == ["complete r3 connect unseen"])
  }

  @Test func ofManyOrigins() {
    let pool = Script(origins: 2) { $0.maxConnections = 2 }
    pool.submit(1)
    pool.dialed("c0")
    for _ in 0..<10 { pool.submit(flags: .noRetry) }
    for index in 1...3 { pool.dialFailed("c\(index)") }
    #expect(pool.counters.failed == 10)
    #expect(pool.finish("r0") == ["complete r0 ok"])
  }

  @Test func overHTTP2WithFewStreams() {
    let pool = Script(tls: true) {
      $0.maxConnections = 2
      $0.maxStreamsPerConnection = 3
    }
    pool.open(0, .http2)
    pool.lost("c0")
    for _ in 0..<20 { pool.submit(flags: .noRetry) }
    pool.dialFailed("c1")
    pool.dialFailed("c2")
    #expect(pool.counters.failed == 2)
    pool.dialFailed("c3")
    #expect(pool.counters.failed == 17 && pool.counters.pending == 3)
    pool.dialFailed("c4")
    #expect(pool.counters.failed == 20)
  }

  /// Three that count on one dial, and a fourth that comes within the pause.
  @Test func whoWantsNoOtherDialIsToldAtOnce() {
    let pool = Script(tls: true) { $0.retryBackoff = .seconds(1) }
    for _ in 0..<3 { pool.submit(flags: .noRedial) }
    #expect(
      pool.dialFailed("c0") == [
        "complete r0 connect unseen", "complete r1 connect unseen", "complete r2 connect unseen",
      ])
    #expect(pool.submit(flags: .noRedial) == ["dial c1"])
    #expect(pool.dialFailed("c1") == ["complete r3 connect unseen"])
    #expect(pool.counters.retries == 0)
  }

  /// Those with patience wait for the same dial, and for their own.
  @Test func whoWantsOneWaitsBesideThem() {
    let pool = Script { $0.retryBackoff = .seconds(1) }
    pool.submit()
    #expect(pool.dialFailed("c0") == [])
    #expect(pool.counters.backingOff == 1)
    #expect(pool.submit(flags: .noRedial) == ["dial c1"])
    #expect(pool.dialed("c1") == ["send r1 on c1"])
  }

  /// That is not what a flag about dials is for.
  @Test func whatADyingConnectionHasNotSentGoesOut() {
    let pool = Script(tls: true)
    pool.open(0, .http2)
    pool.submit(flags: .noRedial)
    #expect(pool.fail("r1", .read, unseen: true) == ["send r1 on c0 reused"])
  }

  /// What is open may become free: the origin is not down, it takes no more.
  @Test func notWhileAConnectionIsOpen() {
    let pool = Script { $0.maxConnectionsPerOrigin = 2 }
    pool.submit()
    pool.dialed("c0")
    for _ in 0..<5 { pool.submit(flags: .noRetry) }
    for index in 1...3 { pool.dialFailed("c\(index)") }
    #expect(pool.counters.failed == 3)
    #expect(pool.finish("r0") == ["complete r0 ok", "send r4 on c0 reused"])
  }

  @Test func aConnectionThatTakesNothingNewIsNoHope() {
    let pool = Script(tls: true) { $0.maxConnectionsPerOrigin = 2 }
    pool.open(0, .http2)
    pool.submit()
    pool.goAway("c0")
    for _ in 0..<5 { pool.submit(flags: .noRetry) }
    for index in 1...3 { pool.dialFailed("c\(index)") }
    #expect(pool.counters.failed == 5)
  }

  /// One place and a black hole: three dials take longer than anybody waits.
  @Test func whoRunsOutOfPatienceIsToldWhy() {
    let pool = Script { $0.maxConnections = 1 }
    for _ in 0..<4 { pool.submit() }
    let lines = pool.run(.seconds(11))
    #expect(lines.filter { $0.hasSuffix("connectTimeout unseen") }.count == 3)
    #expect(lines.contains("10000 ms: complete r3 connectTimeout unseen"))
  }

  @Test func alsoWhoCameShortlyAfterADialHadFailed() {
    let pool = Script(tls: true) { $0.retryBackoff = .seconds(1) }
    pool.submit(flags: .noRetry)
    pool.dialFailed("c0", .proxy)
    pool.submit { $0.timeouts.pool = 1_000 }
    #expect(pool.run(.milliseconds(1)).contains { $0.hasSuffix("complete r1 proxy unseen") })
  }

  @Test func alsoWhoseTotalTimeIsOverMeanwhile() {
    let pool = Script(tls: true) { $0.retryBackoff = .seconds(100) }
    pool.submit(flags: .noRetry)
    pool.dialFailed("c0")
    pool.submit { $0.timeouts.total = 1_000 }
    #expect(pool.run(.milliseconds(1)).contains { $0.hasSuffix("complete r1 connect unseen") })
  }

  @Test func anOldFailureIsNoReason() {
    let pool = Script(origins: 2) {
      $0.maxConnections = 1
      $0.timeouts.pool = .seconds(5)
    }
    pool.submit(flags: .noRetry)
    pool.dialFailed("c0")
    pool.wait(.seconds(60))
    pool.submit(1)
    pool.dialed("c1")
    pool.submit(0)
    #expect(pool.run(.seconds(5)) == ["5000 ms: complete r2 poolTimeout unseen"])
  }

  @Test func noRoomAtAnOriginThatWorksIsAPoolTimeout() {
    let pool = Script {
      $0.maxConnectionsPerOrigin = 1
      $0.timeouts.pool = .seconds(5)
    }
    pool.submit()
    pool.dialed("c0")
    pool.submit()
    #expect(pool.run(.seconds(5)) == ["5000 ms: complete r1 poolTimeout unseen"])
  }

  /// It slept beyond its end, and was told of that instead of the refusal.
  @Test func aBackoffBeyondTheEndOfTheRequestIsNotBegun() {
    let pool = Script { $0.retryBackoff = .seconds(8) }
    pool.submit { $0.timeouts.total = .milliseconds(1) }
    #expect(pool.dialFailed("c0") == ["complete r0 connect unseen"])
    pool.submit { $0.timeouts.pool = .milliseconds(1) }
    pool.run(.seconds(1))
    #expect(pool.counters.failed == 2)
  }
}
