struct HostRecord {
  /// Origins that share the name; without any the record is as new.
  var origins = SlotList()
  var isResolving = false
  var addresses = AddressList()
  /// When the addresses must be looked up again.
  var freshUntil = Instant(nanoseconds: .min)
  /// A failed refresh is not repeated before.
  var retryAt = Instant(nanoseconds: .min)
  var rotation: UInt32 = 0
  /// Dials that wait for the answer.
  var dials = SlotList()
}
