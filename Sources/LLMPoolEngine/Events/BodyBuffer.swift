import Glibc

/// Bytes in one malloc'ed run that can be handed to an event, which frees it.
struct BodyBuffer: ~Copyable {
  private var base: UnsafeMutableRawPointer?
  private(set) var count = 0
  private var capacity = 0
  private var expected = 0

  deinit { free(base) }

  var readable: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

  /// Makes room with the first byte for all that is announced, within reason: a server's word costs no memory that it
  /// does not fill.
  mutating func expect(_ size: UInt64) { expected = size <= 1 << 20 ? Int(size) : 0 }

  private mutating func reserve(_ more: Int) -> Bool {
    guard count + more + 1 > capacity else { return true }
    let wanted = max(count + more + 1, capacity * 2, expected + 1, 512)
    guard let grown = realloc(base, wanted) else { return false }
    base = grown
    capacity = wanted
    return true
  }

  /// False: there is no memory for them.
  mutating func append(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard let source = bytes.baseAddress, bytes.count > 0 else { return true }
    guard reserve(bytes.count) else { return false }
    (base! + count).copyMemory(from: source, byteCount: bytes.count)
    count += bytes.count
    return true
  }

  /// Gives the memory away, ended by a NUL.
  mutating func handOver() -> UnsafeMutableRawPointer? {
    guard let memory = base else { return nil }
    memory.storeBytes(of: 0, toByteOffset: count, as: UInt8.self)
    base = nil
    count = 0
    capacity = 0
    return memory
  }

  mutating func removeAll() {
    count = 0
    expected = 0
  }
}
