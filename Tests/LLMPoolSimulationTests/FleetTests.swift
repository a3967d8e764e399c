import LLMPoolCore
import LLMPoolSimulation
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// A thousand members, all of them busy: `LLMPOOL_LONG_TESTS=1`. Else fewer.
private let isLong = getenv("LLMPOOL_LONG_TESTS") != nil

/// Requests and tokens a minute, of all members together.
private func options(_ members: Int, requests: Int64, tokens: Int64 = 0, mutant: Mutant? = nil) -> FleetOptions {
  var options = FleetOptions()
  options.members = members
  options.mutant = mutant
  options.budget.learns = false
  options.budget.limits[0] = BudgetLimit(.requests, requests, per: .seconds(60))
  if tokens > 0 { options.budget.limits[1] = BudgetLimit(.tokens, tokens, per: .seconds(60)) }
  return options
}

extension Fleet {
  fileprivate func load(_ ids: Range<Int>, _ load: Load) { for id in ids { self.load(id, load) } }

  /// What each has sent in that time.
  fileprivate func sent(in time: Nanoseconds) -> [Int] {
    let before = members.map(\.sent)
    run(time)
    return zip(members, before).map { $0.sent - $1 }
  }

  /// How much is used in that time of what a limit gives.
  fileprivate func use(in time: Nanoseconds) -> Double { part(sent(in: time).reduce(0, +), time) }

  /// So many requests, of what the first limit gives.
  fileprivate func part(_ sum: Int, _ time: Nanoseconds) -> Double {
    Double(sum) / (provider.limits[0].rate * Double(time))
  }

  /// Of the safe share of one member: by how much the provider was overspent at most.
  fileprivate var overshoot: Double { provider.overspent * Double(options.members) }
}

/// The cores of many members and a store; the provider's bucket is empty at the beginning.
@Suite struct Fleets {
  private func isFair(_ sent: [Int], within part: Double) -> Bool {
    let mean = Double(sent.reduce(0, +)) / Double(sent.count)
    return sent.allSatisfy { abs(Double($0) - mean) <= part * mean + 1 }
  }

  @Test func allBusy() {
    let fleet = Fleet(options(8, requests: 1_200, tokens: 200_000))
    fleet.load(0..<8, Load(backlog: 20, cost: 100))
    fleet.run(.seconds(6))
    let asks = fleet.members.map(\.asks)
    let sent = fleet.sent(in: .seconds(12))
    #expect(fleet.part(sent.reduce(0, +), .seconds(12)) > 0.97)
    #expect(isFair(sent, within: 0.1))
    #expect(fleet.overshoot < 0.01 && fleet.broken == nil)
    #expect(zip(fleet.members, asks).allSatisfy { $0.asks - $1 <= 44 })
  }

  /// Within three lease times all of them have their share.
  @Test func aThousandAllBusy() {
    let count = isLong ? 1_000 : 200
    let fleet = Fleet(options(count, requests: Int64(count) * 120))
    fleet.load(0..<count, Load(backlog: 5))
    fleet.run(.seconds(6))
    let sent = fleet.sent(in: .seconds(3))
    #expect(fleet.part(sent.reduce(0, +), .seconds(3)) > 0.95)
    #expect(isFair(sent, within: 0.2))
    #expect(fleet.overshoot <= 1 && fleet.broken == nil)
  }

  /// Nobody gets a part of a request: each has his turn.
  @Test func fewerRequestsThanMembers() {
    let fleet = Fleet(options(isLong ? 1_000 : 200, requests: 1_200))
    fleet.load(0..<fleet.members.count, Load(backlog: 2))
    fleet.run(.seconds(2))
    let sent = fleet.sent(in: .seconds(6))
    #expect(fleet.part(sent.reduce(0, +), .seconds(6)) > 0.95)
    #expect(sent.max()! == 1)
    #expect(fleet.overshoot <= 1)
  }

  @Test func aHundredthOfAThousandBusy() {
    let fleet = Fleet(options(1_000, requests: 12_000))
    fleet.load(0..<10, Load(backlog: 200))
    fleet.run(.seconds(2))
    let sent = fleet.sent(in: .seconds(3))
    #expect(fleet.part(sent.reduce(0, +), .seconds(3)) > 0.95)
    #expect(isFair(Array(sent.prefix(10)), within: 0.2))
    #expect(fleet.overshoot <= 1)
  }

  @Test func oneThatWantsEverythingAndOthersThatWake() {
    let fleet = Fleet(options(8, requests: 1_200, tokens: 200_000))
    fleet.load(0, Load(backlog: 50, cost: 150))
    fleet.run(.seconds(2))
    #expect(fleet.use(in: .seconds(3)) > 0.95)
    fleet.load(1..<8, Load(backlog: 50, cost: 150))
    fleet.run(.seconds(2))
    #expect(isFair(fleet.sent(in: .seconds(6)), within: 0.1))
    // And asleep again.
    fleet.load(1..<8, Load())
    fleet.run(.seconds(2))
    #expect(fleet.use(in: .seconds(3)) > 0.9)
    #expect(fleet.overshoot < 0.01)
  }

  /// A quarter of a minute's tokens, beside seven that are busy with small ones.
  @Test func aLargeRequestIsSavedUpFor() {
    let fleet = Fleet(options(8, requests: 1_200, tokens: 200_000))
    fleet.load(0, Load(backlog: 2, cost: 50_000))
    fleet.load(1..<8, Load(backlog: 50, cost: 500))
    let minutes: Int64 = isLong ? 8 : 4
    fleet.run(.seconds(60 * minutes))
    let spent = fleet.members.map(\.spent)
    // 25,000 a minute; one may be on its way.
    #expect(spent[0] >= 25_000 * minutes - 50_000)
    #expect(spent.reduce(0, +) > 200_000 * minutes * 95 / 100 - 50_000)
    #expect(fleet.overshoot < 0.01)
  }

  /// Eight, each with requests of a quarter of the minute: none holds a part that is of no use.
  @Test func nobodyHoldsWhatNobodyCanUse() {
    let fleet = Fleet(options(8, requests: 1_200, tokens: 30_000))
    fleet.load(0..<8, Load(backlog: 5, cost: 8_000))
    fleet.run(.seconds(300))
    let spent = fleet.members.map(\.spent)
    #expect(spent.reduce(0, +) >= 30_000 * 5 - 8_000 && spent.max()! - spent.min()! <= 8_000)
  }

  @Test func priorityGoesBeforeAllOthers() {
    let fleet = Fleet(options(8, requests: 1_200, tokens: 200_000))
    fleet.load(0..<8, Load(backlog: 50, cost: 100, priority: -1))
    fleet.run(.seconds(5))
    fleet.load(0, Load(backlog: 50, cost: 100, priority: 1))
    fleet.run(.seconds(2))
    let sent = fleet.sent(in: .seconds(3))
    #expect(fleet.part(sent[0], .seconds(3)) > 0.95 && sent.dropFirst().allSatisfy { $0 <= 1 })
  }

  @Test func aMemberThatIsFrozenOrDead() {
    let fleet = Fleet(options(8, requests: 1_200))
    fleet.load(0..<8, Load(backlog: 50))
    fleet.run(.seconds(6))
    fleet.freeze(0)
    fleet.kill(1)
    fleet.run(.seconds(2))
    #expect(fleet.use(in: .seconds(10)) > 0.97)
    let before = fleet.members[0].sent
    fleet.thaw(0)
    fleet.run(.milliseconds(1))
    #expect(fleet.members[0].sent - before <= 1)
    fleet.run(.seconds(6))
    #expect(fleet.use(in: .seconds(6)) > 0.97 && fleet.overshoot < 1)
    #expect(fleet.stores[0]!.memberCount == 7 && fleet.view(0).share!.members == 7)
  }

  /// What it holds as its lease ends is lost; its safe share begins with nothing.
  @Test(arguments: [false, true]) func nothingIsSentOnAnOldLease(isSuspended: Bool) {
    #expect(sentAfterRest(nil, isSuspended: isSuspended) == 0)
  }

  /// Whose first member was busy for a while, and is no more.
  private func fleetAtRest(_ mutant: Mutant?) -> Fleet {
    var options = options(8, requests: 6_000, mutant: mutant)
    options.provided = .seconds(60)
    let fleet = Fleet(options)
    fleet.load(0, Load(perSecond: 50))
    fleet.run(.seconds(4))
    fleet.load(0, Load())
    return fleet
  }

  fileprivate func sentAfterRest(_ mutant: Mutant?, isSuspended: Bool) -> Int {
    let fleet = fleetAtRest(mutant)
    if isSuspended { fleet.suspend(0, for: .seconds(10)) } else { fleet.freeze(0) }
    fleet.run(.seconds(10))
    let before = fleet.members[0].sent
    if !isSuspended { fleet.thaw(0) }
    fleet.load(0, Load(backlog: 200))
    fleet.run(0)
    return fleet.members[0].sent - before
  }

  // MARK: Faults

  /// Whatever happens to messages: of the safe share of one never more is overspent, and all is used.
  @Test(arguments: ["lost", "doubled", "late", "all", "far"]) func messages(fault: String) {
    var options = options(20, requests: 6_000, tokens: 600_000)
    if fault == "lost" { options.lost = 100 }
    if fault == "doubled" { options.doubled = 200 }
    if fault == "late" { options.late = 200 }
    if fault == "far" { options.delay = 40_000...45_000 }
    if fault == "all" { (options.lost, options.doubled, options.late) = (100, 100, 100) }
    let fleet = Fleet(options)
    fleet.load(0..<20, Load(backlog: 30, cost: 90))
    fleet.run(.seconds(6))
    let use = fleet.use(in: .seconds(isLong ? 60 : 12))
    #expect(use > (fault == "late" ? 0.9 : 0.95) && use < 1.03, "\(use)")
    #expect(fleet.overshoot <= 1, "\(fleet.overshoot)")
    #expect(fleet.broken == nil)
  }

  /// Nobody has configured anything: all is what answers tell, which take two tenths of a second or three seconds. What
  /// the provider has at first is used, once.
  @Test(arguments: [0, 10, 60], [200, 3_000]) func limitsThatAreTold(provided: Int, duration: Int) {
    var options = options(8, requests: 1_200, tokens: 200_000)
    options.isLearned = true
    options.provided = .seconds(provided)
    let fleet = Fleet(options)
    var load = Load(backlog: 50, cost: 300)
    load.duration = .milliseconds(duration)
    fleet.load(0..<8, load)
    fleet.run(.seconds(30))
    let tokens = fleet.sent(in: .seconds(30)).reduce(0, +) * 300
    #expect(tokens > 95_000 && tokens < 103_000, "\(tokens)")
    #expect(fleet.provider.overspent < (provided == 0 ? 0.02 : 0.001), "\(fleet.provider.overspent)")
    #expect(fleet.provider.limits[1].level < 20_000 && fleet.broken == nil)
  }

  @Test func aStoreThatIsAwayAndComesBackEmpty() {
    let fleet = Fleet(options(8, requests: 1_200, tokens: 200_000))
    fleet.load(0..<8, Load(backlog: 50, cost: 100))
    fleet.run(.seconds(6))
    fleet.stores = [nil]
    fleet.run(.seconds(2))
    let alone = fleet.use(in: .seconds(18))
    #expect(alone > 0.95 && alone < 1.01)
    fleet.stores = [FleetStore()]
    fleet.run(.seconds(3))
    #expect(fleet.use(in: .seconds(6)) > 0.95)
    #expect(fleet.overshoot < 0.05 && fleet.members.allSatisfy { $0.failed == 0 })
  }

  /// Twice the limit, until they are one again.
  @Test func twoMasters() {
    let fleet = Fleet(options(8, requests: 1_200))
    fleet.load(0..<8, Load(backlog: 50))
    fleet.run(.seconds(6))
    fleet.stores.append(FleetStore())
    for id in 4..<8 { fleet.members[id].store = 1 }
    let use = fleet.use(in: .seconds(10))
    #expect(use > 1.5 && use < 2.05)
    fleet.stores.removeLast()
    fleet.run(.seconds(3))
    #expect(fleet.use(in: .seconds(6)) < 1.05)
  }

  @Test func aStopIsEverybodys() {
    #expect(useAfterStop(nil) > 0.6)
  }

  /// In three seconds, one second after one of five. Who is told of one and tells it again, later, makes it longer.
  fileprivate func useAfterStop(_ mutant: Mutant?) -> Double {
    var options = options(8, requests: 1_200, mutant: mutant)
    options.delay = 200_000...250_000
    let fleet = Fleet(options)
    fleet.load(0..<8, Load(backlog: 50))
    fleet.run(.seconds(6))
    fleet.refuse(3, .seconds(5))
    fleet.run(.seconds(2))
    #expect(fleet.sent(in: .seconds(3)).reduce(0, +) == 0)
    fleet.run(.seconds(1))
    return fleet.use(in: .seconds(3))
  }

  @Test func placesAreOfAllTogether() {
    #expect(mostInFlight(nil) <= 40)
  }

  fileprivate func mostInFlight(_ mutant: Mutant?) -> Int {
    var options = options(8, requests: 600_000, mutant: mutant)
    options.budget.maxConcurrent = 40
    let fleet = Fleet(options)
    fleet.load(0..<4, Load(backlog: 30))
    fleet.run(.seconds(4))
    // It has heard of them all now.
    fleet.mostInFlight = 0
    #expect(fleet.sent(in: .seconds(1)).reduce(0, +) >= 150 && fleet.mostInFlight >= 38)
    fleet.load(4..<8, Load(backlog: 30))
    let sent = fleet.sent(in: .seconds(4))
    #expect(sent[4...].min()! > 30)
    return fleet.mostInFlight
  }

  /// A member that rests says that it lives, and holds nothing.
  fileprivate func rest(_ mutant: Mutant?) -> (members: Int, held: Int64) {
    let fleet = fleetAtRest(mutant)
    fleet.run(.seconds(6))
    return (fleet.stores[0]!.memberCount, fleet.view(0).limits[0].remaining)
  }

  @Test func whoRestsHoldsNothing() {
    let rest = rest(nil)
    #expect(rest.members == 8 && rest.held == 0)
  }

  /// Doubled grants, and late ones.
  fileprivate func overspent(_ mutant: Mutant?, late: Bool) -> String? {
    var options = options(8, requests: 6_000, mutant: mutant)
    if late { options.late = 300 } else { options.doubled = 500 }
    let fleet = Fleet(options)
    fleet.load(0..<8, Load(backlog: 50))
    fleet.run(.seconds(6))
    return fleet.broken ?? (fleet.provider.overspent * 6_000 > (late ? 750 : 2) ? "overspent" : nil)
  }

  /// The safe shares of all, while nobody grants.
  fileprivate func useAlone(_ mutant: Mutant?) -> Double {
    let fleet = Fleet(options(8, requests: 1_200, mutant: mutant))
    fleet.stores = [nil]
    fleet.load(0..<8, Load(backlog: 50))
    return fleet.use(in: .seconds(6))
  }
}

/// Whether that finds what is wrong.
@Suite struct FleetMutants {
  private static var exist: Bool {
    var pool = PoolStateMachine(options: PoolOptions(), seed: 1)
    return pool.activate(.lifo)
  }

  private func verdict(_ mutant: Mutant?) -> String? {
    let fleets = Fleets()
    if fleets.sentAfterRest(mutant, isSuspended: false) > 0 { return "sends on an old lease" }
    if fleets.sentAfterRest(mutant, isSuspended: true) > 0 { return "sends on the lease of before it slept" }
    if let broken = fleets.overspent(mutant, late: false) ?? fleets.overspent(mutant, late: true) { return broken }
    if fleets.useAlone(mutant) > 1.01 { return "more than all safe shares" }
    let rest = fleets.rest(mutant)
    if rest.members < 8 { return "was not heard of" }
    if rest.held > 0 { return "keeps what it does not need" }
    if fleets.mostInFlight(mutant) > 40 { return "too many in flight" }
    return fleets.useAfterStop(mutant) < 0.6 ? "a stop that does not end" : nil
  }

  @Test(.enabled(if: exist), arguments: Mutant.ofFleets) func isCaught(mutant: Mutant) {
    let verdict = verdict(mutant)
    #expect(verdict != nil, "\(mutant) survives")
  }

  @Test func nothingIsWrong() { #expect(verdict(nil) == nil) }
}
