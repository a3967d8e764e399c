import LLMPoolCore
import LLMPoolWire

/// What the engine knows of one scheme, host and port (and TLS server name).
final class Origin {
  let id: OriginID
  /// "https://host:443"; with another TLS server name " as name" follows.
  let name: String
  let host: String
  let port: UInt16
  let isTLS: Bool
  let serverName: String
  /// Both follow the configuration.
  var route = Route.direct
  var hostID: HostID?
  /// Why the last dial failed, for the message of those who waited in vain.
  var lastDialFailure: String?
  var counters = WireCounters()
  /// Who watches was told that a stream of it has no event clock, as it is encoded, and as it is none of events.
  var isEncodedTold = false
  var isEventlessTold = false
  let published = PublishedOrigin()
  var isPublished = false

  init(id: OriginID, name: String, request: RequestState) {
    self.id = id
    self.name = name
    host = request.host
    port = request.url.port
    isTLS = request.url.isTLS
    serverName = request.serverName ?? request.host
  }
}

/// The names that a dial needs the addresses of, and those addresses: the origin's, or its proxy's, or both.
struct HostNames: Hashable {
  /// Whom the connection is made to: the core is told its addresses.
  let peer: String
  /// The origin, where a SOCKS proxy wants to be given an address.
  var behindProxy: String?

  init(origin: String, route: Route) {
    peer = route.proxy?.host ?? origin
    if route.proxy?.scheme == .socks5 { behindProxy = origin }
  }
}

/// What the core calls a host: such names, and the addresses that they have had.
final class Host {
  let id: HostID
  let names: HostNames
  /// Told apart from a later host in the same slot.
  let generation: UInt32
  var origins = 0
  var addresses: [SocketAddress] = []
  var addressesBehindProxy: [SocketAddress] = []
  var failure: String?
  /// What the lookups under way have brought so far.
  var found: [SocketAddress]?
  var foundBehindProxy: [SocketAddress]?

  init(id: HostID, names: HostNames, generation: UInt32) {
    self.id = id
    self.names = names
    self.generation = generation
  }
}
