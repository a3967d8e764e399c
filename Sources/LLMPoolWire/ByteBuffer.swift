/// A growing buffer of bytes, written at its end and consumed at its beginning: the output and input of a socket.
///
/// Appending and consuming are O(1) amortised: what was consumed is moved over only when the memory is full and at
/// least half of it is free, else the memory doubles. Pointers into it are valid until the next mutating call.
public struct ByteBuffer: ~Copyable, @unchecked Sendable {
  @usableFromInline var memory: UnsafeMutableRawPointer?
  @usableFromInline var start = 0
  @usableFromInline var end = 0
  /// Memory was refused, and what was to be written then is missing. Until the buffer is emptied.
  public private(set) var isShort = false
  /// How many bytes the memory holds, consumed ones included.
  public private(set) var capacity = 0

  @inlinable public init() {}

  public init(minimumCapacity: Int) {
    if minimumCapacity > 0 { reserve(minimumCapacity) }
  }

  deinit { memory?.deallocate() }

  /// Bytes written and not yet consumed.
  @inlinable public var count: Int { end &- start }
  @inlinable public var isEmpty: Bool { end == start }

  /// The bytes written and not yet consumed; without an address while there never was one.
  @inlinable public var readable: UnsafeRawBufferPointer {
    guard let memory else { return UnsafeRawBufferPointer(start: nil, count: 0) }
    return UnsafeRawBufferPointer(start: memory + start, count: end &- start)
  }

  /// Makes room for that many bytes more.
  @discardableResult
  @inlinable public mutating func reserve(_ bytes: Int) -> Bool {
    capacity &- end >= bytes || makeRoom(bytes)
  }

  /// Room of at least `minimum` bytes to write to, all that is free; then call `didWrite`. Empty where memory was
  /// refused.
  @inlinable public mutating func writable(_ minimum: Int) -> UnsafeMutableRawBufferPointer {
    guard reserve(max(minimum, 1)) else { return UnsafeMutableRawBufferPointer(start: nil, count: 0) }
    return UnsafeMutableRawBufferPointer(start: memory! + end, count: capacity &- end)
  }

  /// The first `bytes` of what `writable` returned were filled in.
  @inlinable public mutating func didWrite(_ bytes: Int) {
    precondition(bytes >= 0 && bytes <= capacity &- end)
    end &+= bytes
  }

  @inlinable public mutating func append(_ bytes: UnsafeRawBufferPointer) {
    guard let base = bytes.baseAddress, bytes.count > 0 else { return }
    append(base, count: bytes.count)
  }

  @inlinable public mutating func append(_ base: UnsafeRawPointer, count: Int) {
    guard count > 0, reserve(count) else { return }
    (memory! + end).copyMemory(from: base, byteCount: count)
    end &+= count
  }

  @inlinable public mutating func append(_ text: StaticString) {
    append(text.utf8Start, count: text.utf8CodeUnitCount)
  }

  @inlinable public mutating func append(_ byte: UInt8) {
    guard reserve(1) else { return }
    (memory! + end).storeBytes(of: byte, as: UInt8.self)
    end &+= 1
  }

  /// Appends the number in hexadecimal digits, without leading zeros.
  public mutating func appendHexadecimal(_ value: UInt64) {
    guard reserve(16) else { return }
    var digits = max(1, (67 - value.leadingZeroBitCount) / 4)
    while digits > 0 {
      digits -= 1
      let digit = UInt8(truncatingIfNeeded: value >> UInt64(digits * 4)) & 15
      (memory! + end).storeBytes(of: digit < 10 ? digit &+ 0x30 : digit &+ 0x57, as: UInt8.self)
      end &+= 1
    }
  }

  /// Drops bytes at the beginning.
  @inlinable public mutating func consume(_ bytes: Int) {
    precondition(bytes >= 0 && bytes <= end &- start)
    start &+= bytes
    if start == end {
      start = 0
      end = 0
    }
  }

  /// Drops bytes at the end, so that `count` remain.
  @inlinable public mutating func truncate(to count: Int) {
    precondition(count >= 0 && count <= end &- start)
    end = start &+ count
  }

  /// Moves bytes and memory out of the buffer, which is empty then.
  public mutating func take() -> ByteBuffer {
    var taken = ByteBuffer()
    swap(&taken, &self)
    return taken
  }

  public mutating func removeAll(keepingCapacity: Bool) {
    start = 0
    end = 0
    isShort = false
    if !keepingCapacity, let old = memory {
      old.deallocate()
      memory = nil
      capacity = 0
    }
  }

  /// Empties the buffer; gives its memory back where that is more than `limit` bytes.
  public mutating func removeAll(keepingCapacityUpTo limit: Int) {
    removeAll(keepingCapacity: capacity <= limit)
  }

  /// Up to so much is what any program needs to go on at all: where it is refused, the process ends.
  public static let smallBytes = 1 << 18
  /// Where memory comes from, which may be refused; it is given back by `deallocate`. Set before any buffer is made.
  public nonisolated(unsafe) static var allocator: @convention(c) (Int) -> UnsafeMutableRawPointer? = {
    .allocate(byteCount: $0, alignment: 16)
  }

  /// False: there is no memory for it, and nothing has changed but `isShort`.
  @usableFromInline @inline(never) mutating func makeRoom(_ bytes: Int) -> Bool {
    precondition(bytes >= 0)
    let count = end - start
    // Moving costs `count` and frees `start`: worth it, and O(1) amortised, while not more is moved than freed.
    if let memory, start >= count, capacity - count >= bytes {
      memory.copyMemory(from: memory + start, byteCount: count)
    } else {
      let (need, isTooMuch) = count.addingReportingOverflow(bytes)
      let wanted = max(capacity * 2, need, 64)
      guard !isTooMuch, let larger = ByteBuffer.allocate(wanted) else {
        isShort = true
        return false
      }
      capacity = wanted
      if let memory {
        larger.copyMemory(from: memory + start, byteCount: count)
        memory.deallocate()
      }
      memory = larger
    }
    start = 0
    end = count
    return true
  }

  private static func allocate(_ bytes: Int) -> UnsafeMutableRawPointer? {
    let memory = allocator(bytes)
    precondition(memory != nil || bytes > smallBytes, "out of memory")
    return memory
  }
}

/// Writes decimal digits, at most 20, and returns how many.
@discardableResult
func writeDecimal(_ value: UInt64, to target: UnsafeMutableRawPointer) -> Int {
  var count = 1
  var rest = value
  while rest >= 10 {
    rest /= 10
    count += 1
  }
  rest = value
  var i = count
  while i > 0 {
    i -= 1
    target.storeBytes(of: UInt8(truncatingIfNeeded: rest % 10) &+ Byte.zero, toByteOffset: i, as: UInt8.self)
    rest /= 10
  }
  return count
}
