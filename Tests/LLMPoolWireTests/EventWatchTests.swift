import LLMPoolTestSupport
import LLMPoolWire
import Testing

/// After which bytes an event that says something has ended.
private func ends(_ bytes: [UInt8], quiet: String = EventWatch.usualQuietNames) -> [Int] {
  var watch = EventWatch(quietNames: EventWatch.names(quiet))
  return bytes.indices.filter { index in withBytes([bytes[index]]) { watch.take($0) } }
}

struct EventWatchTests {
  static let streams: [(String, Int)] = [
    ("", 0), ("data: a\n\n", 1), ("data\n\n", 1), ("data:\r\n\r\n", 1), ("data: a\r\rdata: b\r\r", 2),
    ("data: a\n", 0), (": comment\n\n", 0), ("\n\n\n", 0), ("event: a\n\n", 0), ("id: 1\nretry: 2\n\n", 0),
    ("event: ping\ndata: {\"type\": \"ping\"}\n\n", 0), ("event:ping\ndata: x\n\n", 0), ("data: x\nevent: ping\n\n", 0),
    ("event: keepalive\ndata: x\n\n", 0), ("event: pings\ndata: x\n\n", 1), ("event: pin\ndata: x\n\n", 1),
    ("event:  ping\ndata: x\n\n", 1), ("event: Ping\ndata: x\n\n", 1), ("event\ndata: x\n\n", 1),
    ("event: keepaliveandmuchmorethanfits\ndata: x\n\n", 1),
    // The last of two names holds, and only for its event.
    ("event: ping\nevent: a\ndata: x\n\n", 1), ("event: a\nevent: ping\ndata: x\n\n", 0),
    ("event: ping\ndata: x\n\ndata: y\n\n", 1), ("event: ping\n\ndata: y\n\n", 1),
    ("\u{FEFF}data: a\n\n", 1), ("\u{FEFF}event: ping\ndata: a\n\n", 0), ("data: a\n\n\u{FEFF}data: b\n\n", 1),
    ("datas: a\n\n", 0), ("dat: a\n\n", 0), (" data: a\n\n", 0), ("data: a\n\r\ndata: b\n\n", 2),
  ]

  @Test(arguments: streams) func eventsThatSaySomething(stream: String, count: Int) {
    #expect(ends(Array(stream.utf8)).count == count)
  }

  @Test func namesOfAList() {
    #expect(EventWatch.names("ping,keepalive").map(string) == ["ping", "keepalive"])
    #expect(EventWatch.names(" a b , ,c").map(string) == ["a b", "c"])
    #expect(EventWatch.names("").isEmpty)
    #expect(ends(Array("event: ping\ndata: x\n\n".utf8), quiet: "").count == 1)
    #expect(ends(Array("event: a\ndata: x\n\n".utf8), quiet: "b, a").isEmpty)
  }

  /// An event without a name is of the type "message".
  @Test func messagesMayBeQuiet() {
    let stream = "data: x\n\nevent:\ndata: x\n\nevent: message\ndata: x\n\nevent: token\ndata: x\n\n"
    #expect(ends(Array(stream.utf8), quiet: "message") == [stream.utf8.count - 1])
  }

  /// A line of which nothing need be known is not kept.
  @Test func aLongLineInPieces() {
    var watch = EventWatch(quietNames: EventWatch.names("ping"))
    #expect(!withBytes("data: ") { watch.take($0) })
    for _ in 0..<100 { #expect(!withBytes(Array(repeating: UInt8(0x78), count: 1_000)) { watch.take($0) }) }
    #expect(withBytes("\n\n") { watch.take($0) })
  }

  @Test func theSameEventsAsTheParser() {
    let seeds = [
      "event: ping\ndata: b\n\n: x\n\ndata: d\r\ndata: e\r\n\r\nevent: keepalive\rdata\r\r",
      "\u{FEFF}data: a\n\n\rdata\r\n\r\n:\r\nevent: pings\ndata: 1\n\n",
    ].map { Array($0.utf8) }
    var random = Random(11)
    for round in 0..<20_000 {
      let bytes = mutated(seeds[round % 2], &random)
      let parsed = events([bytes]).filter { !["ping", "keepalive"].contains($0.prefix { $0 != "|" }) }
      let heard = ends(bytes)
      if parsed.count != heard.count { Issue.record("\(string(bytes)): heard \(heard), parsed \(parsed)") }
      // In whatever pieces they come: where an event ends in a piece, the piece says so.
      var watch = EventWatch(quietNames: EventWatch.names("ping,keepalive"))
      var position = 0
      let cuts = [random.below(bytes.count + 1), random.below(bytes.count + 1)].sorted()
      for piece in bytes.pieces(at: cuts) {
        let end = position + piece.count
        let isHeard = withBytes(piece) { watch.take($0) }
        if isHeard != heard.contains(where: { $0 >= position && $0 < end }) {
          Issue.record("\(string(bytes)) cut at \(cuts): \(position)..<\(end)")
        }
        position = end
      }
    }
  }
}
