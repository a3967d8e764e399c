/// Deliberate bugs, each of which the simulation must find. They exist in debug builds only, and sleep there.
package enum Mutant: Int, CaseIterable, Sendable {
  case totalLimitOffByOne, originLimitOffByOne, keepaliveOffByOne, pendingOffByOne, streamLimitOffByOne
  case slotNotGivenBack, placeNotGivenOn, forgottenPoolTimer, forgottenReadTimer, forgottenExpiry, forgottenPing
  case forgottenTotalTimer, forgottenRedial, poolClockRuns, retryTooMany, retryDelivered, retrySeen, lifo
  case priorityIgnored, ageingForgotten, retiringReused, staleAttempt, lookupNotCoalesced, coldBurstDials
  case settingsIgnored, resetAsUnseen, oldIdentityReused, leastRecentlyReused
  case answeredAsUnseen, refusalCounted, refusalForEver, refusalHammered, outageUntold, outageUnexplained
  case backoffBeyondEnd, forgottenResets, redialUnasked, forgottenEventTimer, eventClockRuns
  case reservationIgnored, stopIgnored, concurrencyIgnored, budgetPlaceKept, passedForEver, forgottenBudgetTimer
  case unseenKeepsDebit, correctionForgetsMeanwhile, cutForEach, forgottenBudgetTimeout
  case breakerIgnoresAnswers, breakerUntold, breakerManyTrials, breakerForgetsToDial, breakerRetries
  case hedgeUnasked, hedgeTooEarly, hedgeAnswering, hedgeConsumed, hedgeBeyondShare, hedgeBeyondBudget, hedgeBeside
  case forgottenHedgeTimer, hedgeStreamKept, hedgePlaceKept, hedgeRefusalWins, refusalBeatsHedge, hedgeKept
  case lapseKeepsLevel, safeShareWhole, grantTwice, validFromGrant, leaseForEver, leapIgnored, placesIgnored
  case forgottenLeaseTimer, nothingGivenBack, stopEchoed

  /// Those that show in a fleet alone.
  package static var ofFleets: [Mutant] { allCases.filter { $0.rawValue >= Mutant.lapseKeepsLevel.rawValue } }
}

extension PoolStateMachine {
  /// False where the build has no mutants.
  @discardableResult
  package mutating func activate(_ mutant: Mutant) -> Bool {
    #if MUTANTS
      self.mutant = mutant
      return true
    #else
      return false
    #endif
  }

  @inline(__always)
  func isMutant(_ mutant: Mutant) -> Bool {
    #if MUTANTS
      return self.mutant == mutant
    #else
      return false
    #endif
  }
}
