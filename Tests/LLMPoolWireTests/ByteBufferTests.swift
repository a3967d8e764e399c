import LLMPoolTestSupport
import LLMPoolWire
import Testing

struct ByteBufferTests {
  @Test func beginsEmptyWithoutMemory() {
    let buffer = ByteBuffer()
    #expect(buffer.isEmpty && buffer.count == 0 && buffer.capacity == 0)
    #expect(buffer.readable.baseAddress == nil)
  }

  @Test func behavesLikeAnArray() {
    var random = Random(4)
    var buffer = ByteBuffer()
    var model: [UInt8] = []
    var next: UInt8 = 0
    for step in 0..<20_000 {
      switch random.below(6) {
      case 0, 1:
        let piece = (0..<random.below(50)).map { _ in
          next &+= 1
          return next
        }
        withBytes(piece) { buffer.append($0) }
        model += piece
      case 2:
        let space = buffer.writable(random.below(40))
        let count = random.below(min(space.count, 40) + 1)
        for i in 0..<count {
          next &+= 1
          space[i] = next
          model.append(next)
        }
        buffer.didWrite(count)
      case 3, 4:
        let count = random.below(min(buffer.count, 60) + 1)
        buffer.consume(count)
        model.removeFirst(count)
      default:
        switch random.below(40) {
        case 0:
          buffer.removeAll(keepingCapacity: random.below(2) == 0)
          model = []
        case 1:
          let count = random.below(buffer.count + 1)
          buffer.truncate(to: count)
          model.removeLast(model.count - count)
        default:
          buffer.append(7)
          model.append(7)
        }
      }
      #expect(buffer.count == model.count)
      if step % 16 == 0 { #expect(Array(buffer.readable) == model) }
    }
  }

  @Test func aSteadyStreamNeedsNoMoreMemory() {
    var buffer = ByteBuffer(minimumCapacity: 256)
    let capacity = buffer.capacity
    withBytes([UInt8](repeating: 1, count: 100)) { piece in
      buffer.append(piece)
      for _ in 0..<1_000 {
        buffer.append(piece)
        buffer.consume(100)
      }
    }
    #expect(buffer.count == 100 && buffer.capacity <= capacity * 2)
  }

  /// Moving 63 bytes to make room for one, again and again, would make appending O(n).
  @Test func movesNoMoreThanItFrees() {
    var buffer = ByteBuffer(minimumCapacity: 64)
    withBytes([UInt8](repeating: 1, count: 64)) { buffer.append($0) }
    buffer.consume(31)
    buffer.append(2)
    let grown = buffer.capacity
    #expect(grown == 128)
    withBytes([UInt8](repeating: 3, count: 94)) { buffer.append($0) }
    buffer.consume(64)
    buffer.append(4)
    #expect(buffer.capacity == grown && buffer.count == 65 && buffer.readable[64] == 4)
  }

  @Test func movesOut() {
    var buffer = ByteBuffer()
    buffer.append("abc")
    buffer.consume(1)
    let taken = buffer.take()
    #expect(string(taken) == "bc")
    #expect(buffer.isEmpty && buffer.capacity == 0)
    buffer.append("d")
    #expect(string(buffer) == "d")
  }

  @Test func givesMemoryBack() {
    var buffer = ByteBuffer(minimumCapacity: 1_000)
    buffer.removeAll(keepingCapacityUpTo: 1_000)
    #expect(buffer.capacity == 1_000)
    buffer.removeAll(keepingCapacityUpTo: 999)
    #expect(buffer.capacity == 0)
    buffer.append("x")
    #expect(string(buffer) == "x")
  }

  @Test(arguments: [0, 1, 9, 10, 99, 100, 15, 16, 255, 256, 65_535, UInt64(Int64.max), .max])
  func writesNumbers(_ value: UInt64) {
    var buffer = ByteBuffer()
    buffer.appendHexadecimal(value)
    #expect(string(buffer) == String(value, radix: 16))
  }
}
