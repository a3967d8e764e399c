import LLMPoolTestSupport
import LLMPoolWire
import Testing

/// An event as text: "type|data|id|retry", the id with "*" where it was set anew.
func events(_ pieces: [[UInt8]], limit: Int = SSEParser.maximumEventBytes, takesCredit: Bool = false) -> [String] {
  var parser = SSEParser(maximumEventBytes: limit)
  var events: [String] = []
  var credit = 0
  var consumed = 0
  for piece in pieces {
    var input = piece
    feeding: while true {
      var isDone = false
      let count = withBytes(input) { bytes in
        let step = parser.next(bytes)
        switch step.event {
        case .needMore:
          isDone = true
          #expect(step.consumed == bytes.count, "needMore leaves bytes")
        case .event(let event):
          #expect(event.credit > 0 || takesCredit)
          credit += event.credit
          let retry = event.retryMilliseconds.map { "\($0)" } ?? ""
          events.append(
            "\(string(event.event))|\(string(event.data))|\(string(event.id))\(event.hasID ? "*" : "")|\(retry)")
        case .failed(let error, let kind):
          isDone = true
          events.append("\(kind): \(error.message)")
        }
        return step.consumed
      }
      consumed += count
      input.removeFirst(count)
      if takesCredit { credit += parser.takePendingCredit() }
      if isDone { break feeding }
    }
    if events.last?.hasPrefix("tooLarge") == true { break }
  }
  #expect(credit + parser.pendingCredit == consumed, "credit \(credit), consumed \(consumed)")
  return events
}

func events(_ bytes: [UInt8], limit: Int = SSEParser.maximumEventBytes) -> [String] {
  let whole = events([bytes], limit: limit)
  guard bytes.count < 500 else { return whole }
  for (index, pieces) in bytes.splits.enumerated() {
    let split = events(pieces, limit: limit, takesCredit: index % 2 == 0)
    if split != whole { Issue.record("\(pieces.map(string)): \(split), whole: \(whole)") }
  }
  return whole
}

func events(_ text: String, limit: Int = SSEParser.maximumEventBytes) -> [String] {
  events(Array(text.utf8), limit: limit)
}

struct SSEParserTests {
  static let streams: [(String, [String])] = [
    ("", []),
    ("data: a\n\n", ["|a||"]),
    ("data: a\r\n\r\n", ["|a||"]),
    ("data: a\r\r", ["|a||"]),
    ("data: a\n\r", ["|a||"]),
    ("data: a\r\n\n", ["|a||"]),
    ("data: a\r\n\r", ["|a||"]),
    ("data: a\r\rdata: b\n\n\r\n\r", ["|a||", "|b||"]),
    ("data:a\n\n", ["|a||"]),
    ("data:  a \n\n", ["| a ||"]),
    ("data: a\n", []),
    ("data: a", []),
    ("data: a\n\ndata: b\n", ["|a||"]),
    ("data: a\ndata: b\ndata:\ndata\ndata: c\n\n", ["|a\nb\n\n\nc||"]),
    ("data\n\ndata\ndata\n\ndata:", ["|||", "|\n||"]),
    ("data:\n\n", ["|||"]),
    ("event: x\n\n", []),
    ("event: x\n\ndata: a\n\n", ["|a||"]),
    ("event: x\ndata: a\n\ndata: b\n\n", ["x|a||", "|b||"]),
    ("data: a\nevent: x\n\n", ["x|a||"]),
    ("event: x\nevent: y\ndata: a\n\n", ["y|a||"]),
    ("event: x\nevent:\ndata: a\n\n", ["|a||"]),
    ("id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n", ["|a|1*|", "|b|1|", "|c|*|"]),
    ("id: 1\n\ndata: a\n\n", ["|a|1*|"]),
    ("id: 1\nid: 2\0\ndata: a\n\n", ["|a|1*|"]),
    ("data: a\nid: 1", []),
    ("retry: 3000\ndata: a\n\ndata: b\n\n", ["|a||3000", "|b||"]),
    ("retry: 3000\n\ndata: a\n\n", ["|a||3000"]),
    ("retry: 1\nretry: 2x\nretry:\nretry: -3\nretry: 1.5\ndata: a\n\n", ["|a||1"]),
    ("retry: 99999999999999999999999\ndata: a\n\n", ["|a||4294967294"]),
    (": comment\n\n:\n:data: x\ndata: a\n: b\n\n", ["|a||"]),
    ("data: a\n:", []),
    ("Data: a\nDATA: a\ndatax: a\n data: a\ndat: a\nfoo: a\nfoo\n\n", []),
    ("data : a\n\n", []),
    ("data: a:b: c\n\n", ["|a:b: c||"]),
    ("\u{FEFF}data: a\n\n", ["|a||"]),
    ("\u{FEFF}\u{FEFF}data: a\n\ndata: b\n\n", ["|b||"]),
    ("data: a\n\n\u{FEFF}data: b\n\ndata: c\n\n", ["|a||", "|c||"]),
    ("\n\n\n\r\n\rdata: a\n\n", ["|a||"]),
    ("data: \u{e9}\u{1F600}\0\n\n", ["|\u{e9}\u{1F600}\0||"]),
    (
      "event: message_start\ndata: {\"type\":\"x\"}\n\nevent: ping\ndata: {}\n\n",
      ["message_start|{\"type\":\"x\"}||", "ping|{}||"]
    ),
    ("data: {\"a\":1}\n\ndata: [DONE]\n\n", ["|{\"a\":1}||", "|[DONE]||"]),
  ]

  @Test(arguments: streams)
  func readsAsTheStandardSays(_ stream: String, _ expected: [String]) {
    #expect(events(stream) == expected)
  }

  /// The parsing cases of web-platform-tests, eventsource/format-*, by their names. What is left out there is no
  /// parsing: mime types, connecting again.
  static let webPlatformTests: [(String, String, [String])] = [
    ("bom", "\u{FEFF}data:1\n\ndata:2\n\n", ["|1||", "|2||"]),
    ("bom-2", "\u{FEFF}\u{FEFF}data:1\n\ndata:2\n\n", ["|2||"]),
    (
      "comments",
      "data:1\r:\0\n:\r\ndata:2\n:" + String(repeating: "x", count: 2049) + "\rdata:3\n:data:fail\r\ndata:4\n\n",
      ["|1\n2\n3\n4||"]
    ),
    ("data-before-final-empty-line", "retry:1000\ndata:test1\n\nid:test\ndata:test2", ["|test1||1000"]),
    ("field-data", "data:\n\ndata\ndata\n\ndata:test\n\n", ["|||", "|\n||", "|test||"]),
    ("field-event", "event:test\ndata:x\n\ndata:x\n\n", ["test|x||", "|x||"]),
    ("field-event-empty", "event: \ndata:data\n\n", ["|data||"]),
    ("field-id", "id: 1\ndata: hello\n\ndata: x\n\n", ["|hello|1*|", "|x|1|"]),
    (
      "field-id-2", "id: \u{2026}\ndata: hello\n\ndata: \u{2026}\n\ndata:\u{2026}\n\n",
      ["|hello|\u{2026}*|", "|\u{2026}|\u{2026}|", "|\u{2026}|\u{2026}|"]
    ),
    ("field-id-3, persists", "id: 1\ndata: 1\n\ndata:2\n\n", ["|1|1*|", "|2|1|"]),
    ("field-id-3, changes", "id: 1\ndata: 1\n\nid: 2\ndata:2\n\ndata:3\n\n", ["|1|1*|", "|2|2*|", "|3|2|"]),
    ("field-id-3, resets", "id: 1\ndata: 1\n\nid:\ndata:2\n\ndata:3\n\n", ["|1|1*|", "|2|*|", "|3||"]),
    ("field-id-null", "id: \0\0\ndata: hello\n\n", ["|hello||"]),
    ("field-id-null", "id: x\0\ndata: hello\n\n", ["|hello||"]),
    ("field-id-null", "id: \0x\ndata: hello\n\n", ["|hello||"]),
    ("field-id-null", "id: x\0x\ndata: hello\n\n", ["|hello||"]),
    ("field-id-null", "id:  \0\ndata: hello\n\n", ["|hello||"]),
    (
      "field-parsing",
      "data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\nda-ta:3\rdata_5\ndata:3\rdata:\r\n data:32\ndata:4\n\n",
      ["|\0\n 2\n1\n3\n\n4||"]
    ),
    ("field-retry", "retry:3000\ndata:x\n\n", ["|x||3000"]),
    ("field-retry-bogus", "retry:3000\nretry:1000x\ndata:x\n\n", ["|x||3000"]),
    ("field-retry-empty", "retry\ndata:test\n\n", ["|test||"]),
    ("field-unknown", "data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacomment\n\n", ["|test\n||"]),
    ("leading-space", "data:\ttest\rdata: \ndata:test\n\n", ["|\ttest\n\ntest||"]),
    ("newlines", "data:test\r\ndata\ndata:test\r\n\r", ["|test\n\ntest||"]),
    ("null-character", "data:\0\n\n\n\n", ["|\0||"]),
    ("utf-8", "data:ok\u{2026}\n\n", ["|ok\u{2026}||"]),
  ]

  @Test(arguments: webPlatformTests)
  func holdsTheWebPlatformTests(_ name: String, _ stream: String, _ expected: [String]) {
    #expect(events(stream) == expected)
  }

  @Test func bytesThatOnlyBeginLikeAMarkBelongToTheLine() {
    #expect(events([0xEF, 0xBB] + Array("data: a\n\ndata: b\n\n".utf8)) == ["|b||"])
    #expect(events([0xEF] + Array("\ndata: b\n\n".utf8)) == ["|b||"])
    #expect(events([0xEF, 0xBB, 0x3A] + Array("\ndata: b\n\n".utf8)) == ["|b||"])
  }

  @Test func anEventInOneInputIsNotCopied() {
    withBytes(": x\nevent: e\ndata: abc\n\ndata: d\n\n") { input in
      var parser = SSEParser()
      let step = parser.next(input)
      guard case .event(let event) = step.event else {
        Issue.record("no event")
        return
      }
      #expect(event.data.baseAddress == input.baseAddress! + 19 && event.event.baseAddress == input.baseAddress! + 11)
      #expect(step.consumed == 24 && event.credit == 24)
    }
  }

  @Test func givesCreditOnce() {
    var parser = SSEParser()
    func feed(_ text: String) -> Int? {
      withBytes(text) { bytes in
        if case .event(let event) = parser.next(bytes).event { return event.credit }
        return nil
      }
    }
    #expect(feed(": a\n") == nil && parser.pendingCredit == 4)
    #expect(feed("data: a") == nil && parser.pendingCredit == 11)
    #expect(feed("\n\n") == 13 && parser.pendingCredit == 0)
    #expect(feed(": ping\n\n") == nil && parser.takePendingCredit() == 8 && parser.pendingCredit == 0)
    #expect(feed("data: a\n\n") == 9)
  }

  @Test func limitsAnEvent() {
    let tooLarge = ["tooLarge: a server-sent event is larger than 20 bytes"]
    #expect(events("data: 12345678901234\n\n", limit: 20) == ["|12345678901234||"])
    #expect(events("data: 123456789012345\n\n", limit: 20) == tooLarge)
    #expect(events("data: 1234\ndata: 1234\n\n", limit: 20) == ["|1234\n1234||"])
    #expect(events("data: 1234\ndata: 12345\n\n", limit: 20) == tooLarge)
    #expect(events("data: 123456789012345", limit: 20) == tooLarge)
    #expect(events("foo: 1234567890123456\n", limit: 20) == tooLarge)
    #expect(events("id: 12345678\nid: 1234567890\n\n", limit: 20) == tooLarge)
    #expect(events(":" + String(repeating: "c", count: 40) + "\ndata: a\n\n", limit: 20) == ["|a||"])
    #expect(events(String(repeating: "event: 12\n\n", count: 9) + "data: a\n\n", limit: 20) == ["|a||"])
    #expect(events(String(repeating: "data: 12345678\n\n", count: 3), limit: 20).count == 3)
    #expect(events("data: a\n\ndata: 123456789012345\n\n", limit: 20) == ["|a||"] + tooLarge)
  }

  @Test func passesOverAnIDBeyondTheLimit() {
    let longest = String(repeating: "i", count: SSEParser.maximumIDBytes)
    #expect(events("id: \(longest)\ndata: a\n\n") == ["|a|\(longest)*|"])
    #expect(events("id: 1\nid: \(longest)i\ndata: a\n\n") == ["|a|1*|"])
    #expect(events("id: \(longest)i\ndata: a\n\n") == ["|a||"])
  }

  @Test func readsTheLargestEvent() {
    let data = String(repeating: "x", count: SSEParser.maximumEventBytes - 6)
    #expect(events("data: \(data)\n\n") == ["|\(data)||"])
    #expect(events("data: \(data)x\n\n").first?.hasPrefix("tooLarge") == true)
    let bytes = Array("data: \(data)\n\n".utf8)
    #expect(events(bytes.pieces(at: Array(stride(from: 1_000, to: bytes.count, by: 16_384)))) == ["|\(data)||"])
  }

  @Test func failureIsGivenAgain() {
    var parser = SSEParser(maximumEventBytes: 4)
    for _ in 0..<2 {
      withBytes("data: a\n\n") { bytes in
        let step = parser.next(bytes)
        guard case .failed(_, .tooLarge) = step.event, step.consumed == 0 else {
          Issue.record("\(step)")
          return
        }
      }
    }
  }

  @Test func garbageNeverTrapsAndNeverDependsOnTheSplit() {
    let seeds = [
      "event: a\ndata: b\nid: c\nretry: 1\n\n: x\n\ndata: d\r\ndata: e\r\n\r\n",
      "\u{FEFF}data: a\n\n\rdata\r\n\r\n:\r\n",
    ].map { Array($0.utf8) }
    var random = Random(7)
    for round in 0..<30_000 {
      let bytes = mutated(seeds[round % 2], &random)
      let whole = events([bytes], limit: 24)
      let cuts = [random.below(bytes.count + 1), random.below(bytes.count + 1)].sorted()
      let split = events(bytes.pieces(at: cuts), limit: 24, takesCredit: true)
      if whole != split { Issue.record("\(string(bytes)) cut at \(cuts): \(split), whole: \(whole)") }
    }
  }
}
