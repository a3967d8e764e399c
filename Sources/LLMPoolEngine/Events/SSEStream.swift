import LLMPoolWire

/// The parser of an answer that is an event stream.
final class SSEStream {
  var parser: SSEParser
  /// When its last event was handed out; 0: none was.
  var lastEventAt: Int64 = 0
  /// Events that were handed out since, together.
  var arrived: UInt32 = 0
  /// The last event id where it is long: one run of bytes for all events that have it.
  private var sharedID: PlacedBytes?
  /// An id up to this size is copied into each event's memory.
  static let copiedIDLimit = 64

  init(maximumEventBytes: Int) { parser = SSEParser(maximumEventBytes: maximumEventBytes) }

  /// Room for the id beside an event.
  func roomForID(_ id: UnsafeRawBufferPointer, isNew: Bool) -> Int { isNew || sharedID == nil ? id.count : 0 }

  /// Gives the record the last event id, which is of this event or an earlier one. Returns how much memory it took
  /// that no bytes of this event stand for.
  func giveID(
    _ id: UnsafeRawBufferPointer, isNew: Bool, to record: UnsafeMutablePointer<EventRecord>
  ) -> Int {
    if isNew { sharedID = nil }
    guard id.count > SSEStream.copiedIDLimit else {
      record.pointee.sseID = record.copy(id)
      return isNew ? 0 : id.count
    }
    guard let shared = sharedID else {
      record.pointee.sseID = record.copy(id)
      sharedID = PlacedBytes(bytes: record.pointee.sseID, chunk: record.pointee.chunk.takeUnretainedValue())
      return isNew ? 0 : id.count
    }
    record.pointee.sseID = shared.bytes
    if shared.chunk !== record.pointee.chunk.takeUnretainedValue() {
      record.pointee.bodyChunk = Unmanaged.passRetained(shared.chunk)
    }
    return 0
  }
}
