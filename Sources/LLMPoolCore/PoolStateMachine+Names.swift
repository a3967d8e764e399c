// Origins, and the cache of names.
extension PoolStateMachine {
  /// A name that could not be resolved is not asked for again before.
  static var negativeTTL: Nanoseconds { .seconds(1) }

  mutating func addOrigin(_ origin: Int32, _ host: HostID?, _ isTLS: Bool) {
    while origins.count <= Int(origin) {
      origins.append(OriginRecord())
      originTimerPositions.append(IndexedHeap.absent)
      byConnectionsPositions.append(IndexedHeap.absent)
      blockedLinks.append(SlotList.Link())
      hostOriginLinks.append(SlotList.Link())
    }
    guard !origins[Int(origin)].isKnown else { return changeHost(origin, host) }
    origins[Int(origin)] = OriginRecord()
    origins[Int(origin)].isKnown = true
    origins[Int(origin)].isTLS = isTLS
    joinHost(origin, host)
    origins[Int(origin)].lastUsed = now
    origins[Int(origin)].version = assumedVersion(isTLS)
    armOrigin(origin)
  }

  private mutating func joinHost(_ origin: Int32, _ host: HostID?) {
    origins[Int(origin)].host = host?.slot ?? -1
    guard let host else { return }
    while hosts.count <= Int(host.slot) { hosts.append(HostRecord()) }
    hosts[Int(host.slot)].origins.append(origin, &hostOriginLinks)
  }

  mutating func leaveHost(_ origin: Int32) {
    let host = Int(origins[Int(origin)].host)
    guard host >= 0 else { return }
    hosts[host].origins.remove(origin, &hostOriginLinks)
    if hosts[host].origins.isEmpty { hosts[host] = HostRecord() }
  }

  /// Other proxy settings: from now on somebody else looks the name up. Dials that wait for the old answer ask anew.
  private mutating func changeHost(_ origin: Int32, _ host: HostID?) {
    guard origins[Int(origin)].host != host?.slot ?? -1 else { return }
    var waiting: [Int] = []
    var slot = origins[Int(origin)].connections.first
    while slot != SlotList.none {
      if connections[Int(slot)].isResolving {
        hosts[Int(origins[Int(origin)].host)].dials.remove(slot, &hostDialLinks)
        connections[Int(slot)].isResolving = false
        waiting.append(Int(slot))
      }
      slot = connectionLinks[Int(slot)].next
    }
    leaveHost(origin)
    joinHost(origin, host)
    for slot in waiting { dialWhenResolved(slot) }
  }

  /// What is known without asking: only ALPN can tell for https, unless the options leave no choice.
  func assumedVersion(_ isTLS: Bool) -> WireVersion? {
    switch options.httpVersions {
    case .http1: return .http1
    case .http2: return .http2
    case .automatic: return isTLS ? nil : .http1
    }
  }

  /// The dial goes out now, or when the addresses of its host are known.
  mutating func dialWhenResolved(_ slot: Int) {
    let origin = connections[slot].origin
    let host = Int(origins[Int(origin)].host)
    guard host >= 0 else { return actions.append(dialAction(slot, 0)) }
    if hosts[host].addresses.isEmpty || options.dnsCacheTTL == 0 {
      connections[slot].isResolving = true
      hosts[host].dials.append(Int32(slot), &hostDialLinks)
      return resolve(host, origin)
    }
    count(origin) { $0.dnsCacheHits += 1 }
    // An expired answer serves while it is refreshed (RFC 8767 calls it stale, and better than none).
    if hosts[host].freshUntil <= now, hosts[host].retryAt <= now { resolve(host, origin) }
    let rotation = hosts[host].rotation
    hosts[host].rotation &+= 1
    actions.append(dialAction(slot, rotation))
  }

  private func dialAction(_ slot: Int, _ rotation: UInt32) -> Action {
    .dial(
      connectionID(slot), OriginID(slot: connections[slot].origin), rotation: rotation,
      deadline: connections[slot].deadline)
  }

  private mutating func resolve(_ host: Int, _ origin: Int32) {
    guard !hosts[host].isResolving || isMutant(.lookupNotCoalesced) else { return }
    hosts[host].isResolving = true
    count(origin) { $0.dnsLookups += 1 }
    actions.append(.resolve(HostID(slot: Int32(host))))
  }

  mutating func resolved(_ host: Int, _ addresses: AddressList) {
    guard host < hosts.count, hosts[host].isResolving else { return }
    guard !addresses.isEmpty else { return resolveFailed(host) }
    hosts[host].isResolving = false
    hosts[host].freshUntil = now + options.dnsCacheTTL
    let old = hosts[host].addresses
    hosts[host].addresses = addresses
    while hosts[host].dials.first != SlotList.none {
      let slot = Int(hosts[host].dials.first)
      hosts[host].dials.remove(Int32(slot), &hostDialLinks)
      connections[slot].isResolving = false
      let rotation = hosts[host].rotation
      hosts[host].rotation &+= 1
      actions.append(dialAction(slot, rotation))
    }
    if !old.isEmpty { retireGoneAddresses(host) }
  }

  /// Connections to addresses that the name no longer has: idle ones are closed, busy ones at their end.
  private mutating func retireGoneAddresses(_ host: Int) {
    var origin = hosts[host].origins.first
    while origin != SlotList.none {
      var slot = origins[Int(origin)].connections.first
      while slot != SlotList.none {
        let connection = Int(slot)
        slot = connectionLinks[connection].next
        guard let address = connections[connection].address, !hosts[host].addresses.contains(address) else { continue }
        retire(connection, .addressGone)
      }
      settle(origin)
      origin = hostOriginLinks[Int(origin)].next
    }
  }

  /// A refresh that failed leaves the old addresses in use; without any, all who wait for the name fail.
  mutating func resolveFailed(_ host: Int) {
    guard host < hosts.count, hosts[host].isResolving else { return }
    hosts[host].isResolving = false
    hosts[host].retryAt = now + PoolStateMachine.negativeTTL
    while hosts[host].dials.first != SlotList.none {
      let slot = Int(hosts[host].dials.first)
      let origin = connections[slot].origin
      removeConnection(slot, .dialFailed)
      count(origin) { $0.connectFailures += 1 }
      // One lookup is one failure, however many dials waited for it.
      if origins[Int(origin)].dialing == 0 { countFailedDial(origin, .resolve) }
      failWaiters(origin, .resolve)
    }
    var origin = hosts[host].origins.first
    while origin != SlotList.none {
      settle(origin)
      origin = hostOriginLinks[Int(origin)].next
    }
  }

  /// The name could not be resolved a moment ago: the same answer, without asking.
  func hasNoAddress(_ origin: Int32) -> Bool {
    let host = Int(origins[Int(origin)].host)
    return host >= 0 && hosts[host].addresses.isEmpty && !hosts[host].isResolving && hosts[host].retryAt > now
  }

  mutating func failWaiters(_ origin: Int32, _ failure: Failure) {
    guard origins[Int(origin)].dialing == 0 else { return }
    while let slot = firstWaiter(origin) { complete(slot, failure) }
  }

  mutating func warm(_ origin: Int32, _ wanted: Int) {
    guard closeDeadline == nil else { return }
    origins[Int(origin)].lastUsed = now
    let version = origins[Int(origin)].version
    // One connection first where it may turn out to carry everything.
    let target = version == nil ? min(wanted, 1) : wanted
    if version == nil { origins[Int(origin)].warmTarget = wanted }
    var room = max(0, keepaliveLimit - counters.idle)
    while room > 0, origins[Int(origin)].counters.connections < target, mayHoldMore(origin), hasPlace,
      origins[Int(origin)].redialAt <= now, !hasNoAddress(origin)
    {
      startDial(origin, timeout: options.timeouts.connect)
      room -= 1
    }
  }
}
