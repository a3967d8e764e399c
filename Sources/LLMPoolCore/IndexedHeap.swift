/// A binary min-heap of slots that can remove or re-key any slot in O(log n). Each slot stands in the heap at most
/// once; where, is kept in a table that the caller owns, so that a request's position lies beside its record.
struct IndexedHeap {
  struct Key: Comparable {
    var major: Int64
    var minor: UInt64
    @inline(__always) static func < (left: Key, right: Key) -> Bool {
      left.major != right.major ? left.major < right.major : left.minor < right.minor
    }
  }
  struct Entry {
    var key: Key
    var slot: Int32
  }
  typealias Positions = ContiguousArray<Int32>
  static let absent: Int32 = -1

  private(set) var entries = ContiguousArray<Entry>()

  var isEmpty: Bool { entries.isEmpty }
  var count: Int { entries.count }
  var first: Entry? { entries.first }
  /// One of the entries that rank low; not always the lowest.
  var last: Entry? { entries.last }

  mutating func insert(_ slot: Int32, _ key: Key, _ positions: inout Positions) {
    assert(positions[Int(slot)] == IndexedHeap.absent)
    entries.append(Entry(key: key, slot: slot))
    siftUp(entries.count - 1, &positions)
  }

  mutating func update(_ slot: Int32, _ key: Key, _ positions: inout Positions) {
    let index = Int(positions[Int(slot)])
    let old = entries[index].key
    entries[index].key = key
    if key < old { siftUp(index, &positions) } else { siftDown(index, &positions) }
  }

  mutating func remove(_ slot: Int32, _ positions: inout Positions) {
    let index = Int(positions[Int(slot)])
    positions[Int(slot)] = IndexedHeap.absent
    let moved = entries.removeLast()
    guard index < entries.count else { return }
    let old = entries[index].key
    entries[index] = moved
    if moved.key < old { siftUp(index, &positions) } else { siftDown(index, &positions) }
  }

  /// Inserts it, or gives it another key.
  mutating func set(_ slot: Int32, _ key: Key, _ positions: inout Positions) {
    if positions[Int(slot)] == IndexedHeap.absent {
      insert(slot, key, &positions)
    } else {
      update(slot, key, &positions)
    }
  }

  mutating func removeIfPresent(_ slot: Int32, _ positions: inout Positions) {
    if positions[Int(slot)] != IndexedHeap.absent { remove(slot, &positions) }
  }

  func key(of slot: Int32, _ positions: Positions) -> Key { entries[Int(positions[Int(slot)])].key }

  private mutating func siftUp(_ start: Int, _ positions: inout Positions) {
    let entry = entries[start]
    var index = start
    while index > 0 {
      let parent = (index - 1) / 2
      guard entry.key < entries[parent].key else { break }
      entries[index] = entries[parent]
      positions[Int(entries[index].slot)] = Int32(truncatingIfNeeded: index)
      index = parent
    }
    entries[index] = entry
    positions[Int(entry.slot)] = Int32(truncatingIfNeeded: index)
  }

  private mutating func siftDown(_ start: Int, _ positions: inout Positions) {
    let entry = entries[start]
    var index = start
    while true {
      var child = 2 * index + 1
      guard child < entries.count else { break }
      if child + 1 < entries.count, entries[child + 1].key < entries[child].key { child += 1 }
      guard entries[child].key < entry.key else { break }
      entries[index] = entries[child]
      positions[Int(entries[index].slot)] = Int32(truncatingIfNeeded: index)
      index = child
    }
    entries[index] = entry
    positions[Int(entry.slot)] = Int32(truncatingIfNeeded: index)
  }
}
