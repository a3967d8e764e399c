import Testing

@testable import LLMPoolEngine

/// Who has the ear while the engine's thread sleeps, by call and compare.
@Suite struct RestTests {
  private final class Thing {}
  private let queue = Thing()
  private let other = Thing()
  private var id: ObjectIdentifier { ObjectIdentifier(queue) }
  private let millisecond: Int64 = 1_000_000

  private func streak(_ count: Int, of thing: Thing? = nil) -> Streak {
    var streak = Streak()
    for _ in 0..<count { streak.note(ObjectIdentifier(thing ?? queue), isLone: true) }
    return streak
  }

  private func decide(_ change: (inout Situation) -> Void) -> Rest {
    var situation = Situation(now: 1_000 * millisecond, due: .max)
    change(&situation)
    var resting = Resting()
    return resting.decide(situation)
  }

  @Test func nothingToDo() {
    #expect(decide { _ in } == .asleep(.thread, alarm: .max))
    #expect(decide { $0.due = 5 } == .asleep(.thread, alarm: 5))
  }

  @Test(arguments: [1, 2]) func tooFewLoneRequests(count: Int) {
    #expect(
      decide {
        $0.streak = streak(count)
        $0.live = 1
      } == .asleep(.thread, alarm: .max))
  }

  @Test func theQueueOfLoneRequestsHasTheEar() {
    for live in [0, 1] {
      let rest = decide {
        $0.streak = streak(3)
        $0.live = live
      }
      #expect(rest == .asleep(.queue(id), alarm: 1_010 * millisecond))
      #expect(rest.isHeard(by: id))
      #expect(!rest.isHeard(by: ObjectIdentifier(other)))
    }
  }

  @Test func whatIsDueIsTheAlarm() {
    #expect(
      decide {
        $0.streak = streak(3)
        $0.live = 1
        $0.due = 1_002 * millisecond
      } == .asleep(.queue(id), alarm: 1_002 * millisecond))
    #expect(
      decide {
        $0.putOff = 5 * millisecond
        $0.due = 1_002 * millisecond
      } == .asleep(.nobody, alarm: 1_002 * millisecond))
  }

  @Test func aSecondRequestOrADialTakesTheEarBack() {
    #expect(
      decide {
        $0.streak = streak(9)
        $0.live = 2
      } == .asleep(.thread, alarm: .max))
    #expect(
      decide {
        $0.streak = streak(9)
        $0.live = 1
        $0.isDialing = true
      } == .asleep(.thread, alarm: .max))
  }

  @Test func theThreadLooksLessAndLessOftenAndEndsAnIdleStreak() {
    var resting = Resting()
    var situation = Situation(now: 0, due: .max)
    situation.streak = streak(3)
    situation.live = 1
    var alarms: [Int64] = []
    for _ in 0..<4 {
      guard case .asleep(.queue(id), let alarm) = resting.decide(situation) else { break }
      alarms.append(alarm / millisecond)
    }
    #expect(alarms == [10, 20, 40, 40])
    situation.live = 0
    #expect(resting.decide(situation) == .asleep(.thread, alarm: .max))
    situation.streak.note(id, isLone: true)
    #expect(resting.decide(situation) == .asleep(.queue(id), alarm: 10 * millisecond))
  }

  @Test func putOffWakesLeaveSocketsAlone() {
    #expect(decide { $0.putOff = 2 * millisecond } == .asleep(.nobody, alarm: 1_002 * millisecond))
    #expect(decide { $0.putOff = 2_000 * millisecond } == .asleep(.nobody, alarm: 1_040 * millisecond))
    #expect(decide { $0.putOff = 0 } == .asleep(.thread, alarm: .max))
  }

  @Test func butNotWhereSomethingWaitsForThem() {
    #expect(
      decide {
        $0.putOff = 2 * millisecond
        $0.isPressed = true
      } == .asleep(.thread, alarm: .max))
    #expect(
      decide {
        $0.putOff = 2 * millisecond
        $0.isDialing = true
      } == .asleep(.thread, alarm: .max))
  }

  @Test func busyApplicationsSendTogether() {
    let nap = { (patience: Int64?) in self.decide { $0.patience = patience } }
    #expect(nap(2 * millisecond) == .napping(alarm: 1_000 * millisecond + 200_000))
    #expect(nap(80_000) == .napping(alarm: 1_000 * millisecond + 10_000))
    #expect(nap(0) == .asleep(.thread, alarm: .max))
    #expect(nap(nil) == .asleep(.thread, alarm: .max))
    // A nap is shorter than what else is due, and looks at sockets sooner than a wake that is put off.
    #expect(
      decide {
        $0.patience = 2 * millisecond
        $0.putOff = 2 * millisecond
        $0.due = 1_000 * millisecond + 5
      } == .napping(alarm: 1_000 * millisecond + 5))
  }

  @Test func noNapWhereASocketIsWaitedFor() {
    for change: (inout Situation) -> Void in [{ $0.isPressed = true }, { $0.isDialing = true }] {
      let rest = decide {
        $0.patience = 2 * millisecond
        change(&$0)
      }
      #expect(rest == .asleep(.thread, alarm: .max))
    }
  }

  private func submissions(
    _ rest: Rest, coalesce: UInt32, streams: UInt32 = 0, _ busy: [Bool]
  ) -> ([Inbox.Taker], Int64?) {
    let queue = CompletionQueue(coalesceMicroseconds: coalesce, streamCoalesceMicroseconds: streams)
    defer { _ = queue.close() }
    var state = Inbox.State()
    let takers = busy.map { state.noteSubmission(of: queue, isBusy: $0, rest) }
    return (takers, state.patience)
  }

  @Test func onlyBusyApplicationsWaitForANap() {
    #expect(submissions(.napping(alarm: 1), coalesce: 2_000, [true, true]) == ([.napper, .napper], 2_000_000))
    #expect(submissions(.napping(alarm: 1), coalesce: 2_000, [true, false]) == ([.napper, .waked], 0))
    #expect(submissions(.napping(alarm: 1), coalesce: 0, [true]) == ([.waked], 0))
    // Whose answers are told at once, but may be late beside tokens.
    #expect(submissions(.napping(alarm: 1), coalesce: 0, streams: 5_000, [true]) == ([.napper], 2_500_000))
    #expect(submissions(.napping(alarm: 1), coalesce: 0, streams: 5_000, [false]) == ([.waked], 0))
    #expect(submissions(.asleep(.thread, alarm: 1), coalesce: 2_000, [true]) == ([.waked], 2_000_000))
    #expect(submissions(.asleep(.nobody, alarm: 1), coalesce: 2_000, []) == ([], nil))
  }

  @Test func aStreakIsOfOneQueueAndOfLoneRequests() {
    var streak = streak(5)
    streak.note(ObjectIdentifier(other), isLone: true)
    #expect(streak.queue == ObjectIdentifier(other) && streak.count == 1)
    streak.note(ObjectIdentifier(other), isLone: false)
    #expect(streak == Streak())
  }
}
