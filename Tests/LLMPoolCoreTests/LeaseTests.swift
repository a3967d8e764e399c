import Testing

@testable import LLMPoolCore

/// Of budget 0, 10 requests a second unless said otherwise; h2, so that no request waits for a connection.
private func makePool(_ budget: (inout BudgetOptions) -> Void = { _ in }) -> Script {
  let pool = Script {
    $0.httpVersions = .http2
    $0.pingInterval = .max
    $0.timeouts = .init(all: .max)
    $0.timeouts.budget = .seconds(60)
  }
  pool.budget {
    $0.limits[0] = BudgetLimit(.requests, 600, per: .seconds(60))
    budget(&$0)
  }
  pool.open(0, .http2)
  return pool
}

/// How a budget that is shared is spent: what was lent, or its safe share.
@Suite struct Leases {
  @Test func sharingTakesEverythingAndAsks() {
    let pool = makePool()
    #expect(pool.left == [600])
    #expect(pool.share() == ["lease of b0 wanted"])
    #expect(pool.left == [0])
    // A quarter of 10 a second.
    #expect(pool.run(.seconds(1)) == [])
    #expect(pool.left == [2])
    #expect(
      pool.shareView
        == ShareView(isLeased: false, validFor: 0, members: 0, share: 0.25, lapses: 0, places: .max))
    pool.run(.seconds(600))
    #expect(pool.left == [150])
  }

  @Test func withoutAStoreTheSafeShareIsAllThereIs() {
    let pool = makePool()
    #expect(pool.share(0.1, hasStore: false) == [])
    #expect(pool.left == [60])
    for _ in 0..<60 { pool.spend() }
    #expect(pool.spend() == [])
    #expect(pool.run(.seconds(1)).contains("1000 ms: admit r61"))
    #expect(pool.pool.nextDeadline! - pool.now > .seconds(2))
    #expect(pool.shareView?.isLeased == false && pool.shareView?.share == 0.1)
  }

  @Test func aloneAgain() {
    let pool = makePool()
    pool.share()
    pool.grant(pool.ask(), 7)
    #expect(pool.share(nil) == [])
    // What it held is the store's again.
    #expect(pool.shareView == nil && pool.left == [0])
    pool.run(.seconds(2))
    #expect(pool.left == [20])
    #expect(pool.pool.view(of: BudgetID(slot: 0))!.limits[0].spent == 0)
  }

  @Test func allOfThemAndThoseToCome() {
    let pool = makePool()
    pool.budget(1) { $0.limits[0] = BudgetLimit(.requests, 10, per: .seconds(1)) }
    let share = ShareOptions(safeShare: 0.5, hasStore: true)
    #expect(pool.handle(.budgetShared(.none, share)).sorted() == ["lease of b0 wanted", "lease of b1 wanted"])
    #expect(pool.handle(.budgetNamed(BudgetID(slot: 2))) == ["lease of b2 wanted"])
    #expect(pool.handle(.budgetShared(.none, nil)) == [])
    #expect(pool.handle(.budgetNamed(BudgetID(slot: 3))) == [])
    #expect(pool.pool.view(of: BudgetID(slot: 2))?.share == nil)
  }

  // MARK: Grants

  @Test func whatIsLentIsSpentAndNothingComesByItself() {
    let pool = makePool()
    pool.share()
    pool.run(.seconds(1))
    let demand = pool.ask()
    // Of the safe share nothing is taken along.
    #expect(pool.grant(demand, 3) == [])
    #expect(pool.left == [3])
    for _ in 0..<3 { #expect(pool.spend().first?.hasPrefix("admit") == true) }
    #expect(pool.spend().filter { $0.hasPrefix("admit") } == [])
    #expect(pool.shareView?.isLeased == true && pool.shareView?.members == 4)
    // What was spent meanwhile stays spent.
    #expect(pool.grant(pool.ask(), 2) == ["admit r4", "send r4 on c0 reused"])
    #expect(pool.left == [1])
    #expect(pool.pool.view(of: BudgetID(slot: 0))!.limits[0].spent == 4)
  }

  @Test func aGrantCountsOnceAndForTheLastAskAlone() {
    let pool = makePool()
    pool.share()
    let first = pool.ask()
    let second = pool.ask()
    pool.grant(first, 5)
    #expect(pool.left == [0])
    pool.grant(second, 5)
    pool.grant(second, 5)
    #expect(pool.left == [5])
  }

  /// It runs from the ask on, however long the grant took.
  @Test func aGrantThatIsOverWhenItComesIsNone() {
    let pool = makePool()
    pool.share()
    let demand = pool.ask()
    pool.sleep(.milliseconds(1_500))
    pool.grant(demand, 5)
    #expect(pool.shareView?.validFor == .milliseconds(500))
    let late = pool.ask()
    pool.sleep(.seconds(2))
    pool.grant(late, 5)
    #expect(pool.shareView?.isLeased == false)
  }

  @Test func whatWasOverspentIsPaid() {
    let pool = makePool { $0.limits[0] = BudgetLimit(.tokens, 60_000, per: .seconds(60)) }
    pool.share()
    pool.grant(pool.ask(), 100)
    pool.spend(100)
    pool.handle(.settled(pool.request("r1"), input: 150, output: 0))
    #expect(pool.left == [-50])
    let demand = pool.ask()
    #expect(demand.limits[0].held == -50 && demand.limits[0].spent == 150)
    pool.grant(demand, 60)
    #expect(pool.left == [10])
  }

  @Test func whatTheServerDidNotSeeIsNotSpent() {
    let pool = makePool()
    pool.share()
    pool.grant(pool.ask(), 3)
    pool.spend(flags: .noRetry)
    pool.fail("r1", .refused, unseen: true)
    let demand = pool.ask()
    #expect(demand.limits[0].spent == 0 && demand.limits[0].held <= 3)
  }

  // MARK: The end of a lease

  @Test func aLeaseThatIsOverLeavesTheSafeShare() {
    let pool = makePool()
    pool.share()
    pool.grant(pool.ask(), 50, members: 10)
    let before = pool.shareView!.validFor
    #expect(before == .seconds(2))
    pool.run(.seconds(2))
    #expect(pool.left == [0] && pool.shareView?.isLeased == false && pool.shareView?.share == 0.1)
    #expect(pool.shareView?.lapses == 1)
    pool.run(.seconds(1))
    #expect(pool.left == [1])
  }

  /// A process that was stopped does not look at its clock before it goes on.
  @Test func nothingIsSentOnAnOldLease() {
    let pool = makePool()
    pool.share()
    pool.grant(pool.ask(), 50)
    pool.sleep(.milliseconds(2_000))
    #expect(pool.spend().filter { $0.hasPrefix("admit") } == [])
    pool.sleep(.seconds(60))
    #expect(pool.spend().filter { $0.hasPrefix("admit") } == ["admit r1", "admit r2"])
  }

  /// Nor where its clock has not counted, as the machine slept.
  @Test func aSuspendedMachine() {
    let pool = makePool()
    pool.share()
    pool.grant(pool.ask(), 50)
    pool.sleep(.milliseconds(10))
    pool.handle(.clockLeapt(.milliseconds(1_989)))
    #expect(pool.shareView?.validFor == .milliseconds(1))
    pool.handle(.clockLeapt(.milliseconds(1)))
    #expect(pool.shareView?.isLeased == false && pool.left == [0])
    // And what was asked before is over, too.
    let demand = pool.ask()
    pool.handle(.clockLeapt(.seconds(2)))
    pool.grant(demand, 5)
    #expect(pool.left == [0])
  }

  /// The store has counted it as spent.
  @Test func whoIsAdmittedStaysAdmitted() {
    let pool = Script { $0.httpVersions = .http2 }
    pool.budget { $0.limits[0] = BudgetLimit(.requests, 600, per: .seconds(60)) }
    pool.share()
    pool.grant(pool.ask(), 5)
    pool.spend()
    pool.spend()
    pool.run(.seconds(2))
    #expect(pool.left == [2] && pool.shareView?.isLeased == false)
    #expect(pool.spend().filter { $0.hasPrefix("admit") } == [])
    let demand = pool.ask()
    #expect(demand.limits[0].held == 0 && demand.limits[0].spent == 2 && demand.limits[0].wanted == 1)
    #expect(pool.dialed("c0", .http2) == ["send r0 on c0", "send r1 on c0 reused"])
    #expect(pool.left == [0])
  }

  /// Nobody waits longer than 50 ms for a store that does not answer; what was lent holds on.
  @Test func aStoreThatDoesNotAnswer() {
    let pool = makePool()
    pool.share()
    pool.grant(pool.ask(), 1, members: 1)
    pool.spend()
    #expect(pool.spend() == [])
    #expect(pool.run(.seconds(1)).first == "50 ms: lease of b0 wanted")
    let demand = pool.ask()
    // The safe share, all of it, begins after 50 ms.
    #expect(pool.run(.milliseconds(200)).first == "150 ms: admit r2")
    #expect(pool.shareView?.lapses == 1 && pool.shareView?.isLeased == true)
    // Its grant is taken all the same.
    pool.grant(demand, 7, members: 1)
    #expect(pool.left == [7])
    pool.run(.milliseconds(500))
    #expect(pool.left == [7])
  }

  @Test func aStoreThatNobodyWaitsForMayTakeItsTime() {
    let pool = makePool()
    pool.share()
    pool.grant(pool.ask(), 5)
    pool.ask()
    pool.run(.milliseconds(500))
    #expect(pool.shareView?.lapses == 0)
  }

  // MARK: Limits

  @Test func aSmallerLimitOfAnotherHolds() {
    let pool = makePool()
    pool.share()
    pool.grant(pool.ask(), 10, of: 300)
    func limit() -> BudgetView.Limit { pool.pool.view(of: BudgetID(slot: 0))!.limits[0] }
    #expect(limit().limit == 300 && limit().window == .seconds(60))
    let demand = pool.ask()
    #expect(demand.limits[0].amount == 600 && demand.limits[0].capacity == 600)
    pool.grant(demand, 400, of: 300)
    #expect(pool.left == [300])
    pool.grant(pool.ask(), 0, of: 900)
    #expect(limit().limit == 600 && pool.left == [0])
  }

  @Test func aLimitThatIsConfiguredLaterBeginsWithNothing() {
    let pool = makePool()
    pool.share()
    pool.grant(pool.ask(), 10)
    let lines = pool.budget {
      $0.limits[0] = BudgetLimit(.requests, 1_200, per: .seconds(60))
      $0.limits[1] = BudgetLimit(.tokens, 100, per: .seconds(60))
    }
    #expect(lines == ["lease of b0 wanted"])
    #expect(pool.left == [10, 0])
    let demand = pool.ask()
    #expect(demand.limits.map(\.amount) == [1_200, 100])
    pool.grant(demand, 5, 50)
    #expect(pool.left.last == 50)
  }

  /// The store knows it by what it is, not by where it stands.
  @Test func aLimitThatMovesTakesItsBooksAlong() {
    let pool = makePool {
      $0.limits[1] = BudgetLimit(.tokens, 1_000, per: .seconds(60))
      // Twice the same.
      $0.limits[2] = BudgetLimit(.tokens, 2_000, per: .seconds(60))
    }
    pool.share()
    let demand = pool.ask()
    #expect(demand.limits.map(\.amount) == [600, 1_000])
    pool.grant(demand, 10, 500)
    #expect(pool.left == [10, 500, 500])
    pool.spend(100)
    pool.budget {
      $0.limits[0] = BudgetLimit(.tokens, 3_000, per: .seconds(60))
      $0.limits[3] = BudgetLimit(.requests, 600, per: .seconds(60))
    }
    let moved = pool.ask().limits
    #expect(moved.map(\.spent) == [100, 1] && moved.map(\.unit) == [.tokens, .requests])
  }

  @Test func aLimitThatIsToldIsLentAtOnce() {
    let pool = makePool { $0.learns = true }
    pool.share()
    pool.grant(pool.ask(), 10)
    pool.spend(100)
    let told = pool.told("r1", .tokens, 10_000, remaining: 8_000, full: .seconds(10))
    #expect(told == ["lease of b0 wanted"])
    #expect(pool.left == [9, 0])
    pool.answered("r1", 200)
    let demand = pool.ask()
    #expect(demand.limits[1].told == .tokens && demand.limits[1].remaining == 8_000)
    #expect(demand.limits[1].window == .seconds(50))
    #expect(pool.ask().limits[1].remaining == nil)
    // What was left when a request was sent long ago is no news.
    pool.grant(pool.ask(), 10, 10)
    pool.spend(1)
    pool.spend(1)
    pool.sleep(.seconds(10))
    pool.told("r2", .tokens, 10_000, remaining: 5_000, full: .seconds(25))
    // And what has come back since.
    #expect(pool.ask().limits[1].remaining == 7_000)
    pool.sleep(.seconds(21))
    pool.told("r3", .tokens, 10_000, remaining: 5_000, full: .seconds(25))
    #expect(pool.ask().limits[1].remaining == nil)
  }

  @Test func ofALimitThatIsToldWithoutALeaseAShareIsThere() {
    let pool = makePool {
      $0.learns = true
      $0.limits[0] = .none
    }
    pool.share()
    pool.spend(100)
    pool.told("r1", .tokens, 10_000, remaining: 8_000, full: .seconds(10))
    #expect(pool.left == [2_000])
  }

  @Test func whatAnswersTellCorrectsNothingThatIsLent() {
    let pool = makePool { $0.learns = true }
    pool.share()
    pool.spend(10)
    pool.run(.seconds(1))
    #expect(pool.counters.active == 1)
    pool.told("r1", .requests, 600, remaining: 500, window: .seconds(60))
    pool.answered("r1", 200)
    pool.grant(pool.ask(), 5, 5)
    pool.spend(10)
    pool.told("r2", .requests, 600, remaining: 1, window: .seconds(60))
    #expect(pool.left == [4, 4])
    pool.run(.seconds(3))
    // In its safe share: no more than a share of what is left.
    pool.spend(10)
    pool.told("r3", .requests, 600, remaining: 4, window: .seconds(60))
    #expect(pool.shareView?.isLeased == false && pool.left.last == 1)
  }

  @Test func beforeTheFirstAnswerAShareOfFew() {
    let pool = makePool {
      $0.learns = true
      $0.limits[0] = .none
    }
    pool.share(0.25)
    // Whoever is heard of first is alone for a moment.
    pool.grant(pool.ask(), members: 1)
    for _ in 0..<20 { pool.spend() }
    #expect(pool.counters.active == 2)
    let other = makePool {
      $0.learns = true
      $0.limits[0] = .none
    }
    other.share(0.01)
    for _ in 0..<20 { other.spend() }
    #expect(other.counters.active == 1)
  }

  /// What is lent may come at once.
  @Test func nobodyIsToldThatHeWouldWaitTooLong() {
    let pool = makePool()
    pool.share()
    #expect(pool.spend { $0.timeouts.budget = .milliseconds(10) }.contains { $0.hasPrefix("complete") } == false)
    #expect(pool.run(.seconds(1)) == ["10 ms: complete r1 budgetTimeout unseen"])
  }

  // MARK: Places

  @Test func placesAreLentToo() {
    let pool = makePool {
      $0.limits[0] = .none
      $0.maxConcurrent = 10
    }
    pool.share()
    for _ in 0..<8 { pool.spend() }
    #expect(pool.counters.active == 2)
    let demand = pool.ask()
    #expect(demand.maxConcurrent == 10 && demand.inFlight == 2 && demand.waiting == 6)
    pool.grant(demand, places: 5)
    #expect(pool.counters.active == 5)
    pool.grant(pool.ask(), places: 0)
    #expect(pool.finish("r1").contains { $0.hasPrefix("admit") } == false)
    pool.run(.seconds(2))
    #expect(pool.shareView?.places == 2 && pool.counters.active == 4)
  }

  // MARK: Stops

  @Test func aStopOfAnotherStopsThisOne() {
    let pool = makePool()
    pool.watch([.budgetStopped, .budgetResumed])
    pool.share()
    #expect(pool.grant(pool.ask(), 10, stopped: .seconds(3)) == ["stopped b0 by 0, 0 waiting, 3000 ms"])
    #expect(pool.left == [0])
    #expect(pool.spend() == [])
    // It is not handed back: it would never end.
    let demand = pool.ask()
    #expect(demand.stoppedFor == 0)
    pool.grant(demand, 0)
    pool.sleep(.milliseconds(2_500))
    pool.grant(pool.ask(), 1)
    #expect(pool.run(.seconds(1)).prefix(2) == ["500 ms: resumed b0", "500 ms: admit r1"])
  }

  @Test func aStopOfItsOwnIsTold() {
    let pool = makePool()
    pool.share()
    pool.grant(pool.ask(), 10)
    pool.spend()
    pool.spend()
    #expect(pool.answered("r1", 429, RetryAdvice(retryAfter: .seconds(20))).contains("lease of b0 wanted"))
    pool.sleep(.seconds(1))
    #expect(pool.ask().stoppedFor == .seconds(19))
    #expect(pool.answered("r2", 429, RetryAdvice(retryAfter: .seconds(30))) == ["deliver r2"])
    pool.sleep(.seconds(1))
    #expect(pool.ask().stoppedFor == .seconds(29))
  }
}

/// What the store is asked for, and when.
@Suite struct LeaseDemands {
  @Test func thoseThatWaitByTheirClass() {
    let pool = makePool { $0.limits[0] = BudgetLimit(.tokens, 6_000, per: .seconds(60)) }
    pool.share()
    pool.grant(pool.ask(), 10)
    pool.spend(20)
    pool.spend(30, priority: 1)
    pool.spend(40, priority: -1)
    pool.spend(50, 7)
    pool.spend(9_000, flags: .estimatedCost)
    let limit = pool.ask().limits[0]
    #expect(limit.wantedHigh == 30 && limit.wanted == 6_077 && limit.wantedLow == 40)
    #expect(limit.least == 30 && limit.held == 10 && limit.spent == 0)
    #expect(limit.amount == 6_000 && limit.window == .seconds(60) && limit.capacity == 6_000)
  }

  @Test func whoHasAgedIsOfTheFirstClass() {
    let pool = makePool()
    pool.share(0.0001)
    pool.spend(priority: -5)
    pool.run(.seconds(31))
    #expect(pool.ask().limits[0].wantedHigh == 1)
  }

  @Test func whatIsNotNeededIsGivenBack() {
    let pool = makePool()
    pool.share()
    pool.grant(pool.ask(), 50)
    // Ten a second, of which nobody knows yet: one is expected after the first.
    pool.spend()
    let demand = pool.ask()
    #expect(demand.limits[0].held == 2 && demand.limits[0].expected == 1)
    pool.grant(demand, 50)
    for _ in 0..<10 {
      pool.spend()
      pool.sleep(.milliseconds(100))
    }
    let busy = pool.ask().limits[0]
    #expect(busy.expected == 11 && busy.held == 17)
    // A lease later it is used no more.
    pool.run(.seconds(2))
    #expect(pool.ask().limits[0].expected == 0)
    #expect(pool.ask().limits[0].held == 0)
  }

  @Test func heIsHeardOfTwiceInALease() {
    let pool = makePool()
    pool.share()
    pool.grant(pool.ask(), 5)
    #expect(pool.run(.seconds(10)) == ["1000 ms: lease of b0 wanted"])
    pool.grant(pool.ask(), 5, valid: .seconds(10))
    #expect(pool.run(.seconds(10)) == ["5000 ms: lease of b0 wanted"])
  }

  @Test func whatIsLackingIsAskedForThreeTimesASecond() {
    let pool = makePool()
    pool.share(0.0001)
    pool.spend()
    var asks = 0
    for _ in 0..<10_000 {
      if pool.wait(.milliseconds(1)).contains("lease of b0 wanted") || asks == 0 {
        asks += 1
        pool.grant(pool.ask(), 0)
      }
    }
    #expect((33...37).contains(asks))
  }

  /// Who comes just after an ask does not wait for the next.
  @Test func whoHasToWaitAsksSoon() {
    let pool = makePool()
    pool.share()
    pool.grant(pool.ask(), 0)
    pool.run(.milliseconds(999))
    #expect(pool.wait(.milliseconds(1)) == ["lease of b0 wanted"])
    pool.grant(pool.ask(), 0)
    pool.spend()
    #expect(pool.run(.seconds(1)).first == "50 ms: lease of b0 wanted")
  }

  @Test func withoutAGrantItIsAskedForAgainAfterASecond() {
    let pool = makePool()
    pool.share()
    pool.ask()
    pool.spend()
    #expect(pool.run(.seconds(3)).filter { $0.contains("lease") } == ["1000 ms: lease of b0 wanted"])
    #expect(pool.spend().contains("lease of b0 wanted") == false)
  }

  @Test func whoeverWaitsForThePaceOfOthersAsks() {
    let pool = makePool()
    pool.share()
    pool.grant(pool.ask(), 2)
    pool.run(.milliseconds(400))
    pool.spend()
    // One is left, one is expected.
    #expect(pool.run(.milliseconds(100)) == [])
    #expect(pool.spend().contains("lease of b0 wanted"))
  }

  /// Who has few places does not ask for what would lie there.
  @Test func noMoreIsWantedThanCanBeSent() {
    let pool = makePool { $0.maxConcurrent = 4 }
    pool.share()
    for _ in 0..<100 { pool.spend() }
    #expect(pool.ask().limits[0].wanted == 4)
  }

  @Test func whatNobodyUsesAsksNoMore() {
    let pool = Script()
    let share = ShareOptions(safeShare: 0.5, hasStore: true)
    pool.handle(.budgetShared(.none, share))
    #expect(pool.handle(.budgetNamed(BudgetID(slot: 0))) == ["lease of b0 wanted"])
    var asks = 0
    for _ in 0..<100 {
      if pool.wait(.milliseconds(500)).contains("lease of b0 wanted") || asks == 0 {
        asks += 1
        pool.grant(pool.ask())
      }
    }
    #expect(asks == 30)
    #expect(pool.nextDeadline == nil || pool.nextDeadline! - pool.now > .seconds(100))
    #expect(pool.shareView?.lapses == 0)
    #expect(pool.spend().first == "admit r0")
    #expect(pool.run(.seconds(1)).contains { $0.contains("lease") } == false)
  }

  @Test func sequencesAreOfThePool() {
    let pool = makePool()
    pool.budget(1) { _ in }
    pool.share()
    pool.handle(.budgetShared(BudgetID(slot: 1), ShareOptions(safeShare: 1, hasStore: true)))
    let first = pool.ask()
    let other = pool.askOther(1)
    #expect(other?.sequence == first.sequence + 1)
    #expect(pool.askOther(7) == nil)
    pool.handle(.budgetShared(BudgetID(slot: 1), nil))
    #expect(pool.askOther(1) == nil)
  }
}
