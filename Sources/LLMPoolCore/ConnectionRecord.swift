struct ConnectionRecord {
  enum State: UInt8 {
    /// Can transition to: dialing
    case free
    /// Name, TCP, proxy and TLS. Can transition to: open, free
    case dialing
    /// Can transition to: free
    case open
  }
  var state = State.free
  var version = WireVersion.http1
  /// Takes nothing new (`stopUsing`); closed when its last request is over, for this reason.
  var isRetiring = false
  var retireReason = CloseReason.retired
  /// What the server's SETTINGS on this connection allow; nil until they came.
  var streamsAllowed: Int?
  var isPinging = false
  /// The dial waits for its host's addresses.
  var isResolving = false
  var generation: UInt32 = 0
  /// The configuration that it was dialled with.
  var identity: UInt32 = 0
  var origin: Int32 = -1
  var streams = 0
  var streamLimit = 1
  var served: UInt64 = 0
  var requests = SlotList()
  /// Requests whose second attempt it carries.
  var hedges = SlotList()
  /// dialing: the request for whose second attempt it is dialled.
  var hedgeFor: Int32 = -1
  /// dialing: when its connect timeout is over; open: when it is too old.
  var deadline = Instant.never
  var idleSince = Instant.never
  var keepaliveExpiry = Nanoseconds.max
  var lastReceived = Instant.never
  var pingedAt = Instant(nanoseconds: .min)
  var address: AddressID?
  /// Resets that may still be sent before servers take us for an attacker; refilled with time.
  var resetBudget = 0
  var resetBudgetAt = Instant.never
  /// When resets that the engine holds back go out although no answer to its PING came.
  var resetsDueAt = Instant.never

  var isIdle: Bool { state == .open && streams == 0 }
  var isMultiplexed: Bool { version.isMultiplexed }
}
