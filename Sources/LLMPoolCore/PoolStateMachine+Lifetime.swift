// Options that change in use, notices, and the end.
extension PoolStateMachine {
  mutating func reconfigure(_ new: PoolOptions, _ identityChanged: Bool) {
    let old = options
    options = new
    if identityChanged || old.httpVersions != new.httpVersions { changeIdentity() }
    if old.breakerFailures != new.breakerFailures || old.breakerStatuses != new.breakerStatuses {
      for origin in origins.indices where origins[origin].isKnown { resetBreaker(Int32(origin)) }
    }
    for slot in connections.indices where connections[slot].state == .open {
      if connections[slot].isMultiplexed {
        connections[slot].streamLimit = streamLimit(slot)
        updateRoom(slot)
      }
      armConnection(slot)
    }
    trimIdle()
    serveBlocked()
    for origin in origins.indices where origins[origin].isKnown && origins[origin].waiting > 0 { serve(Int32(origin)) }
  }

  /// Proxy and TLS settings are part of what a connection is: nothing rides an old one from now on.
  private mutating func changeIdentity() {
    identity &+= 1
    for origin in origins.indices where origins[origin].isKnown {
      origins[origin].version = assumedVersion(origins[origin].isTLS)
      origins[origin].dialFailures = 0
      origins[origin].dialFailure = nil
      origins[origin].redialAt = Instant(nanoseconds: .min)
      resetBreaker(Int32(origin))
    }
    for slot in connections.indices {
      switch connections[slot].state {
      case .free: continue
      case .dialing: closeConnection(slot, .reconfigured)
      case .open: if !isMutant(.oldIdentityReused) { retire(slot, .reconfigured) }
      }
    }
  }

  // MARK: Notices

  /// Below the warning level by this many percent of the limit the utilisation counts as normal again.
  static var hysteresis: Int { 10 }

  mutating func noteUtilization() {
    let limit = options.maxConnections
    guard limit != .max, limit > 0, options.utilizationWarning > 0 else {
      isUtilizationHigh = false
      return
    }
    let used = counters.connecting + counters.inUse
    let percent = used * 100 / limit
    if !isUtilizationHigh, percent > options.utilizationWarning {
      isUtilizationHigh = true
      guard watched.contains(.utilizationHigh) else { return }
      actions.append(
        .notice(.utilizationHigh(used: used, limit: limit, waiting: waiting.count, longestWait: longestWait())))
    } else if isUtilizationHigh, percent <= max(0, options.utilizationWarning - PoolStateMachine.hysteresis) {
      isUtilizationHigh = false
      guard watched.contains(.utilizationNormal) else { return }
      actions.append(.notice(.utilizationNormal(used: used, limit: limit)))
    }
  }

  private func longestWait() -> Nanoseconds {
    waiting.first == SlotList.none ? 0 : now - requests[Int(waiting.first)].queuedAt
  }

  // MARK: Closing

  mutating func close(_ deadline: Instant) {
    if let closeDeadline { self.closeDeadline = min(closeDeadline, deadline) } else { closeDeadline = deadline }
    while idle.first != SlotList.none { closeConnection(Int(idle.first), .poolClosed) }
    if deadline <= now { endEverything() }
  }

  mutating func endEverything() {
    for slot in requests.indices where requests[slot].state == .active {
      requests[slot].wasSeen = true
      if requests[slot].hedging == .sent { abortHedge(slot) }
      abort(slot)
    }
    for slot in connections.indices where connections[slot].state != .free { closeConnection(slot, .poolClosed) }
    for slot in requests.indices where requests[slot].state != .free { complete(slot, .closed) }
  }

  mutating func stopIfEmpty() {
    guard closeDeadline != nil, !isStopped else { return }
    guard counters.pending + counters.active + counters.backingOff == 0 else { return }
    for slot in connections.indices where connections[slot].state != .free { closeConnection(slot, .poolClosed) }
    noteUtilization()  // nothing is said after the end
    isStopped = true
    actions.append(.stopped)
  }
}
