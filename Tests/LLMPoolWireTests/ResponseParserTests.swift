import LLMPoolTestSupport
import LLMPoolWire
import Testing

/// What a parser said, with neighbouring body events joined, so that it can be compared whatever the pieces were.
enum Seen: Equatable {
  case interim(UInt16)
  case head(String)
  case body([UInt8])
  case end(rest: Int)
  case failed(String, FailureKind)

  static func body(_ text: String) -> Seen { .body(Array(text.utf8)) }
}

func describe(_ head: ResponseHead) -> String {
  let close = head.closesConnection ? " close" : ""
  let keep = head.keepAliveTimeoutSeconds.map { " timeout=\($0)" } ?? ""
  return "1.\(head.minorVersion) \(head.status) [\(string(head.reason))] \(head.framing)\(close)\(keep)\n"
    + string(head.headers)
}

/// Feeds the pieces to a parser as a connection does, each in memory of its own, then perhaps the end of input.
func parse(
  _ pieces: [[UInt8]], head: Bool = false, endOfInput: Bool = false, with parser: inout ResponseParser
) -> [Seen] {
  parser.reset(requestMethodIsHEAD: head)
  var seen: [Seen] = []
  func note(_ event: ResponseParser.Event, _ input: UnsafeRawBufferPointer, rest: Int) -> Bool {
    switch event {
    case .needMore: return true
    case .interim(let status): seen.append(.interim(status))
    case .head(let head): seen.append(.head(describe(head)))
    case .body(let start, let count):
      #expect(count > 0)
      var body = Array(input[start..<start + count])
      if case .body(let before)? = seen.last {
        seen.removeLast()
        body = before + body
      }
      seen.append(.body(body))
    case .end: seen.append(.end(rest: rest))
    case .failed(let error, let kind): seen.append(.failed("\(error.field): \(error.message)", kind))
    }
    return false
  }
  var left = pieces.reduce(0) { $0 + $1.count }
  for piece in pieces {
    var input = piece
    while true {
      var isDone = false
      let consumed = withBytes(input) { bytes in
        let step = parser.next(bytes)
        #expect(step.consumed <= bytes.count)
        isDone = note(step.event, bytes, rest: left - step.consumed)
        if isDone { #expect(step.consumed == bytes.count, "needMore leaves bytes") }
        return step.consumed
      }
      input.removeFirst(consumed)
      left -= consumed
      switch seen.last {
      case .end?, .failed?: return seen
      default: break
      }
      if isDone { break }
    }
  }
  if endOfInput { _ = note(parser.endOfInput(), UnsafeRawBufferPointer(start: nil, count: 0), rest: left) }
  return seen
}

func parse(_ text: String, head: Bool = false, endOfInput: Bool = false) -> [Seen] {
  parse(Array(text.utf8), head: head, endOfInput: endOfInput)
}

/// Parses in one piece; then requires the same of every split.
func parse(_ bytes: [UInt8], head: Bool = false, endOfInput: Bool = false) -> [Seen] {
  var parser = ResponseParser()
  let whole = parse([bytes], head: head, endOfInput: endOfInput, with: &parser)
  guard bytes.count < 1_000 else {
    let half = parse(bytes.pieces(at: [3, bytes.count / 2]), head: head, endOfInput: endOfInput, with: &parser)
    #expect(half == whole)
    return whole
  }
  for pieces in bytes.splits {
    let split = parse(pieces, head: head, endOfInput: endOfInput, with: &parser)
    if split != whole { Issue.record("\(pieces.map(string)): \(split), whole: \(whole)") }
  }
  return whole
}

struct ResponseParserTests {
  static let ok = "HTTP/1.1 200 OK\r\n"

  // MARK: Accepted heads

  @Test(arguments: [
    ("HTTP/1.1 200 OK\r\n", "1.1 200 [OK] length(0)\n"), ("HTTP/1.1 200\r\n", "1.1 200 [] length(0)\n"),
    ("HTTP/1.1 200 \r\n", "1.1 200 [] length(0)\n"), ("HTTP/1.1 599 a b\tc\r\n", "1.1 599 [a b\tc] length(0)\n"),
    ("HTTP/1.0 200 OK\r\n", "1.0 200 [OK] length(0) close\n"),
    ("HTTP/1.1 404 \u{e9}\r\n", "1.1 404 [\u{e9}] length(0)\n"),
  ])
  func readsStatusLines(_ line: String, _ expected: String) {
    #expect(
      parse(line + "Content-Length: 0\r\n\r\n") == [.head(expected + "Content-Length: 0\r\n"), .end(rest: 0)])
  }

  @Test func keepsHeadersInNormalForm() {
    let seen = parse(
      ResponseParserTests.ok + "Content-Length: 0\r\nA: 1\r\nb:2\r\nC: \t 3 4\t \r\nd:\r\ne: \r\nf: 5\r\n\r\n")
    let headers = "Content-Length: 0\r\nA: 1\r\nb: 2\r\nC: 3 4\r\nd: \r\ne: \r\nf: 5\r\n"
    #expect(seen == [.head("1.1 200 [OK] length(0)\n" + headers), .end(rest: 0)])
  }

  @Test func acceptsNoHeadersAtAll() {
    #expect(
      parse(ResponseParserTests.ok + "\r\nabc", endOfInput: true)
        == [.head("1.1 200 [OK] untilClose close\n"), .body("abc"), .end(rest: 0)])
  }

  @Test func aHeadInOneInputIsNotCopied() {
    withBytes(ResponseParserTests.ok + "a: b\r\nContent-Length: 0\r\n\r\n") { input in
      var parser = ResponseParser()
      guard case .head(let head) = parser.next(input).event else {
        Issue.record("no head")
        return
      }
      #expect(head.headers.baseAddress == input.baseAddress! + 17)
      #expect(head.reason.baseAddress == input.baseAddress! + 13)
    }
  }

  @Test(arguments: [
    ("1.1", "", false), ("1.1", "Connection: close\r\n", true), ("1.1", "connection: a, CLOSE\r\n", true),
    ("1.1", "Connection: a\r\nConnection: close\r\n", true), ("1.1", "Connection: closed\r\n", false),
    ("1.1", "Connection: keep-alive\r\n", false), ("1.0", "", true), ("1.0", "Connection: Keep-Alive\r\n", false),
    ("1.0", "Connection: keep-alive, close\r\n", true), ("1.1", "Connection: keep-alive, close\r\n", true),
  ])
  func knowsWhetherTheConnectionCloses(_ version: String, _ headers: String, _ closes: Bool) {
    let seen = parse("HTTP/\(version) 200 OK\r\nContent-Length: 0\r\n\(headers)\r\n")
    guard case .head(let head)? = seen.first else {
      Issue.record("no head")
      return
    }
    #expect(head.contains("close\n") == closes)
  }

  @Test(arguments: [
    ("timeout=5, max=100", " timeout=5"), ("max=100,Timeout = 60", " timeout=60"), ("timeout=", ""), ("timeout", ""),
    ("timeouts=5", ""), ("timeout=x", ""), ("timeout=-1", ""), ("timeout=99999999999", " timeout=4294967295"),
    ("timeout=0", " timeout=0"), ("xtimeout=5", ""), ("", ""),
  ])
  func readsKeepAlive(_ value: String, _ expected: String) {
    let seen = parse(ResponseParserTests.ok + "Content-Length: 0\r\nKeep-Alive:  \(value)\r\n\r\n")
    let headers = "Content-Length: 0\r\nKeep-Alive: \(value)\r\n"
    #expect(seen.first == .head("1.1 200 [OK] length(0)\(expected)\n\(headers)"))
  }

  // MARK: Accepted bodies

  @Test func readsALengthAndStopsThere() {
    #expect(
      parse(ResponseParserTests.ok + "content-length: 0005\r\n\r\nhelloHTTP/1.1")
        == [.head("1.1 200 [OK] length(5)\ncontent-length: 0005\r\n"), .body("hello"), .end(rest: 8)])
  }

  @Test(arguments: [
    ("5\r\nhello\r\n0\r\n\r\n", "hello"), ("0\r\n\r\n", ""), ("00000\r\n\r\n", ""),
    ("1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", "abc"),
    ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789"), ("a\r\n01234\r\n789\r\n0\r\n\r\n", "01234\r\n789"),
    ("0000000000000003\r\nabc\r\n0\r\n\r\n", "abc"), ("3;a\r\nabc\r\n0;b=c\r\n\r\n", "abc"),
    ("3 \t;a = \"x; \t\u{e9}\"\r\nabc\r\n0\r\n\r\n", "abc"), ("1\r\n\r\r\n1\r\n\n\r\n0\r\n\r\n", "\r\n"),
    ("3\r\nabc\r\n0\r\nTrailer: x\r\nb:\r\n\r\n", "abc"),
  ])
  func readsChunks(_ body: String, _ expected: String) {
    let seen = parse(ResponseParserTests.ok + "Transfer-Encoding: Chunked\r\n\r\n\(body)rest")
    var wanted: [Seen] = [.head("1.1 200 [OK] chunked\nTransfer-Encoding: Chunked\r\n")]
    if !expected.isEmpty { wanted.append(.body(expected)) }
    #expect(seen == wanted + [.end(rest: 4)])
  }

  @Test func readsUntilTheConnectionCloses() {
    let text = ResponseParserTests.ok + "a: b\r\n\r\nhello"
    let head = Seen.head("1.1 200 [OK] untilClose close\na: b\r\n")
    #expect(parse(text, endOfInput: true) == [head, .body("hello"), .end(rest: 0)])
    #expect(parse(text) == [head, .body("hello")])
    #expect(parse(ResponseParserTests.ok + "a: b\r\n\r\n", endOfInput: true) == [head, .end(rest: 0)])
  }

  @Test(arguments: ["", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"])
  func someAnswersHaveNoBody(_ framing: String) {
    for (status, isHEAD) in [(200, true), (204, false), (304, false), (404, true)] {
      let seen = parse("HTTP/1.1 \(status) x\r\n\(framing)\r\nHTTP", head: isHEAD)
      #expect(seen == [.head("1.1 \(status) [x] none\n\(framing)"), .end(rest: 4)])
    }
  }

  @Test func passesOverInterimAnswers() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink:x\r\nContent-Length: 0\r\n\r\n"
    let final = ResponseParserTests.ok + "Content-Length: 2\r\n\r\nhi"
    #expect(
      parse(interim + final) == [
        .interim(100), .interim(103), .head("1.1 200 [OK] length(2)\nContent-Length: 2\r\n"), .body("hi"),
        .end(rest: 0),
      ])
  }

  /// RFC 9110, section 15.2: any number.
  @Test func interimAnswersAreBoundedInBytes() {
    let final = ResponseParserTests.ok + "Content-Length: 2\r\n\r\nhi"
    let interim = "HTTP/1.1 102 Processing\r\nX: 12345\r\n\r\n"
    let most = InterimAllowance.maximumBytes / interim.utf8.count
    var parser = ResponseParser()
    func last(_ count: Int) -> Seen? {
      parse([Array((String(repeating: interim, count: count) + final).utf8)], with: &parser).last
    }
    #expect(last(most) == .end(rest: 0))
    #expect(
      last(most + 1) == .failed("head: more than 1048576 bytes of interim answers before the final one", .tooLarge))
    #expect(last(most) == .end(rest: 0), "each answer has its own allowance")
  }

  // MARK: Read although no server should send it (docs/leniency.md)

  /// The head, and whether the connection may be used again.
  static let tolerated: [(String, String, Bool)] = [
    ("HTTP/1.1 200 OK\nContent-Length: 2\n\n", "Content-Length: 2\r\n", true),
    ("HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\n", "Content-Length: 2\r\n", true),
    ("HTTP/1.1 200 OK\r\na: b\nContent-Length: 2\r\n\r\n", "a: b\r\nContent-Length: 2\r\n", true),
    ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\n", "Content-Length: 2\r\n", true),
    ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\na: b\r\n c\r\n\r\n", "Content-Length: 2\r\na: b c\r\n", true),
    ("HTTP/1.1 200 OK\r\na:b \r\n\t \r\n  c \nContent-Length: 2\r\n\r\n", "a: b c\r\nContent-Length: 2\r\n", true),
    ("HTTP/1.1 200 OK\r\na:\r\n b\r\n c\r\nContent-Length: 2\r\n\r\n", "a: b c\r\nContent-Length: 2\r\n", true),
    ("HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\n", "Content-Length: 2\r\n", true),
    (
      "HTTP/1.1 200 OK\r\na: b\r\n Content-Length: 9\r\nContent-Length: 2\r\n\r\n",
      "a: b Content-Length: 9\r\nContent-Length: 2\r\n", true
    ),
    (
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 02\r\n\r\n",
      "Content-Length: 2\r\ncontent-length: 02\r\n", true
    ),
    ("HTTP/1.1 200 OK\r\nContent-Length: 2, 2 ,2\r\n\r\n", "Content-Length: 2, 2 ,2\r\n", true),
    (
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\na: \u{1}b\u{1b}\u{7f}\u{b}\r\n\r\n",
      "Content-Length: 2\r\na: \u{1}b\u{1b}\u{7f}\u{b}\r\n", false
    ),
    ("HTTP/1.1 200 O\u{1}K\r\nContent-Length: 2\r\n\r\n", "Content-Length: 2\r\n", false),
    ("HTTP/1.1 600 OK\r\nContent-Length: 2\r\n\r\n", "Content-Length: 2\r\n", false),
    ("HTTP/1.1 999 OK\r\nContent-Length: 2\r\n\r\n", "Content-Length: 2\r\n", false),
  ]

  @Test(arguments: tolerated)
  func reads(_ text: String, _ headers: String, doubtful: Bool) {
    let seen = parse(text + "hi")
    guard case .head(let head)? = seen.first else {
      Issue.record("\(seen)")
      return
    }
    #expect(head.hasSuffix("length(2)\(doubtful ? " close" : "")\n" + headers), "\(head)")
    #expect(Array(seen.dropFirst()) == [.body("hi"), .end(rest: 0)])
    var parser = ResponseParser()
    _ = parse([Array(text.utf8), Array("hi".utf8)], with: &parser)
    let isDoubtful = parser.isDoubtful
    #expect(isDoubtful == doubtful)
    _ = parse([Array((ResponseParserTests.ok + "content-length: 0\r\n\r\n").utf8)], with: &parser)
    let isStillDoubtful = parser.isDoubtful
    #expect(!isStillDoubtful, "the next answer begins anew")
  }

  @Test(arguments: [
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2  \r\nhi\r\n0\t\r\n\r\n", false),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n000000000000000000002\r\nhi\r\n0\r\n\r\n", false),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\n", true),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\na: b\n\r\n", true),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\na: b\r\n c\r\n\r\n", true),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", true),
    ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", true),
  ])
  func readsTheseChunks(_ text: String, doubtful: Bool) {
    let seen = parse(text)
    #expect(Array(seen.dropFirst()) == [.body("hi"), .end(rest: 0)], "\(seen)")
    var parser = ResponseParser()
    _ = parse([Array(text.utf8)], with: &parser)
    let isDoubtful = parser.isDoubtful
    #expect(isDoubtful == doubtful)
  }

  @Test func oneParserReadsManyAnswers() {
    var parser = ResponseParser()
    let first = Array((ResponseParserTests.ok + "Content-Length: 1\r\n\r\nx").utf8)
    let second = Array((ResponseParserTests.ok + "a:b\r\nTransfer-Encoding: chunked\r\n\r\n1\r\ny\r\n0\r\n\r\n").utf8)
    for _ in 0..<3 {
      #expect(parse([first], with: &parser).last == .end(rest: 0))
      #expect(parser.isComplete && parser.bodyBytesReceived == 1)
      #expect(parse([first], head: true, with: &parser).last == .end(rest: 1))
      #expect(parse(second.map { [$0] }, with: &parser).contains(.body("y")))
      #expect(parse([Array("X".utf8)], with: &parser).count == 1)
    }
  }

  @Test func endAndFailureAreGivenAgain() {
    var parser = ResponseParser()
    #expect(parse([Array("HTTP/1.1 204 x\r\n\r\n".utf8)], with: &parser).last == .end(rest: 0))
    withBytes("more") { input in
      let step = parser.next(input)
      guard case .end = step.event, step.consumed == 0 else {
        Issue.record("\(step)")
        return
      }
    }
    _ = parse([Array("junk".utf8)], with: &parser)
    withBytes("HTTP/1.1 204 x\r\n\r\n") { input in
      guard case .failed(_, .protocolViolation) = parser.next(input).event else {
        Issue.record("alive")
        return
      }
      guard case .failed(_, .protocolViolation) = parser.endOfInput() else {
        Issue.record("alive")
        return
      }
    }
  }

  // MARK: Refused

  static let refused: [(String, String)] = [
    ("HTTP/0.9 200 OK\r\n\r\n", "statusLine: the answer does not begin"),
    ("HTTP/2.0 200 OK\r\n\r\n", "statusLine: the answer does not begin"),
    ("HTTP/3.0 200 OK\r\n\r\n", "statusLine: the answer does not begin"),
    ("HTTP/1.2 200 OK\r\n\r\n", "statusLine: the answer does not begin"),
    ("HTTP/1.10 200 OK\r\n\r\n", "statusLine: expected HTTP/1.1, a space"),
    ("HTTP/1.\r\n\r\n", "statusLine: the answer does not begin"),
    ("http/1.1 200 OK\r\n\r\n", "statusLine: the answer does not begin"),
    ("ICY 200 OK\r\n\r\n", "statusLine: the answer does not begin"),
    ("SSH-2.0-OpenSSH_9.2\r\n", "statusLine: the answer does not begin"),
    ("<html>", "statusLine: the answer does not begin"),
    ("\r\nHTTP/1.1 200 OK\r\n\r\n", "statusLine: the answer does not begin"),
    ("\n", "statusLine: the answer does not begin"),
    (" HTTP/1.1 200 OK\r\n\r\n", "statusLine: the answer does not begin"),
    ("\u{15}\u{3}\u{1}", "is the URL's scheme https?"),
    ("\0\0\u{12}\u{4}", "seems to speak HTTP/2"),
    ("HTTP/1.1\r\n\r\n", "three digits"),
    ("HTTP/1.1 \r\n\r\n", "three digits"),
    ("HTTP/1.1  200 OK\r\n\r\n", "three digits"),
    ("HTTP/1.1\t200 OK\r\n\r\n", "three digits"),
    ("HTTP/1.1 20 OK\r\n\r\n", "three digits"),
    ("HTTP/1.1 20\r\n\r\n", "three digits"),
    ("HTTP/1.1 2000 OK\r\n\r\n", "three digits"),
    ("HTTP/1.1 +20 OK\r\n\r\n", "three digits"),
    ("HTTP/1.1 -20 OK\r\n\r\n", "three digits"),
    ("HTTP/1.1 2x0 OK\r\n\r\n", "three digits"),
    ("HTTP/1.1 200\tOK\r\n\r\n", "three digits"),
    ("HTTP/1.1 099 OK\r\n\r\n", "the status is 99"),
    ("HTTP/1.1 000 OK\r\n\r\n", "the status is 0"),
    ("HTTP/1.1 200 O\rK\r\n\r\n", "a carriage return in the reason"),
    ("HTTP/1.1 200 O\0K\r\n\r\n", "a NUL or a carriage return in the reason"),
    ("HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", "head: header line 1 (A): a NUL or a carriage return"),
    ("HTTP/1.1 200 OK\r\nA: b\r\r\n\r\n", "head: header line 1 (A): a NUL or a carriage return"),
    ("HTTP/1.1 200 OK\r\nA: secret\0\r\n\r\n", "head: header line 1 (A): a NUL or a carriage return"),
    ("HTTP/1.1 200 OK\r\nA: b\r\n secret\0\r\n\r\n", "head: header line 2: a NUL or a carriage return"),
    ("HTTP/1.1 200 OK\r\nA: b\r\n c\rd\n\r\n", "head: header line 2: a NUL or a carriage return"),
    ("HTTP/1.1 200 OK\n A: b\r\n\r\n", "header line 1: begins with whitespace"),
    ("HTTP/1.1 200 OK\r\n A: b\r\n\r\n", "header line 1: begins with whitespace"),
    ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "whitespace in or after the name"),
    ("HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n", "whitespace in or after the name"),
    ("HTTP/1.1 200 OK\r\n: b\r\n\r\n", "the name is empty"),
    ("HTTP/1.1 200 OK\r\nnocolon\r\n\r\n", "no colon"),
    ("HTTP/1.1 200 OK\r\na@b: c\r\n\r\n", "character 2 of the name"),
    ("HTTP/1.1 200 OK\r\na\0: c\r\n\r\n", "character 2 of the name"),
    ("HTTP/1.1 101 Switching Protocols\r\n\r\n", "101 Switching"),
    ("HTTP/1.1 100 x\r\nContent-Length: 5\r\n\r\n", "interim answer with a body"),
    ("HTTP/1.1 100 x\r\nTransfer-Encoding: chunked\r\n\r\n", "interim answer with a body"),
  ]

  @Test(arguments: refused)
  func refuses(_ text: String, because reason: String) {
    guard case .failed(let message, .protocolViolation)? = parse(text).last else {
      Issue.record("accepted \(text)")
      return
    }
    #expect(message.contains(reason), "\(message)")
    #expect(!message.contains("secret"))
  }

  @Test(arguments: [
    "Content-Length: +5", "Content-Length: -5", "Content-Length: 5 5", "Content-Length: 5, 6", "Content-Length: 5,",
    "Content-Length: ,5", "Content-Length: 5,,5", "Content-Length: 5\r\n 5", "Content-Length: 5\r\n , 6",
    "Transfer-Encoding: chunked\r\n x", "Transfer-Encoding: chunked\r\n , chunked",
    "Content-Length: 0x5", "Content-Length: 5.0", "Content-Length:", "Content-Length: \"5\"", "Content-Length: five",
    "Content-Length: 9223372036854775808", "Content-Length: 18446744073709551621",
    "Content-Length: 99999999999999999999999999999",
    "Content-Length: 5\r\ncontent-length: 6", "Transfer-Encoding: gzip", "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, chunked", "Transfer-Encoding: chunked,", "Transfer-Encoding: identity",
    "Transfer-Encoding:", "Transfer-Encoding: xchunked", "Transfer-Encoding: chunked;x",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 5",
    "Content-Length: 5\r\nTransfer-Encoding: chunked", "Content-Length: 0\r\ntransfer-encoding: chunked",
  ])
  func refusesAmbiguousFraming(_ headers: String) {
    for (status, isHEAD) in [("200", false), ("200", true), ("304", false)] {
      let seen = parse("HTTP/1.1 \(status) OK\r\n\(headers)\r\n\r\nhello", head: isHEAD)
      guard case .failed(let message, .protocolViolation)? = seen.first else {
        Issue.record("accepted \(headers)")
        continue
      }
      #expect(message.hasPrefix("contentLength: ") || message.hasPrefix("transferEncoding: "), "\(message)")
    }
  }

  static let refusedChunks: [(String, String)] = [
    ("\r\n", "expected a chunk size"), ("x\r\n", "expected a chunk size"), ("-1\r\n", "expected a chunk size"),
    ("+1\r\n", "expected a chunk size"), (" 1\r\n", "expected a chunk size"), (";a\r\n", "expected a chunk size"),
    ("0x1\r\n", "unexpected character"), ("1g\r\n", "unexpected character"), ("1 x\r\n", "unexpected character"),
    ("1 2\r\n", "unexpected character"), ("1\n", "unexpected character"), ("1;a\n", "unexpected character"),
    ("1;\0\r\n", "unexpected character"), ("1,\r\n", "unexpected character"), ("1\rx", "does not end in CR LF"),
    ("1;a\rx", "does not end in CR LF"), ("10000000000000000\r\n", "2^63 or more"),
    ("8000000000000000\r\n", "2^63 or more"), ("FFFFFFFFFFFFFFFF\r\n", "2^63 or more"),
    ("08000000000000000\r\n", "2^63 or more"), ("1\r\naX", "after the bytes of a chunk"),
    ("1\r\na\n", "after the bytes of a chunk"), ("1\r\na\rX", "after the bytes of a chunk"),
    ("1\r\nab\r\n", "after the bytes of a chunk"), ("0\r\nbad\r\n\r\n", "trailer: trailer line 1: no colon"),
    ("0\r\n a: b\r\n\r\n", "trailer line 1: begins with whitespace"),
    ("0\r\na: b\r\n c\0\r\n\r\n", "trailer line 2: a NUL"),
    ("0\r\na: \0\r\n\r\n", "trailer line 1 (a): a NUL"), ("0\r\na: b\rc\n\r\n", "carriage return"),
  ]

  @Test(arguments: refusedChunks)
  func refusesChunks(_ body: String, because reason: String) {
    let seen = parse(ResponseParserTests.ok + "Transfer-Encoding: chunked\r\n\r\n" + body)
    guard case .failed(let message, .protocolViolation)? = seen.last else {
      Issue.record("accepted \(body)")
      return
    }
    #expect(message.contains(reason), "\(message)")
  }

  // MARK: Limits

  @Test func limitsTheHead() {
    let fixed = (ResponseParserTests.ok + "Content-Length: 0\r\na: \r\n\r\n").utf8.count
    let room = ResponseParser.maximumHeadBytes - fixed
    let largest = String(repeating: "b", count: room)
    #expect(parse(ResponseParserTests.ok + "Content-Length: 0\r\na: \(largest)\r\n\r\n").last == .end(rest: 0))
    let tooLarge = Seen.failed("head: the head of the answer is larger than 65536 bytes", .tooLarge)
    #expect(parse(ResponseParserTests.ok + "Content-Length: 0\r\na: \(largest)b\r\n\r\n") == [tooLarge])
    #expect(parse(ResponseParserTests.ok + String(repeating: "a: b\r\n", count: 11_000)) == [tooLarge])
    #expect(parse("HTTP/1.1 200 " + String(repeating: "x", count: 70_000)) == [tooLarge])
    #expect(parse(String(repeating: "x", count: 70_000)).first != tooLarge)
  }

  @Test func limitsTheTrailers() {
    let chunked = ResponseParserTests.ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n"
    let room = ResponseParser.maximumHeadBytes - "a: \r\n\r\n".utf8.count
    let largest = String(repeating: "b", count: room)
    let tooLarge = Seen.failed("trailer: the trailers are larger than 65536 bytes", .tooLarge)
    #expect(parse("\(chunked)a: \(largest)\r\n\r\n").last == .end(rest: 0))
    #expect(parse("\(chunked)a: \(largest)b\r\n\r\n").last == tooLarge)
    #expect(parse("\(chunked)a: \(largest)bbbbbbbbb").last == tooLarge)
    #expect(parse(chunked + String(repeating: "a: b\r\n", count: 11_000)).last == tooLarge)
  }

  @Test func limitsTheLineOfAChunk() {
    let chunked = ResponseParserTests.ok + "Transfer-Encoding: chunked\r\n\r\n"
    let longest = String(repeating: "a", count: ResponseParser.maximumChunkLineBytes - 3)
    #expect(parse("\(chunked)0;\(longest)\r\n\r\n").last == .end(rest: 0))
    guard case .failed(let message, .protocolViolation)? = parse("\(chunked)0;\(longest)a\r\n\r\n").last else {
      Issue.record("accepted")
      return
    }
    #expect(message.contains("longer than 4096"))
  }

  @Test func readsTheLargestLengths() {
    let most = "9223372036854775807"
    let seen = parse(ResponseParserTests.ok + "Content-Length: \(most)\r\n\r\nabc", endOfInput: true)
    #expect(
      seen.suffix(2) == [
        .body("abc"), .failed("body: connection closed after 3 of \(most) bytes of the body", .truncated),
      ])
    let chunked = parse(
      ResponseParserTests.ok + "Transfer-Encoding: chunked\r\n\r\n7FFFFFFFFFFFFFFF\r\nabc", endOfInput: true)
    #expect(chunked.contains(.body("abc")))
  }

  // MARK: End of input

  @Test(arguments: [
    ("", "before the first byte"), ("H", "after 1 bytes of the head"),
    ("HTTP/1.1 200 OK\r\nA: b\r\n", "after 23 bytes of the head"),
    ("HTTP/1.1 100 x\r\n\r\n", "after an interim answer"),
    ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "after 0 of 5 bytes"),
    ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", "after 4 of 5 bytes"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "after 0 bytes of a chunked body"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell", "after 4 bytes of a chunked body"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "after 5 bytes of a chunked body"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "before its last chunk"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\na: b\r\n\r", "before its last chunk"),
  ])
  func anAnswerCutShortIsNoSuccess(_ text: String, because reason: String) {
    guard case .failed(let message, .truncated)? = parse(text, endOfInput: true).last else {
      Issue.record("accepted \(text)")
      return
    }
    #expect(message.contains(reason), "\(message)")
  }

  @Test(arguments: ["HTTP/1.1 204 x\r\n\r\n", "HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n"])
  func anAnswerWithoutABodyIsCompleteAtTheEndOfInput(_ text: String) {
    var parser = ResponseParser()
    withBytes(text) { input in
      guard case .head = parser.next(input).event else {
        Issue.record("no head")
        return
      }
      guard case .end = parser.endOfInput() else {
        Issue.record("no end")
        return
      }
      #expect(parser.isComplete == true)
    }
  }

  // MARK: Garbage

  @Test func garbageNeverTrapsAndNeverDependsOnTheSplit() {
    let seeds = [
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: u\r\n\r\n",
      "HTTP/1.1 100 x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nA:  b \r\n\r\nhelloX",
      "HTTP/1.0 404 Not\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\nbody",
    ].map { Array($0.utf8) }
    var random = Random(6)
    var parser = ResponseParser()
    for round in 0..<30_000 {
      let bytes = mutated(seeds[round % 3], &random)
      let whole = parse([bytes], endOfInput: true, with: &parser)
      let cuts = [random.below(bytes.count + 1), random.below(bytes.count + 1)].sorted()
      let split = parse(bytes.pieces(at: cuts), endOfInput: true, with: &parser)
      if whole != split { Issue.record("\(string(bytes)) cut at \(cuts): \(split), whole: \(whole)") }
    }
  }

  @Test func eventsAreTrivial() {
    #expect(_isPOD(ResponseParser.Step.self))
    #expect(_isPOD(SSEParser.Step.self))
    #expect(_isPOD(WireError.self))
    #expect(_isPOD(HeaderField.self) && _isPOD(HeaderSummary.self) && _isPOD(URLParts.self))
  }
}
