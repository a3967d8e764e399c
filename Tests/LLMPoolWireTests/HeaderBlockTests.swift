import LLMPoolTestSupport
import LLMPoolWire
import Testing

/// Validates a block and gives its fields as text, or the error.
func validated(_ block: String) -> Result<(fields: [(String, String, HeaderField.Kind)], HeaderSummary), WireError> {
  validated(Array(block.utf8))
}

func validated(
  _ block: [UInt8]
) -> Result<(fields: [(String, String, HeaderField.Kind)], HeaderSummary), WireError> {
  withBytes(block) { bytes in
    var fields: [HeaderField] = []
    return Result { () throws(WireError) in
      let summary = try HeaderBlock.validate(bytes, into: &fields)
      return (fields.map { (string(bytes[$0.nameRange]), string(bytes[$0.valueRange]), $0.kind) }, summary)
    }
  }
}

struct HeaderBlockTests {
  @Test func acceptsAnEmptyBlock() throws {
    let (fields, summary) = try validated("").get()
    #expect(fields.isEmpty)
    #expect(summary == HeaderSummary())
    #expect(summary.isVerbatim)
  }

  @Test func findsNamesAndValues() throws {
    let (fields, summary) = try validated(
      "Accept: a\r\nx-empty:\r\nx-blank:  \t \r\nX-Trim: \t b c\td \t\r\n!#$%&'*+-.^_`|~09aZ:x\r\nlast: :1"
    ).get()
    #expect(
      fields.map { "\($0.0)=\($0.1)" } == [
        "Accept=a", "x-empty=", "x-blank=", "X-Trim=b c\td", "!#$%&'*+-.^_`|~09aZ=x", "last=:1",
      ])
    #expect(!summary.isVerbatim)
  }

  @Test func acceptsObsTextAndUTF8() throws {
    let (fields, summary) = try validated(Array("a: é".utf8) + [0x80, 0xFF]).get()
    #expect(fields.count == 1)
    #expect(summary.isVerbatim)
  }

  @Test(arguments: [
    ("Host", HeaderField.Kind.host), ("content-LENGTH", .contentLength), ("Connection", .connection),
    ("keep-alive", .keepAlive), ("Proxy-Connection", .proxyConnection), ("Trailer", .trailer), ("ACCEPT", .other),
    ("Authorization", .authorization), ("Proxy-Authorization", .proxyAuthorization), ("Cookie", .cookie),
    ("x-api-key", .apiKey), ("API-Key", .apiKey), ("x-goog-api-key", .apiKey), ("x-custom", .other), ("hosts", .other),
    ("hos_", .other), ("content-lengthy", .other),
  ])
  func knowsNames(_ name: String, _ kind: HeaderField.Kind) throws {
    let (fields, _) = try validated("\(name): 1").get()
    #expect(fields.first?.2 == kind)
  }

  @Test func marksSecretsAndWhatIsDropped() {
    let secret: [HeaderField.Kind] = [.authorization, .proxyAuthorization, .cookie, .apiKey]
    let open: [HeaderField.Kind] = [.other, .host, .te, .connection]
    #expect(secret.allSatisfy(\.isSensitive) && !open.contains(where: \.isSensitive))
    #expect(HeaderField.Kind.connection.isDropped && !HeaderField.Kind.te.isDropped)
  }

  @Test func summarises() throws {
    let block =
      "Host: h:1\r\nContent-Length: 0042\r\nConnection: x, Close\r\nTE: Trailers\r\nUser-Agent: u\r\n"
    let (_, summary) = try validated(block).get()
    #expect(summary.contentLength == 42)
    #expect(summary.hostIndex == 0)
    #expect(summary.closesConnection && summary.hasTE && !summary.isVerbatim)
  }

  @Test(arguments: ["keep-alive", "closed", "not close", "upgrade, x-close", "\"close\""])
  func otherConnectionOptionsDoNotClose(_ value: String) throws {
    let (_, summary) = try validated("Connection: \(value)").get()
    #expect(!summary.closesConnection)
  }

  @Test(arguments: [
    ("a: b", true), ("a: b\r\nc: d\r\n", true), ("a: ", true), ("a:b", false), ("a:  b", false), ("a: b ", false),
    ("a:\tb", false), ("a:", false), ("host: h", false), ("keep-alive: 1", false), ("content-length: 1", false),
  ])
  func knowsWhatMayGoAsItIs(_ block: String, _ expected: Bool) throws {
    #expect(try validated(block).get().1.isVerbatim == expected)
  }

  static let refused: [(String, String)] = [
    ("no colon", "header line 1: whitespace in or after the name"),
    ("nocolon", "header line 1: no colon"),
    ("a: b\r\nnocolon\r\n", "header line 2: no colon"),
    (": v", "header line 1: the name is empty"),
    (":authority: v", "header line 1: the name is empty, or begins with a colon"),
    ("a : v", "whitespace in or after the name"),
    ("a\t: v", "whitespace in or after the name"),
    (" a: v", "begins with whitespace"),
    ("a: b\r\n folded", "header line 2: begins with whitespace"),
    ("a: b\r\n\tfolded", "header line 2: begins with whitespace"),
    ("a(b): v", "character 2 of the name"),
    ("é: v", "character 1 of the name"),
    ("a\0: v", "character 2 of the name"),
    ("\r\n", "header line 1: the line is empty"),
    ("a: b\r\n\r\n", "header line 2: the line is empty"),
    ("a: b\r\n\r\nc: d", "header line 2: the line is empty"),
    ("x-a: b\nc: d", "a line feed without"),
    ("\n", "a line feed without"),
    ("x-a: b\rc", "header line 1 (x-a): control character"),
    ("x-a: b\r", "header line 1 (x-a): control character"),
    ("x-a: b\r\r\n", "header line 1 (x-a): control character"),
    ("x-a: secret\0", "header line 1 (x-a): control character"),
    ("x-a: secret\u{1}secret", "control character"),
    ("x-a: \u{7F}", "control character"),
    ("x-a: \u{1F}", "control character"),
    ("x-a: 1234567\u{0B}secret", "control character"),
    ("Transfer-Encoding: chunked", "header line 1 (Transfer-Encoding): set by the library"),
    ("upgrade: h2c", "set by the library"),
    ("Expect: 200-ok", "only \"100-continue\" is supported"),
    ("TE: gzip", "only \"trailers\""),
    ("te: trailers, deflate", "only \"trailers\""),
    ("host: a\r\nHost: a", "header line 2 (Host): given twice"),
    ("host: a b", "expected a host"),
    ("host: a,b", "expected a host"),
    ("host: u@a", "expected a host"),
    ("host: a/b", "expected a host"),
    ("content-length: 1\r\ncontent-length: 1", "header line 2 (content-length): given twice"),
    ("content-length: +1", "decimal digits"),
    ("content-length: -1", "decimal digits"),
    ("content-length: 1, 1", "decimal digits"),
    ("content-length:", "decimal digits"),
    ("content-length: 0x10", "decimal digits"),
    ("content-length: 9223372036854775808", "decimal digits"),
    ("content-length: 99999999999999999999999999", "decimal digits"),
    (String(repeating: "a: b\r\n", count: 1_001), "more than 1000 headers"),
    ("a: " + String(repeating: "b", count: 65_534), "at most 65536"),
    (String(repeating: "n", count: 40) + ": \u{1}", "(" + String(repeating: "n", count: 32) + "...)"),
  ]

  @Test(arguments: refused)
  func refuses(_ block: String, because reason: String) {
    switch validated(block) {
    case .success: Issue.record("accepted \(block.prefix(80))")
    case .failure(let error):
      #expect(error.field == .headers)
      #expect(error.message.contains(reason), "\(error.message)")
      #expect(!error.message.contains("secret"))
    }
  }

  @Test func acceptsTheLargest() throws {
    #expect(try validated(String(repeating: "a: b\r\n", count: 1_000)).get().0.count == 1_000)
    #expect(try validated("a: " + String(repeating: "b", count: 65_533)).get().0.count == 1)
  }

  @Test func everyControlCharacterIsRefusedAtEveryPlace() {
    // The scan looks at eight bytes at a time: every byte, at every place in a word.
    for byte in UInt8.min...UInt8.max {
      let isAllowed = (byte >= 0x20 && byte != 0x7F) || byte == 0x09
      for place in 0..<18 {
        var value = [UInt8](repeating: 0x61, count: 19)
        value[place] = byte
        let result = validated(Array("n: x".utf8) + value)
        #expect(((try? result.get()) != nil) == isAllowed, "byte \(byte) at \(place)")
      }
    }
  }

  @Test func everyByteOfANameIsChecked() {
    let allowed = Set("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".utf8)
    for byte in UInt8.min...UInt8.max where byte != 0x3A {
      let result = validated([0x61, byte, 0x61, 0x3A, 0x62])
      #expect(((try? result.get()) != nil) == allowed.contains(byte), "byte \(byte)")
    }
  }

  // MARK: Looking things up

  @Test(
    arguments: [
      ("content-type", "a"), ("CONTENT-TYPE", "a"), ("x-empty", ""), ("x-last", "z"), ("content", nil), ("type", nil),
      ("x-two", "1"), ("x-absent", nil),
    ] as [(String, String?)])
  func findsValues(_ name: String, _ expected: String?) {
    let block = "Content-Type: a\r\nX-Empty: \r\nx-two: 1\r\nx-two: 2\r\nX-Last: z\r\n"
    withBytes(block) { block in
      withBytes(name) { name in
        #expect(HeaderBlock.value(of: name, in: block).map { string($0) } == expected)
      }
    }
  }

  @Test func findsNothingInNothing() {
    #expect(HeaderBlock.value(of: "a", in: UnsafeRawBufferPointer(start: nil, count: 0)) == nil)
    withBytes("a") { #expect(HeaderBlock.value(of: "a", in: $0) == nil) }
    withBytes("a: b") { #expect(HeaderBlock.value(of: "a", in: $0).map { string($0) } == "b") }
  }

  @Test(arguments: [
    ("close", true), ("Close", true), ("a, close", true), (",,close ,", true), ("a,\tCLOSE\t", true), ("closed", false),
    ("a close", false), ("", false), (",", false), ("clos", false),
  ])
  func findsTokens(_ list: String, _ expected: Bool) {
    withBytes(list) { #expect(HeaderBlock.hasToken("close", in: $0) == expected) }
  }

  @Test(
    arguments: [
      ("Content-Type: text/event-stream\r\n", .events),
      ("content-type: Text/Event-Stream; charset=utf-8\r\n", .events),
      ("content-type: text/event-stream ;x\r\n", .events),
      ("content-type: text/event-stream\r\ncontent-encoding: identity\r\n", .events),
      ("content-type: text/event-stream\r\ncontent-encoding: gzip\r\n", .encodedEvents),
      ("content-type: application/json; charset=utf-8\r\ncontent-encoding: gzip\r\n", .document),
      ("content-type: text/event-streams\r\n", .other), ("content-type: application/x-ndjson\r\n", .other),
      ("content-type: \r\n", .other), ("", .other),
    ] as [(String, HeaderBlock.Kind)])
  func knowsEventStreams(_ block: String, _ expected: HeaderBlock.Kind) {
    withBytes(block) { #expect(HeaderBlock.kind($0) == expected) }
  }

  @Test func writesLines() {
    var out = ByteBuffer()
    withBytes("X-Name") { name in
      withBytes("v") { HeaderBlock.appendLine(name: name, value: $0, to: &out) }
    }
    #expect(string(out) == "X-Name: v\r\n")
  }

  @Test func garbageNeverTraps() {
    var random = Random(2)
    let seed = Array("Host: h\r\nContent-Length: 5\r\nConnection: close, x\r\nTE: trailers\r\nx-a:  b \r\n".utf8)
    for _ in 0..<20_000 {
      let block = mutated(seed, &random)
      guard case .success(let (fields, _)) = validated(block) else { continue }
      for (name, value, _) in fields {
        #expect(!name.utf8.isEmpty && !value.utf8.contains { $0 == 0x0D || $0 == 0x0A || $0 == 0 })
      }
    }
  }
}
