// A second attempt for a request whose first is silent, where the request asks for it: the first head that would not be
// retried is the answer, and the other attempt is aborted. It goes out at once or not at all: on another connection of
// the origin that is free; on one that is dialled for it, where that takes a place from nobody; on another stream of
// the same connection. Nobody waits for it, and it goes before nobody who waits.
//
// The first attempt is the record's, the second lies in `hedges`. When the first is over and the second goes on, it
// becomes the record's (`promote`); what is done to either is done to the record, for which the two are exchanged.
extension PoolStateMachine {
  /// A new request asks for a hedge. Only what may be sent again whatever the server has done has one.
  mutating func prepareHedging(_ slot: Int) {
    let flags = requests[slot].options.flags
    guard flags.contains(.retrySent) || isMutant(.hedgeUnasked), !flags.contains(.noRetry) else { return }
    while hedges.count <= slot {
      hedges.append(Hedge())
      hedgeLinks.append(SlotList.Link())
    }
    hedges[slot] = Hedge()
    requests[slot].hedging = .wanted
    hedgeShare.requestArrived(options.hedgePercent)
  }

  /// An attempt begins.
  mutating func startHedgeClock(_ slot: Int) {
    if requests[slot].hedging == .promoted { requests[slot].hedging = .over }
    guard requests[slot].hedging == .wanted else { return }
    hedges[slot].firstSentAt = now
    let patience = requests[slot].options.hedgeAfter
    hedges[slot].goesOutAt = now + (isMutant(.hedgeTooEarly) ? patience / 2 : patience)
    hedges[slot].hasDialled = false
  }

  /// When it goes out, or its own clock runs out.
  func hedgeDeadline(_ slot: Int) -> Instant {
    switch requests[slot].hedging {
    case .wanted: return isSilent(slot) ? hedges[slot].goesOutAt : .never
    case .sent:
      return isMutant(.forgottenHedgeTimer)
        ? .never : silence(of: hedges[slot].attempt, requests[slot].options.timeouts).due
    case .none, .dialing, .promoted, .over: return .never
    }
  }

  /// Nothing has come of the first attempt, and it may be sent again.
  private func isSilent(_ slot: Int) -> Bool {
    (!requests[slot].attempt.hasAnswer || isMutant(.hedgeAnswering))
      && (isReplayable(slot) || isMutant(.hedgeConsumed))
  }

  mutating func hedgeDue(_ slot: Int) {
    if requests[slot].hedging == .sent {
      dropHedge(slot)
      settle(requests[slot].origin)
    } else {
      tryHedge(slot)
    }
    arm(slot)
  }

  // MARK: Going out

  private mutating func tryHedge(_ slot: Int) {
    hedges[slot].goesOutAt = .never
    guard mayHedge(slot) else { return }
    if let connection = otherConnection(slot) { return sendHedge(slot, on: connection) }
    if mayDialHedge(slot) { return dialHedge(slot) }
    if let same = availableConnection(requests[slot].origin) { sendHedge(slot, on: same) }
  }

  private func mayHedge(_ slot: Int) -> Bool {
    guard requests[slot].hedging == .wanted, requests[slot].state == .active, isSilent(slot) else { return false }
    guard !origins[Int(requests[slot].origin)].breaker.isOpen else { return false }
    guard hedgeShare.allowsOne(options.hedgePercent) || isMutant(.hedgeBeyondShare) else { return false }
    let budget = requests[slot].options.budget
    return !budget.exists || isMutant(.hedgeBeyondBudget) || hasRoomNow(Int(budget.slot), estimate(slot))
  }

  /// A free one that is not that of the first attempt: the fullest h2 connection, else the h1 connection used last.
  /// Where one is free nobody waits for it.
  private func otherConnection(_ slot: Int) -> Int? {
    let origin = Int(requests[slot].origin)
    if isMutant(.hedgeBeside) { return availableConnection(Int32(origin)) }
    let own = requests[slot].attempt.connection
    // The fullest two are among the first three of a heap.
    let room = origins[origin].room.entries.prefix(3).filter { $0.slot != own }
    if let fullest = room.min(by: { $0.key < $1.key }) { return Int(fullest.slot) }
    let idle = origins[origin].idle.last
    return idle == SlotList.none ? nil : Int(idle)
  }

  /// Only where nobody else waits, and nothing has to end for it. Where one connection carries many requests, or may
  /// turn out to, nobody dials beside another dial.
  private func mayDialHedge(_ slot: Int) -> Bool {
    let origin = requests[slot].origin
    guard !hedges[slot].hasDialled, origins[Int(origin)].waiting == 0 else { return false }
    guard hasPlace, mayHoldMore(origin) else { return false }
    guard origins[Int(origin)].redialAt <= now, !hasNoAddress(origin) else { return false }
    return origins[Int(origin)].dialing == 0 || origins[Int(origin)].version == .http1
  }

  private mutating func dialHedge(_ slot: Int) {
    hedgeShare.take()
    hedges[slot].hasDialled = true
    requests[slot].hedging = .dialing
    let timeout = max(options.timeouts.connect, requests[slot].options.timeouts.connect)
    let connection = startDial(requests[slot].origin, timeout: timeout)
    hedges[slot].dial = Int32(connection)
    connections[connection].hedgeFor = Int32(slot)
  }

  /// Who has come since waits for the connection, too, and goes first.
  mutating func hedgeDialed(_ connection: Int) {
    let slot = Int(connections[connection].hedgeFor)
    forgetHedgeDial(slot)
    reuse(connections[connection].origin)
    // Where others wait for its place what has become free is theirs.
    if blockedWithout.isEmpty, blockedWith.isEmpty { tryHedge(slot) } else { hedges[slot].goesOutAt = now }
    arm(slot)
  }

  /// It is looked at again, without another dial.
  mutating func hedgeDialLost(_ connection: Int) {
    let slot = Int(connections[connection].hedgeFor)
    forgetHedgeDial(slot)
    hedges[slot].goesOutAt = now
    arm(slot)
  }

  /// The dial goes on, for whoever comes. The next attempt of the request may have another.
  mutating func forgetHedgeDial(_ slot: Int) {
    connections[Int(hedges[slot].dial)].hedgeFor = -1
    hedges[slot].dial = -1
    requests[slot].hedging = .wanted
    hedgeShare.giveBack()
  }

  private mutating func sendHedge(_ slot: Int, on connection: Int) {
    let origin = requests[slot].origin
    hedgeShare.take()
    if requests[slot].options.budget.exists { debitHedge(slot) }
    let isReused = connections[connection].served > 0 || connections[connection].idleSince < now
    hedges[slot].attempt = beginAttempt(on: connection, isReused: isReused)
    connections[connection].hedges.append(Int32(slot), &hedgeLinks)
    requests[slot].hedging = .sent
    requests[slot].attempts += 1
    count(origin) { $0.hedges += 1 }
    let id = AttemptID(slot: Int32(slot), sequence: hedges[slot].attempt.sequence)
    actions.append(.hedge(id, requests[slot].id, on: connectionID(connection), reused: isReused))
    if watched.contains(.hedge) {
      let silence = now - hedges[slot].firstSentAt
      actions.append(.notice(.hedge(requests[slot].id, OriginID(slot: origin), after: silence)))
    }
    arm(slot)
  }

  // MARK: With the request's budget

  /// As it was submitted: what the application has said since is what the first attempt took.
  private func estimate(_ slot: Int) -> Cost {
    Cost(requests: 1, input: requests[slot].options.inputCost, output: requests[slot].options.outputCost)
  }

  private mutating func debitHedge(_ slot: Int) {
    hedges[slot].use = BudgetUse()
    hedges[slot].use.cost = estimate(slot)
    exchange(slot)
    setAside(slot)
    debit(slot)
    exchange(slot)
  }

  // MARK: Which attempt is the record's

  private mutating func exchange(_ slot: Int) {
    swap(&requests[slot].attempt, &hedges[slot].attempt)
    guard requests[slot].options.budget.exists else { return }
    swap(&requests[slot].budgetStep, &hedges[slot].budgetStep)
    swap(&uses[slot], &hedges[slot].use)
  }

  /// The first attempt is off its connection, and the hedge goes on in its place.
  mutating func promote(_ slot: Int) {
    let connection = Int(hedges[slot].attempt.connection)
    connections[connection].hedges.remove(Int32(slot), &hedgeLinks)
    exchange(slot)
    connections[connection].requests.append(Int32(slot), &requestLinks)
    requests[slot].hedging = .promoted
    actions.append(.promoted(requests[slot].attemptID))
    arm(slot)
  }

  // MARK: Its end

  /// Takes it off its connection. What it was to take of a budget stays taken.
  private mutating func detachHedge(_ slot: Int) {
    let connection = Int(hedges[slot].attempt.connection)
    connections[connection].hedges.remove(Int32(slot), &hedgeLinks)
    if !isMutant(.hedgeStreamKept) { connections[connection].streams -= 1 }
    if connections[connection].isMultiplexed { updateRoom(connection) }
    hedges[slot].attempt.connection = -1
    hedges[slot].attempt.clock = .none
    requests[slot].hedging = .over
    guard hedges[slot].budgetStep != .none, !isMutant(.hedgePlaceKept) else { return }
    exchange(slot)
    leaveBudget(slot)
    exchange(slot)
  }

  /// The caller frees its connection.
  mutating func abortHedge(_ slot: Int) {
    let id = AttemptID(slot: Int32(slot), sequence: hedges[slot].attempt.sequence)
    actions.append(.abort(id, on: connectionID(Int(hedges[slot].attempt.connection))))
    detachHedge(slot)
    requests[slot].wasSeen = true
  }

  /// The first attempt goes on alone, or the request ends. What has become free goes to others last (`settle`).
  mutating func dropHedge(_ slot: Int) {
    let connection = Int(hedges[slot].attempt.connection)
    abortHedge(slot)
    leaveAborted(connection)
  }

  /// Its connection was closed by the engine, which tells nothing more of it.
  mutating func hedgeClosed(_ slot: Int) {
    let connection = Int(hedges[slot].attempt.connection)
    detachHedge(slot)
    if hedges[slot].attempt.hasProgress { requests[slot].wasSeen = true } else { hedgeUnseen(slot, connection) }
  }

  /// Nobody has acted on it. Where its connection is gone, as an idle one often is when somebody comes back to it, it
  /// was none, and goes out elsewhere: at once, or not at all.
  private mutating func hedgeUnseen(_ slot: Int, _ connection: Int) {
    exchange(slot)
    refund(slot)
    exchange(slot)
    guard !connections[connection].isMultiplexed else { return }
    hedgeShare.giveBack()
    requests[slot].hedging = .wanted
    hedges[slot].goesOutAt = now
    arm(slot)
  }

  // MARK: What is told of it

  @inline(never) mutating func tellHedge(_ event: Event) {
    switch event {
    case .progressed(let id, let phase):
      guard let slot = liveHedge(id) else { return }
      exchange(slot)
      progressed(slot, phase)
      exchange(slot)
    case .limitsTold(let id, let report):
      guard let slot = liveHedge(id) else { return }
      exchange(slot)
      told(slot, report)
      exchange(slot)
    case .answered(let id, let status, let advice):
      if let slot = liveHedge(id) { hedgeAnswered(slot, status, advice) }
    case .finished(let id, let outcome, let reusable):
      if let slot = liveHedge(id) { hedgeFinished(slot, outcome, reusable) }
    default: return
    }
  }

  private func liveHedge(_ id: AttemptID) -> Int? {
    let slot = Int(id.slot)
    guard slot < requests.count, requests[slot].hedging == .sent else { return nil }
    return hedges[slot].attempt.sequence == id.sequence ? slot : nil
  }

  private mutating func hedgeAnswered(_ slot: Int, _ status: Int, _ advice: RetryAdvice) {
    let origin = requests[slot].origin
    if isTemporary(status, advice), !isMutant(.hedgeRefusalWins) {
      exchange(slot)
      headOfBudget(slot, status, advice)
      countAnswer(slot, status)
      exchange(slot)
      dropHedge(slot)
    } else {
      win(slot)
      answered(slot, status, advice)
    }
    settle(origin)
  }

  private mutating func win(_ slot: Int) {
    let connection = Int(requests[slot].attempt.connection)
    requests[slot].wasSeen = true
    abort(slot)
    leaveAborted(connection)
    promote(slot)
  }

  private mutating func hedgeFinished(_ slot: Int, _ outcome: Outcome, _ reusable: Bool) {
    let connection = Int(hedges[slot].attempt.connection)
    guard let failure = outcome.failure else {
      win(slot)
      return finished(slot, outcome, reusable)
    }
    let unseen = outcome.unseen && (!hedges[slot].attempt.hasAnswer || failure == .proxy)
    detachHedge(slot)
    if unseen { hedgeUnseen(slot, connection) } else { requests[slot].wasSeen = true }
    leaveFinished(connection, reusable, .error)
    settle(requests[slot].origin)
  }

  /// The head of the first attempt is here. True: it is dropped, and the hedge goes on.
  mutating func yieldsToHedge(_ slot: Int, _ status: Int, _ advice: RetryAdvice) -> Bool {
    switch requests[slot].hedging {
    case .none, .promoted, .over: return false
    case .wanted: hedges[slot].goesOutAt = .never
    case .dialing: forgetHedgeDial(slot)
    case .sent:
      if isTemporary(status, advice), !isMutant(.refusalBeatsHedge) {
        win(slot)
        settle(requests[slot].origin)
        return true
      }
      if !isMutant(.hedgeKept) { dropHedge(slot) }
      settle(requests[slot].origin)
    }
    return false
  }
}
