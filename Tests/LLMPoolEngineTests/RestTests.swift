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

  @Test func aStreakIsOfOneQueueAndOfLoneRequests() {
    var streak = streak(5)
    streak.note(ObjectIdentifier(other), isLone: true)
    #expect(streak.queue == ObjectIdentifier(other) && streak.count == 1)
    streak.note(ObjectIdentifier(other), isLone: false)
    #expect(streak == Streak())
  }
}
