import CLLMPoolSystem
import Glibc
import LLMPoolCore

// Origins, names and dials.
extension Engine {
  // MARK: Origins

  /// Requests come to the origin of the one before as a rule: its bytes are compared before a name is made and hashed.
  func originID(of request: RequestState) -> OriginID {
    guard request.serverName == nil else { return originByName(request).id }
    if let lastOrigin, isLastOrigin(request.originText) { return lastOrigin }
    let origin = originByName(request).id
    lastOrigin = origin
    lastOriginText = Array(request.originText)
    return origin
  }

  private func isLastOrigin(_ text: UnsafeRawBufferPointer) -> Bool {
    text.count == lastOriginText.count && memcmp(text.baseAddress!, lastOriginText, text.count) == 0
  }

  private func originByName(_ request: RequestState) -> Origin {
    var name = request.originName
    if let serverName = request.serverName { name += " as \(serverName)" }
    if let slot = originByName[name], let origin = origins[slot] { return origin }
    let slot = origins.firstIndex { $0 == nil } ?? origins.count
    if slot == origins.count { origins.append(nil) }
    let origin = Origin(id: OriginID(slot: Int32(slot)), name: name, request: request)
    origins[slot] = origin
    originByName[name] = slot
    chooseRoute(origin)
    if origin.isTLS { readAuthorities() }
    return origin
  }

  /// By which way, hence by whose addresses, the origin is reached; tells the core.
  private func chooseRoute(_ origin: Origin) {
    let proxy = proxyRules.proxy(host: origin.host, port: origin.port, isTLS: origin.isTLS)
    origin.route = Route(proxy: proxy, isTLS: origin.isTLS, versions: settings.core.httpVersions)
    let host = host(of: HostNames(origin: origin.host, route: origin.route))
    guard origin.hostID != host.id else { return }
    host.origins += 1
    let old = origin.hostID
    origin.hostID = host.id
    tell(.originAdded(origin.id, host.id, isTLS: origin.isTLS))
    leave(old)
  }

  /// After other settings: before the core hears of them and dials anew.
  func chooseRoutes() {
    for case let origin? in origins { chooseRoute(origin) }
  }

  func forget(_ id: OriginID) {
    guard let origin = origins[Int(id.slot)] else { return }
    origins[Int(id.slot)] = nil
    originByName[origin.name] = nil
    if lastOrigin == origin.id { lastOrigin = nil }
    forgotten.append(origin.name)
    leave(origin.hostID)
    publishStatistics()  // before another origin has its slot
  }

  private func leave(_ id: HostID?) {
    guard let id, let host = hosts[Int(id.slot)] else { return }
    host.origins -= 1
    guard host.origins == 0 else { return }
    hosts[Int(id.slot)] = nil
    hostByNames[host.names] = nil
  }

  /// TLS sessions are shared by the connections of one origin.
  func sessionKey(_ origin: Origin) -> UInt64 {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in origin.name.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
    return hash
  }

  // MARK: Authorities

  /// Sees to it that TLS can be started; begun with the origin, while its name is looked up and TCP connects.
  func readAuthorities() {
    let context = tls
    guard !context.hasAuthorities, !authorityReadings.contains(where: { $0.context === context }) else { return }
    let id = ObjectIdentifier(context)
    if let reading = AuthorityReading(context, done: { [inbox] in inbox.post(.authoritiesRead(id)) }) {
      authorityReadings.append(reading)
    } else {
      context.readAuthoritiesHere()
    }
  }

  func authoritiesRead(_ id: ObjectIdentifier) {
    guard let index = authorityReadings.firstIndex(where: { ObjectIdentifier($0.context) == id }) else { return }
    let reading = authorityReadings.remove(at: index)
    reading.ended()
    reading.context.noteAuthorities()
    for case let connection? in connections { connection.authoritiesRead(reading.context) }
  }

  // MARK: Names

  private func host(of names: HostNames) -> Host {
    if let slot = hostByNames[names], let host = hosts[slot] { return host }
    let slot = hosts.firstIndex { $0 == nil } ?? hosts.count
    if slot == hosts.count { hosts.append(nil) }
    hostGeneration &+= 1
    let host = Host(id: HostID(slot: Int32(slot)), names: names, generation: hostGeneration)
    hosts[slot] = host
    hostByNames[names] = slot
    return host
  }

  func resolve(_ id: HostID) {
    guard let host = hosts[Int(id.slot)] else { return }
    host.found = nil
    host.foundBehindProxy = host.names.behindProxy == nil ? [] : nil
    look(up: host.names.peer, for: host)
    if let name = host.names.behindProxy, name != host.names.peer { look(up: name, for: host) }
  }

  private func look(up name: String, for host: Host) {
    let token = UInt64(host.generation) << 32 | UInt64(UInt32(bitPattern: host.id.slot))
    if let result = resolver.lookup(host: name, token: token) { lookedUp(result) }
  }

  func lookedUp(_ result: LookupResult) {
    let slot = Int(UInt32(truncatingIfNeeded: result.token))
    guard slot < hosts.count, let host = hosts[slot], host.generation == UInt32(result.token >> 32) else { return }
    switch result.outcome {
    case .failed(let failure):
      host.failure = failure.message
      // The core takes one answer for a question: the other name's comes in vain.
      (host.found, host.foundBehindProxy) = (nil, nil)
      tell(.resolveFailed(host.id))
    case .addresses(let addresses):
      if result.host == host.names.peer { host.found = Array(addresses.prefix(AddressList.capacity)) }
      if result.host == host.names.behindProxy { host.foundBehindProxy = Array(addresses.prefix(AddressList.capacity)) }
      guard let found = host.found, let behind = host.foundBehindProxy else { return }
      (host.addresses, host.addressesBehindProxy) = (found, behind)
      var list = AddressList()
      for address in found { list.append(addressID(address)) }
      tell(.resolved(host.id, list))
    }
  }

  private func addressID(_ address: SocketAddress) -> AddressID {
    let plain = address.with(port: 0)
    if let id = addressIDs[plain] { return id }
    let id = AddressID(value: UInt32(addressIDs.count))
    addressIDs[plain] = id
    return id
  }

  // MARK: Dials

  func dial(_ id: ConnectionID, _ originID: OriginID, _ rotation: UInt32, _ deadline: Instant) {
    guard let origin = origins[Int(originID.slot)] else { return }
    let slot = Int(id.slot)
    while connections.count <= slot { connections.append(nil) }
    let connection = Connection(id, origin, self)
    connections[slot] = connection
    connection.resolvedAt = now
    let host = origin.hostID.flatMap { hosts[Int($0.slot)] }
    let peers = Engine.rotated(host?.addresses ?? [], rotation)
    var request = DialRequest(
      token: connection.tag, host: origin.host, port: origin.port, addresses: [],
      timeoutMilliseconds: Engine.milliseconds(until: deadline, from: now), keepalive: settings.keepalive)
    if var proxy = origin.route.proxy {
      proxy.addresses = peers.map { $0.with(port: proxy.port) }
      request.proxy = proxy
      request.tunnel = origin.route.usesTunnel
      let behind = Engine.rotated(host?.addressesBehindProxy ?? [], rotation)
      request.addresses = behind.map { $0.with(port: origin.port) }
    } else {
      request.addresses = peers.map { $0.with(port: origin.port) }
    }
    dialer.dial(request)
  }

  /// Rounded up, at least 1: libcurl may not give up before the core does. 0: no end.
  private static func milliseconds(until deadline: Instant, from now: Int64) -> UInt32 {
    guard deadline != .never else { return 0 }
    return UInt32(clamping: max(1, (deadline.nanoseconds - now + 999_999) / 1_000_000))
  }

  /// So that new connections spread over the addresses.
  private static func rotated(_ addresses: [SocketAddress], _ rotation: UInt32) -> [SocketAddress] {
    guard addresses.count > 1 else { return addresses }
    let first = Int(rotation) % addresses.count
    return Array(addresses[first...] + addresses[..<first])
  }

  func takeDialResults() {
    for result in dialer.takeResults() {
      let slot = Int(UInt32(truncatingIfNeeded: result.token))
      let connection = slot < connections.count ? connections[slot] : nil
      guard let connection, connection.tag == result.token, connection.phase == .dialing else {
        if case .connected(let descriptor, _, _) = result.outcome { Descriptors.close(descriptor) }
        continue
      }
      switch result.outcome {
      case .connected(let descriptor, let peer, let address):
        connection.connected(descriptor, peer, addressID(address))
      case .failed(let failure): connection.dialFailed(failure)
      }
    }
  }
}
