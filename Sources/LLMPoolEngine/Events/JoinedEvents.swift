import LLMPoolWire

/// Events of one stream that came together and go out as one.
struct JoinedEvents: ~Copyable {
  private(set) var count: UInt32 = 0
  private(set) var credit = 0
  private var dataBuffer = ByteBuffer()
  private var idBuffer = ByteBuffer()

  var isShort: Bool { dataBuffer.isShort || idBuffer.isShort }

  /// Separated by CR, which ends lines and so is in no event's data.
  var data: UnsafeRawBufferPointer { dataBuffer.readable }
  var id: UnsafeRawBufferPointer { idBuffer.readable }

  mutating func add(_ event: SSEEvent) {
    if count == 0 { idBuffer.append(event.id) } else { dataBuffer.append(0x0D) }
    dataBuffer.append(event.data)
    count += 1
    credit += event.credit
  }

  mutating func removeAll() {
    (count, credit) = (0, 0)
    dataBuffer.removeAll(keepingCapacityUpTo: 262_144)
    idBuffer.removeAll(keepingCapacity: true)
  }
}
