import Glibc
import LLMPoolCore
import LLMPoolSimulation

// simulate [--seed N] [--seeds COUNT] [--steps M] [--origins O] [--mutant NUMBER]
// Ends with 1 after the first seed that fails, whose shortest trace it prints.
func option(_ name: String) -> UInt64? {
  let words = CommandLine.arguments
  guard let index = words.firstIndex(of: name), index + 1 < words.count else { return nil }
  return UInt64(words[index + 1])
}

@MainActor func simulate(_ seed: UInt64) -> Bool {
  var options = SimulationOptions(
    seed: seed, steps: Int(option("--steps") ?? 1_000_000), origins: Int(option("--origins") ?? 1_000))
  options.mutant = option("--mutant").flatMap { Mutant(rawValue: Int($0)) }
  let simulation = Simulation(options)
  let clock = ContinuousClock()
  let start = clock.now
  if let violation = simulation.run() {
    print("seed \(seed) fails after \(violation.trace.count) steps: \(violation.what)")
    fflush(nil)
    print(minimise(violation, options, budget: 3_000_000))
    return false
  }
  let time = (clock.now - start) / .seconds(1)
  let counters = simulation.core.counters
  print(
    "seed \(seed): \(simulation.stepsTaken) steps, \(Int(Double(simulation.stepsTaken) / time)) a second;",
    "requests \(counters.succeeded) succeeded, \(counters.failed) failed, \(counters.cancelled) cancelled,",
    "\(counters.retries) retries, \(counters.hedges) hedges of which \(counters.hedgesWon) won;",
    "connections \(counters.opened) opened, \(counters.reused) reused")
  fflush(nil)
  return true
}

@MainActor func run() -> Bool {
  let first = option("--seed") ?? UInt64.random(in: 0..<1_000_000_000)
  for seed in first..<(first + (option("--seeds") ?? 1)) where !simulate(seed) { return false }
  return true
}

exit(run() ? 0 : 1)
