import LLMPoolTestSupport
import LLMPoolWire

/// Gives the bytes in memory of exactly their size, so that a sanitizer sees every read beyond them.
func withBytes<R>(_ bytes: some Collection<UInt8>, _ body: (UnsafeRawBufferPointer) -> R) -> R {
  let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
  defer { memory.deallocate() }
  memory.copyBytes(from: bytes)
  return body(UnsafeRawBufferPointer(memory))
}

func withBytes<R>(_ text: String, _ body: (UnsafeRawBufferPointer) -> R) -> R {
  withBytes(Array(text.utf8), body)
}

func string(_ bytes: some Sequence<UInt8>) -> String { String(decoding: Array(bytes), as: UTF8.self) }

func string(_ buffer: borrowing ByteBuffer) -> String { string(buffer.readable) }

extension Array where Element == UInt8 {
  /// The bytes in pieces that end at the given offsets and at the end.
  func pieces(at cuts: [Int]) -> [[UInt8]] {
    var pieces: [[UInt8]] = []
    var from = 0
    for cut in cuts + [count] {
      pieces.append(Array(self[from..<cut]))
      from = cut
    }
    return pieces
  }

  /// Every way to cut the bytes in two, byte by byte, and some ways to cut them in three.
  var splits: [[[UInt8]]] {
    var splits = (0...count).map { pieces(at: [$0]) }
    splits.append(map { [$0] })
    for first in stride(from: 0, to: count, by: 5) {
      for second in stride(from: first, to: count, by: 7) { splits.append(pieces(at: [first, second])) }
    }
    return splits
  }
}

extension URLParts {
  func appendAuthority(of url: UnsafeRawBufferPointer, to out: inout ByteBuffer) {
    out.didWrite(writeAuthority(of: url, to: out.writable(authorityRoom)))
  }

  func appendOrigin(of url: UnsafeRawBufferPointer, to out: inout ByteBuffer) {
    out.didWrite(writeOrigin(of: url, to: out.writable(originRoom)))
  }
}

/// Damages a text: changes, drops, repeats and inserts bytes, those that a grammar minds more often than others.
func mutated(_ bytes: [UInt8], _ random: inout Random) -> [UInt8] {
  let likely = Array("\r\n\r\n :;,\t\0abcdefx0123456789/.@[]%#?=-".utf8) + [0x7F, 0x80, 0xEF, 0xBB, 0xBF, 0xFF]
  var bytes = bytes
  for _ in 0...random.below(4) {
    let byte = random.below(4) == 0 ? UInt8(random.below(256)) : likely[random.below(likely.count)]
    let at = random.below(bytes.count + 1)
    switch random.below(4) {
    case 0: bytes.insert(byte, at: at)
    case 1 where at < bytes.count: bytes[at] = byte
    case 2 where at < bytes.count: bytes.remove(at: at)
    case 3 where at < bytes.count:
      bytes.insert(contentsOf: bytes[at..<min(bytes.count, at + 1 + random.below(8))], at: random.below(bytes.count))
    default: break
    }
  }
  return bytes
}
