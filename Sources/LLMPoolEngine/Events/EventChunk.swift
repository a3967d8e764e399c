import Glibc

/// Memory for the events of about one turn: one allocation for many of them, freed when the last is released.
final class EventChunk: @unchecked Sendable {
  static let usualSize = 32_768
  private let base: UnsafeMutableRawPointer
  private let capacity: Int
  private var used = 0

  init(capacity: Int) {
    self.capacity = capacity
    base = Memory.require(capacity)
  }

  /// Nil: there is no memory for it.
  init?(large capacity: Int) {
    guard let memory = Memory.allocate(capacity) else { return nil }
    self.capacity = capacity
    base = memory
  }
  deinit { free(base) }

  var room: Int { capacity - used }
  static func rounded(_ size: Int) -> Int { (size + 15) & ~15 }

  /// Memory for one record, with the chunk retained for it.
  func makeRecord() -> UnsafeMutablePointer<EventRecord> {
    let record = take(MemoryLayout<EventRecord>.size).bindMemory(to: EventRecord.self, capacity: 1)
    record.initialize(to: EventRecord(chunk: Unmanaged.passRetained(self)))
    return record
  }

  func copy(_ bytes: UnsafeRawBufferPointer) -> EventBytes {
    guard let source = bytes.baseAddress, !bytes.isEmpty else { return EventRecord.empty }
    let target = take(bytes.count + 1)
    target.copyMemory(from: source, byteCount: bytes.count)
    target.storeBytes(of: 0, toByteOffset: bytes.count, as: UInt8.self)
    return EventBytes(base: UnsafePointer(target.assumingMemoryBound(to: CChar.self)), count: bytes.count)
  }

  /// Puts bytes behind a run, where it is the last that was copied and there is room; nil where not.
  func extend(_ run: EventBytes, by bytes: UnsafeRawBufferPointer) -> EventBytes? {
    let count = run.count + bytes.count
    let start = UnsafeRawPointer(run.base) - UnsafeRawPointer(base)
    guard run.count > 0, start + EventChunk.rounded(run.count + 1) == used,
      start + EventChunk.rounded(count + 1) <= capacity
    else { return nil }
    (base + start + run.count).copyMemory(from: bytes.baseAddress!, byteCount: bytes.count)
    base.storeBytes(of: 0, toByteOffset: start + count, as: UInt8.self)
    used = start + EventChunk.rounded(count + 1)
    return EventBytes(base: run.base, count: count)
  }

  private func take(_ size: Int) -> UnsafeMutableRawPointer {
    assert(size <= room)
    let start = base + used
    used += EventChunk.rounded(size)
    return start
  }
}
