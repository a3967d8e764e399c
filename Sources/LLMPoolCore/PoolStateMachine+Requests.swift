// A request's life: submitted, queued, sent, finished or ended early. It completes exactly once.
extension PoolStateMachine {
  mutating func submit(_ id: RequestID, _ origin: Int32, _ requestOptions: RequestOptions) {
    makeRoom(forRequest: id.slot)
    let slot = id.slot
    assert(requests[slot].state == .free, "the slot is still in use")
    requests[slot] = RequestRecord()
    requests[slot].id = id
    requests[slot].origin = origin
    requests[slot].order = nextOrder
    nextOrder += 1
    requests[slot].options = requestOptions.resolved(with: options)
    origins[Int(origin)].requests += 1
    origins[Int(origin)].lastUsed = now
    retryBudget.requestArrived()
    count(origin) {
      $0.submitted += 1
      $0.pending += 1
    }
    requests[slot].state = .pending
    requests[slot].waitsSince = min(requestOptions.submittedAt, now)
    requests[slot].queuedAt = requests[slot].waitsSince
    if requestOptions.budget.exists { joinBudget(slot) }
    if requestOptions.hedgeAfter != .max { prepareHedging(slot) }
    if closeDeadline != nil { return complete(slot, .closed) }
    if origins[Int(origin)].breaker.isOpen, !isTrial(slot) { return endBroken(slot) }
    if requestOptions.budget.exists { return enterBudget(slot) }
    seekConnection(slot, isNew: true)
  }

  /// A pending request that nothing else keeps: onto a connection, or into its origin's queue.
  mutating func seekConnection(_ slot: Int, isNew: Bool) {
    let origin = requests[slot].origin
    waiting.append(Int32(slot), &requestLinks)
    if origins[Int(origin)].waiting == 0, let connection = availableConnection(origin) {
      return assign(slot, to: connection)
    }
    guard !isNew || hasRoomToWait else { return complete(slot, .queueFull) }
    enqueue(slot)
    serve(origin)
    if requests[slot].state == .pending { arm(slot) }
  }

  var hasRoomToWait: Bool { counters.pending <= options.maxPendingRequests - (isMutant(.pendingOffByOne) ? 1 : 0) }

  mutating func cancel(_ id: RequestID) {
    guard let slot = live(id) else { return }
    end(slot, .cancelled)
  }

  /// Ends a request in whatever state it is. Its connection is free again before it completes.
  mutating func end(_ slot: Int, _ failure: Failure) {
    let origin = requests[slot].origin
    switch requests[slot].state {
    case .free: return
    case .pending:
      complete(slot, failure)
      coverWaiters(origin)
    case .backingOff: complete(slot, failure)
    case .active:
      let connection = Int(requests[slot].attempt.connection)
      requests[slot].wasSeen = !isMutant(.resetAsUnseen)
      abort(slot)
      leaveAborted(connection)
      complete(slot, failure)
      settle(origin)
    }
  }

  /// A piece of an upload is gone for good. Where a retry was decided already it cannot happen any more, and the
  /// answer was dropped: the request has failed.
  mutating func bodyConsumed(_ slot: Int) {
    requests[slot].bodyConsumed = true
    if requests[slot].hedging == .sent {
      dropHedge(slot)
      settle(requests[slot].origin)
    }
    if requests[slot].isDiscarding { end(slot, .write) }
  }

  /// Takes the attempt off its connection. The caller then frees the connection (`leaveAborted`), decides what
  /// becomes of the request, and gives what is free to others last (`settle`).
  mutating func abort(_ slot: Int) {
    let connection = Int(requests[slot].attempt.connection)
    actions.append(.abort(requests[slot].attemptID, on: connectionID(connection)))
    detach(slot)
  }

  /// An aborted h1 answer may still be on its way: only a stream can end without its connection.
  mutating func leaveAborted(_ connection: Int) {
    if connections[connection].isMultiplexed {
      spendReset(connection)
      released(connection)
    } else {
      closeConnection(connection, .aborted)
    }
  }

  func isTimed(_ slot: Int) -> Bool { requestTimerPositions[slot] != IndexedHeap.absent }

  /// The end of a request, whichever way it came to it.
  mutating func complete(_ slot: Int, _ failure: Failure?, isBroken: Bool = false) {
    let origin = requests[slot].origin
    if requests[slot].hedging == .sent, !isMutant(.hedgeKept) { dropHedge(slot) }
    leaveState(slot)
    requestTimers.removeIfPresent(Int32(slot), &requestTimerPositions)
    count(origin) {
      switch failure {
      case nil: $0.succeeded += 1
      case .cancelled: $0.cancelled += 1
      default: $0.failed += 1
      }
    }
    if let failure, failure != .cancelled { count(origin, .failed(failure)) }
    let unseen = failure != nil && !requests[slot].wasSeen
    var completion = Completion(failure: failure, unseen: unseen, attempts: requests[slot].attempts)
    completion.isBroken = isBroken
    actions.append(.complete(requests[slot].id, completion))
    if origins[Int(origin)].breaker.isOpen { endTrial(slot) }
    if requests[slot].options.budget.exists { partFromBudget(slot) }
    requests[slot].state = .free
    origins[Int(origin)].requests -= 1
    origins[Int(origin)].lastUsed = now
    if origins[Int(origin)].requests == 0 { armOrigin(origin) }
  }

  /// Takes the request out of the count and the queue of its state. An active one has been detached before.
  mutating func leaveState(_ slot: Int) {
    let origin = requests[slot].origin
    switch requests[slot].state {
    case .free: break
    case .pending:
      if requests[slot].budgetStep == .waiting {
        leaveBudgetQueue(slot)
      } else {
        dequeue(slot)
        waiting.removeIfLinked(Int32(slot), &requestLinks)
        if requests[slot].budgetStep == .reserved { leaveBudget(slot) }
      }
      count(origin) { $0.pending -= 1 }
    case .active:
      assert(requests[slot].attempt.connection < 0)
      count(origin) { $0.active -= 1 }
    case .backingOff: count(origin) { $0.backingOff -= 1 }
    }
  }

  // MARK: The queues of an origin

  func rank(_ slot: Int) -> IndexedHeap.Key {
    let request = requests[slot]
    let priority = isMutant(.priorityIgnored) ? 0 : request.options.priority
    let major = request.isAged ? Int64.min : -Int64(priority)
    return IndexedHeap.Key(major: major, minor: isMutant(.lifo) ? .max - request.order : request.order)
  }

  /// Puts a pending request into the queue of those that count on no dial.
  mutating func enqueue(_ slot: Int) {
    requests[slot].isCovered = false
    origins[Int(requests[slot].origin)].uncovered.insert(Int32(slot), rank(slot), &queuePositions)
  }

  mutating func dequeue(_ slot: Int) {
    guard queuePositions[slot] != IndexedHeap.absent else { return }
    let origin = Int(requests[slot].origin)
    if requests[slot].isCovered {
      origins[origin].covered.remove(Int32(slot), &queuePositions)
    } else {
      origins[origin].uncovered.remove(Int32(slot), &queuePositions)
      // Nobody is left who would use a place: it must not be freed for this origin.
      if origins[origin].uncovered.isEmpty { unblock(Int32(origin)) }
    }
  }

  /// The waiter whose turn it is.
  func firstWaiter(_ origin: Int32) -> Int? {
    guard let covered = origins[Int(origin)].covered.first else {
      return origins[Int(origin)].uncovered.first.map { Int($0.slot) }
    }
    guard let uncovered = origins[Int(origin)].uncovered.first else { return Int(covered.slot) }
    return Int(covered.key < uncovered.key ? covered.slot : uncovered.slot)
  }

  /// The waiter begins to count on a dial: its pool clock stops, its connect clock starts.
  mutating func cover(_ slot: Int) {
    dequeue(slot)
    requests[slot].poolTimeUsed += now - requests[slot].waitsSince
    requests[slot].waitsSince = now
    requests[slot].isCovered = true
    origins[Int(requests[slot].origin)].covered.insert(Int32(slot), rank(slot), &queuePositions)
    arm(slot)
  }

  mutating func uncover(_ slot: Int) {
    dequeue(slot)
    requests[slot].waitsSince = now
    enqueue(slot)
    arm(slot)
  }

  // MARK: On a connection

  mutating func assign(_ slot: Int, to connection: Int) {
    let origin = requests[slot].origin
    if requests[slot].budgetStep == .reserved { debit(slot) }
    leaveState(slot)
    count(origin) { $0.active += 1 }
    // It carried others, or was open before anybody waited for it (`warm`).
    let isReused = connections[connection].served > 0 || connections[connection].idleSince < requests[slot].queuedAt
    requests[slot].attempt = beginAttempt(on: connection, isReused: isReused)
    connections[connection].requests.append(Int32(slot), &requestLinks)
    requests[slot].state = .active
    requests[slot].isCovered = false
    requests[slot].attempts += 1
    if requests[slot].hedging != .none { startHedgeClock(slot) }
    actions.append(
      .send(requests[slot].attemptID, requests[slot].id, on: connectionID(connection), reused: isReused))
    arm(slot)
  }

  /// Takes a place on the connection. The caller puts the request on its list.
  @inline(__always) mutating func beginAttempt(on connection: Int, isReused: Bool) -> Attempt {
    if isReused { count(connections[connection].origin) { $0.reused += 1 } }
    if connections[connection].streams == 0 { leaveIdle(connection) }
    connections[connection].streams += 1
    connections[connection].served += 1
    if connections[connection].isMultiplexed { updateRoom(connection) }
    let knowsLimit = !connections[connection].isMultiplexed || connections[connection].streamsAllowed != nil
    let attempt = Attempt(
      sequence: nextSequence, connection: Int32(connection),
      streamsBeforeSettings: knowsLimit ? 0 : connections[connection].streams, clock: .write, clockSince: now)
    nextSequence &+= 1
    return attempt
  }

  /// Takes an active request off its connection, which keeps its count of streams right.
  mutating func detach(_ slot: Int) {
    let connection = Int(requests[slot].attempt.connection)
    connections[connection].requests.remove(Int32(slot), &requestLinks)
    if !isMutant(.slotNotGivenBack) { connections[connection].streams -= 1 }
    if connections[connection].isMultiplexed { updateRoom(connection) }
    requests[slot].attempt.connection = -1
    requests[slot].attempt.clock = .none
    if requests[slot].budgetStep != .none { leaveBudget(slot) }
    if requests[slot].hedging == .dialing { forgetHedgeDial(slot) }
  }

  /// The write clock runs until the request is sent, except while an upload waits for the application; from then
  /// on the clock of the answer, except while the application holds the window closed.
  mutating func progressed(_ slot: Int, _ phase: Phase) {
    switch phase {
    case .wrote:
      requests[slot].attempt.hasProgress = true
      if !requests[slot].attempt.isSent { restartClock(slot, .write) }
    case .sent:
      requests[slot].attempt.hasProgress = true
      guard !requests[slot].attempt.isSent else { return }
      requests[slot].attempt.isSent = true
      awaitAnswer(slot)
    case .waitingForApplication: if !requests[slot].attempt.isSent { requests[slot].attempt.clock = .none }
    case .received:
      requests[slot].attempt.hasProgress = true
      requests[slot].attempt.hasAnswer = true
      origins[Int(requests[slot].origin)].heardAt = now
      if requests[slot].attempt.isSent { awaitAnswer(slot) }
    case .beganEvents:
      requests[slot].attempt.eventsSince = now
      arm(slot)
    case .receivedEvent: requests[slot].attempt.eventsSince = now
    case .heldByApplication:
      requests[slot].attempt.isHeld = true
      if requests[slot].attempt.isSent { requests[slot].attempt.clock = .none }
    case .releasedByApplication:
      requests[slot].attempt.isHeld = false
      if requests[slot].attempt.eventsSince != .never, !isMutant(.eventClockRuns) {
        requests[slot].attempt.eventsSince = now
        arm(slot)
      }
      if requests[slot].attempt.isSent { awaitAnswer(slot) }
    }
  }

  mutating func finished(_ slot: Int, _ outcome: Outcome, _ reusable: Bool) {
    let connection = Int(requests[slot].attempt.connection)
    let origin = requests[slot].origin
    let unseen = outcome.unseen && !isAnswered(slot, outcome)
    let refusal = refusal(of: slot, on: connection)
    detach(slot)
    if let failure = outcome.failure, !unseen, [.read, .write, .protocolViolation, .tls].contains(failure) {
      countFailedAttempt(slot, on: connection, failure)
    }
    leaveFinished(connection, reusable, outcome.failure == nil ? .notReusable : .error)
    if let failure = outcome.failure {
      attemptFailed(slot, failure, unseen: unseen, refusal)
    } else if requests[slot].isDiscarding {
      backOff(slot, until: requests[slot].retryAt)
    } else {
      complete(slot, nil)
    }
    settle(origin)
  }

  /// Who has answered, an interim answer included, has seen the request, whatever he says of it afterwards. A proxy's
  /// own answer is not the origin's.
  private func isAnswered(_ slot: Int, _ outcome: Outcome) -> Bool {
    requests[slot].attempt.hasAnswer && outcome.failure != .proxy && !isMutant(.answeredAsUnseen)
  }

  mutating func makeRoom(forRequest slot: Int) {
    while requests.count <= slot {
      requests.append(RequestRecord())
      requestTimerPositions.append(IndexedHeap.absent)
      queuePositions.append(IndexedHeap.absent)
      requestLinks.append(SlotList.Link())
    }
  }
}
