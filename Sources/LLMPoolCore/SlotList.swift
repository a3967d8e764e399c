/// A doubly linked list of slots; the links lie in a table that the caller owns. Every operation is O(1).
struct SlotList {
  struct Link {
    var next = SlotList.none
    var previous = SlotList.none
    var isLinked = false
  }
  typealias Links = ContiguousArray<Link>
  static let none: Int32 = -1

  private(set) var first = SlotList.none
  private(set) var last = SlotList.none
  private(set) var count = 0

  var isEmpty: Bool { count == 0 }

  mutating func append(_ slot: Int32, _ links: inout Links) {
    assert(!links[Int(slot)].isLinked)
    links[Int(slot)] = Link(next: SlotList.none, previous: last, isLinked: true)
    if last != SlotList.none { links[Int(last)].next = slot } else { first = slot }
    last = slot
    count += 1
  }

  mutating func remove(_ slot: Int32, _ links: inout Links) {
    let link = links[Int(slot)]
    assert(link.isLinked)
    if link.previous != SlotList.none { links[Int(link.previous)].next = link.next } else { first = link.next }
    if link.next != SlotList.none { links[Int(link.next)].previous = link.previous } else { last = link.previous }
    links[Int(slot)] = Link()
    count -= 1
  }

  mutating func removeIfLinked(_ slot: Int32, _ links: inout Links) {
    if links[Int(slot)].isLinked { remove(slot, &links) }
  }
}
