import LLMPoolCore
import LLMPoolSimulation
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// Full checks of every record at each 512th event, the identities and the origin concerned at each, the model's own
/// books at each action, its search for late clocks at each 64th event.
@Suite struct Simulations {
  private func run(_ seed: UInt64, steps: Int, origins: Int = 1_000) {
    let options = SimulationOptions(seed: seed, steps: steps, origins: origins)
    if let violation = Simulation(options).run() { Issue.record("\(minimise(violation, options))") }
  }

  @Test(arguments: 1...20) func fixedSeeds(seed: UInt64) { run(seed, steps: 5_000) }

  /// Few origins, so that they meet at the limits all the time.
  @Test(arguments: 100...120) func fixedSeedsOfFewOrigins(seed: UInt64) { run(seed, steps: 5_000, origins: 8) }

  /// Seeds that failed once.
  @Test(arguments: [UInt64(5019), 9022, 673_026_707, 2_786_741_954], [8, 1_000])
  func oldFailures(seed: UInt64, origins: Int) {
    run(seed, steps: 35_000, origins: origins)
  }

  @Test func newSeeds() {
    let seconds = getenv("LLMPOOL_SIMULATION_SECONDS").flatMap { Int(String(cString: $0)) } ?? 20
    let clock = ContinuousClock()
    let end = clock.now + .seconds(seconds)
    while clock.now < end {
      let seed = UInt64.random(in: 1_000...UInt64(UInt32.max))
      run(seed, steps: 10_000, origins: seed % 2 == 0 ? 8 : 1_000)
    }
  }

  @Test func theSameSeedIsTheSameRun() {
    let first = Simulation(SimulationOptions(seed: 3, steps: 3_000))
    let second = Simulation(SimulationOptions(seed: 3, steps: 3_000))
    #expect(first.run() == nil && second.run() == nil)
    #expect(first.core.counters == second.core.counters)
    #expect(first.steps.count == second.steps.count)
  }

  @Test func aRecordingPassesTheSameChecks() {
    let options = SimulationOptions(seed: 5, steps: 2_000, origins: 50)
    let simulation = Simulation(options)
    #expect(simulation.run() == nil)
    #expect(replay(simulation.steps, options) == nil)
  }
}

/// Whether the simulation finds what is wrong.
@Suite struct Mutants {
  /// A mutant that is found within the budget, with the seed that found it.
  private func hunt(_ mutant: Mutant) -> (Violation, SimulationOptions)? {
    for seed: UInt64 in 1...120 {
      var options = SimulationOptions(seed: seed, steps: 4_000, origins: seed % 2 == 0 ? 6 : 100)
      options.mutant = mutant
      options.fullCheckEvery = 64
      if let violation = Simulation(options).run() { return (violation, options) }
    }
    return nil
  }

  /// Mutants are in debug builds only.
  private static var exist: Bool {
    var pool = PoolStateMachine(options: PoolOptions(), seed: 1)
    return pool.activate(.lifo)
  }

  @Test(.enabled(if: exist), arguments: Mutant.allCases.filter { !Mutant.ofFleets.contains($0) })
  func isCaught(mutant: Mutant) {
    #expect(hunt(mutant) != nil, "\(mutant) survives")
  }

  /// The machinery that reports a failure, from the seed to the shortest trace, must itself work.
  @Test(.enabled(if: exist)) func canary() throws {
    let (violation, options) = try #require(hunt(.streamLimitOffByOne))
    let short = minimise(violation, options)
    #expect(short.trace.count < max(violation.trace.count / 10, 10))
    #expect(replay(short.trace, options) == short.what)
    #expect("\(short)".hasPrefix("seed \(options.seed): "))
    var healthy = options
    healthy.mutant = nil
    #expect(replay(short.trace, healthy) == nil)
  }
}

/// Ten small runs without any fault, each then repeated with its first step failing, its second, its third ...
@Suite struct EveryStepFails {
  private static let scenarios: [(String, @Sendable (inout SimulationOptions) -> Void)] = [
    ("one origin", { $0.origins = 1 }),
    ("h2 only", { $0.origins = 2 }),
    ("many origins", { $0.origins = 40 }),
    ("one connection", { $0.pool.maxConnections = 1 }),
    ("one for each origin", { $0.pool.maxConnectionsPerOrigin = 1 }),
    ("nothing kept", { $0.pool.maxKeepaliveConnections = 0 }),
    ("one stream", { $0.pool.maxStreamsPerConnection = 1 }),
    ("no retries", { $0.pool.maxRetries = 0 }),
    ("no cache", { $0.pool.dnsCacheTTL = 0 }),
    ("short patience", { $0.pool.timeouts.pool = .milliseconds(50) }),
  ]

  @Test(arguments: 0..<10) func scenario(index: Int) {
    let (name, change) = EveryStepFails.scenarios[index]
    var options = SimulationOptions()
    options.seed = UInt64(index + 1)
    options.steps = 250
    options.origins = 6
    options.isUnruly = false
    options.fullCheckEvery = 1
    options.pool.retryBackoff = .milliseconds(10)
    change(&options)
    var step = 0
    while true {
      step += 1
      options.failingStep = step
      let simulation = Simulation(options)
      if let violation = simulation.run() {
        Issue.record("\(name), step \(step) fails: \(minimise(violation, options))")
        return
      }
      if simulation.connectionSteps < step { break }
    }
    #expect(step > 30)
  }
}
