/// Hands out memory for events, a new chunk when the present one is full. Belongs to the engine's thread.
struct EventAllocator {
  private var chunk = EventChunk(capacity: EventChunk.usualSize)

  /// A record, and room behind it for `bytes` bytes in at most `parts` runs.
  mutating func makeRecord(bytes: Int, parts: Int) -> UnsafeMutablePointer<EventRecord> {
    makeRoom(EventChunk.rounded(MemoryLayout<EventRecord>.size) + bytes + parts * 32)
    return chunk.makeRecord()
  }

  /// Makes room for a large record. False: there is no memory for it.
  mutating func prepare(bytes: Int, parts: Int) -> Bool {
    let need = EventChunk.rounded(MemoryLayout<EventRecord>.size) + bytes + parts * 32
    guard need > EventChunk.usualSize, chunk.room < need else { return true }
    guard let large = EventChunk(large: need) else { return false }
    chunk = large
    return true
  }

  mutating func place(_ bytes: UnsafeRawBufferPointer) -> PlacedBytes {
    makeRoom(bytes.count + 32)
    return PlacedBytes(bytes: chunk.copy(bytes), chunk: chunk)
  }

  private mutating func makeRoom(_ need: Int) {
    if chunk.room < need { chunk = EventChunk(capacity: max(EventChunk.usualSize, need)) }
  }
}
