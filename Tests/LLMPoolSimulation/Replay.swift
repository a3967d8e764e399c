import LLMPoolCore

/// Tells a core what another was told, under the same checks: for recorded runs, and to find the few steps of a
/// failing run that matter. `exactly`: time passes from deadline to deadline as in the simulation, whatever the record
/// says; else as recorded, which checks no clock for being late.
package func replay(_ steps: [Step], _ options: SimulationOptions, exactly: Bool = true) -> String? {
  var player = Player(options)
  player.model.isRecorded = !exactly
  for (index, step) in steps.enumerated() {
    if exactly {
      while let due = player.core.nextDeadline, due <= step.at {
        if let broken = player.tell(Step(at: max(due, player.now), event: nil), isThorough: false) { return broken }
      }
    }
    guard isAllowed(step.event, player.model) else { continue }
    // Everything is looked at after each step only where there are few.
    let isThorough = exactly && (steps.count < 500 || index % 64 == 0)
    if let broken = player.tell(step, isThorough: isThorough) { return broken }
  }
  return nil
}

private struct Player: ~Copyable {
  var core: PoolStateMachine
  let model: Model
  var now = Instant(nanoseconds: .min)
  private var actions: [Action] = []

  init(_ options: SimulationOptions) {
    core = PoolStateMachine(options: options.pool, seed: options.seed)
    if let mutant = options.mutant { core.activate(mutant) }
    model = Model(options: options.pool)
  }

  mutating func tell(_ step: Step, isThorough: Bool) -> String? {
    now = step.at
    model.observe(step.event, at: step.at, core)
    actions.removeAll(keepingCapacity: true)
    if let event = step.event {
      core.handle(event, now: step.at, into: &actions)
    } else {
      core.advance(to: step.at, into: &actions)
    }
    for action in actions { model.observe(action, core) }
    model.settle(core)
    if let broken = core.checkCounts() { model.fail(broken) }
    if isThorough, !(core.nextDeadline.map { $0 <= step.at } ?? false) {
      if let broken = core.checkInvariants() { model.fail(broken) }
      model.scan(core)
    }
    return model.violation
  }
}

/// What the caller of the core promises still holds where steps were left out.
private func isAllowed(_ event: Event?, _ model: Model) -> Bool {
  switch event {
  case .submitted(let id, let origin, let options):
    return model.knows(origin) && !model.hasLive(slot: id.slot) && model.knows(options.budget)
  case .warm(let origin, _): return model.knows(origin)
  default: return true
  }
}

/// A violation without its numbers: leaving steps out must not turn one bug into another.
private func kind(_ what: String) -> String { what.filter { !$0.isNumber && $0 != "-" } }

/// Leaves out steps as long as what is left still fails: halves, quarters, eighths ...; tells a core at most so many
/// steps meanwhile.
package func minimise(_ violation: Violation, _ options: SimulationOptions, budget: Int = 2_000_000) -> Violation {
  var best = violation
  guard let first = replay(best.trace, options) else { return best }
  best.what = first
  var left = budget
  var size = best.trace.count / 2
  while size > 0, left > 0 {
    var start = 0
    while start < best.trace.count, left > 0 {
      var shorter = best.trace
      shorter.removeSubrange(start..<min(start + size, shorter.count))
      left -= shorter.count
      if let what = replay(shorter, options), kind(what) == kind(first) {
        best = Violation(seed: best.seed, what: what, trace: shorter)
      } else {
        start += size
      }
    }
    size /= 2
  }
  return best
}
