import LLMPoolTestSupport
import LLMPoolWire
import Testing

/// Writes the head of a request as the engine does.
func head(
  _ method: String, _ url: String, _ headers: String = "", framing: BodyFraming = .none, absolute: Bool = false,
  extra: String = ""
) -> Result<String, WireError> {
  withBytes(url) { url in
    withBytes(method) { method in
      withBytes(headers) { block in
        withBytes(extra) { extra in
          Result { () throws(WireError) in
            try RequestWriter.validateMethod(method)
            let parts = try URLParts.parse(url)
            var authority = ByteBuffer()
            parts.appendAuthority(of: url, to: &authority)
            var fields: [HeaderField] = []
            let summary = try HeaderBlock.validate(block, into: &fields)
            var out = ByteBuffer()
            out.append("before ")
            fields.withUnsafeBufferPointer { fields in
              var head = RequestHead(
                method: method, target: UnsafeRawBufferPointer(rebasing: url[parts.targetRange]),
                targetNeedsSlash: parts.targetNeedsSlash, authority: authority.readable, block: block, fields: fields,
                summary: summary, framing: framing)
              head.usesAbsoluteForm = absolute
              head.extraLines = extra
              RequestWriter.appendHead(head, to: &out)
            }
            out.consume(7)
            return string(out)
          }
        }
      }
    }
  }
}

struct RequestWriterTests {
  @Test func writesTheShortest() throws {
    #expect(try head("GET", "http://h").get() == "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
  }

  @Test(arguments: [
    ("https://H:8443/a?b#c", "GET /a?b HTTP/1.1\r\nHost: h:8443\r\n\r\n"),
    ("http://h?x", "GET /?x HTTP/1.1\r\nHost: h\r\n\r\n"), ("http://h#f", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
    ("https://[::1]:443/", "GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n"),
  ])
  func writesTheTarget(_ url: String, _ expected: String) throws {
    #expect(try head("GET", url).get() == expected)
  }

  @Test func writesAbsoluteForm() throws {
    #expect(
      try head("GET", "http://h:81?x", absolute: true, extra: "Proxy-Authorization: Basic eA==\r\n").get()
        == "GET http://h:81/?x HTTP/1.1\r\nHost: h:81\r\nProxy-Authorization: Basic eA==\r\n\r\n")
  }

  @Test func sendsACanonicalBlockAsItIs() throws {
    let expected = "PUT /a HTTP/1.1\r\nHost: h\r\na: 1\r\nB: 2\r\nContent-Length: 18446744073709551615\r\n\r\n"
    #expect(try head("PUT", "http://h/a", "a: 1\r\nB: 2", framing: .length(.max)).get() == expected)
    #expect(try head("PUT", "http://h/a", "a: 1\r\nB: 2\r\n", framing: .length(.max)).get() == expected)
  }

  @Test func normalisesAnyOther() throws {
    #expect(
      try head("GET", "http://h/", "a:1\r\nb:\r\nc: \t2 \r\nd:3").get()
        == "GET / HTTP/1.1\r\nHost: h\r\na: 1\r\nb: \r\nc: 2\r\nd: 3\r\n\r\n")
    // Each line grows by as much as a line can.
    let tight = String(repeating: "a:\r\n", count: 999) + "a:"
    let wide = String(repeating: "a: \r\n", count: 1_000)
    #expect(try head("GET", "http://h/", tight).get() == "GET / HTTP/1.1\r\nHost: h\r\n\(wide)\r\n")
  }

  @Test func dropsWhatBelongsToTheConnection() throws {
    #expect(
      try head(
        "POST", "http://h/",
        "Connection: keep-alive, x\r\na: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\n"
          + "content-length: 3\r\n", framing: .length(3)
      ).get() == "POST / HTTP/1.1\r\nHost: h\r\na: 1\r\nContent-Length: 3\r\n\r\n")
  }

  @Test(arguments: [
    ("a: 1\r\nHost: other:1\r\n", "Host: other:1\r\na: 1\r\n"),
    ("connection: close", "Host: h\r\nConnection: close\r\n"),
    ("te: trailers", "Host: h\r\nte: trailers\r\nConnection: TE\r\n"),
    ("te: trailers\r\nconnection: close", "Host: h\r\nte: trailers\r\nConnection: close, TE\r\n"),
  ])
  func minds(_ headers: String, _ expected: String) throws {
    #expect(try head("GET", "http://h/", headers).get() == "GET / HTTP/1.1\r\n\(expected)\r\n")
  }

  @Test(arguments: [
    ("GET", BodyFraming.none, ""), ("HEAD", .none, ""), ("DELETE", .none, ""), ("OPTIONS", .none, ""),
    ("post", .none, ""), ("POST", .none, "Content-Length: 0\r\n"), ("PUT", .none, "Content-Length: 0\r\n"),
    ("PATCH", .none, "Content-Length: 0\r\n"), ("GET", .length(0), "Content-Length: 0\r\n"),
    ("POST", .length(10), "Content-Length: 10\r\n"), ("POST", .chunked, "Transfer-Encoding: chunked\r\n"),
  ])
  func framesTheBody(_ method: String, _ framing: BodyFraming, _ expected: String) throws {
    #expect(
      try head(method, "http://h/", framing: framing).get() == "\(method) / HTTP/1.1\r\nHost: h\r\n\(expected)\r\n")
  }

  @Test(arguments: [
    ("GET", RequestMethod.get), ("HEAD", .head), ("POST", .post), ("PUT", .put), ("PATCH", .patch),
    ("DELETE", .delete), ("OPTIONS", .options), ("TRACE", .trace), ("get", .other), ("QUERY", .other),
    ("M-SEARCH", .other),
  ])
  func knowsMethods(_ method: String, _ kind: RequestMethod) {
    withBytes(method) { #expect((try? RequestWriter.validateMethod($0)) == kind) }
  }

  @Test func saysWhatAMethodMeans() {
    #expect(RequestMethod.head.isHEAD && !RequestMethod.get.isHEAD)
  }

  @Test(arguments: [
    ("", "empty"), ("CONNECT", "CONNECT"), ("connect", "CONNECT"), ("GET ", "character 4"), ("G\r\nET", "character 2"),
    ("GÉT", "character 2"), (String(repeating: "A", count: 33), "at most 32"),
  ])
  func refusesMethods(_ method: String, because reason: String) {
    withBytes(method) { bytes in
      do throws(WireError) {
        try RequestWriter.validateMethod(bytes)
        Issue.record("accepted \(method)")
      } catch {
        #expect(error.field == .method && error.message.contains(reason), "\(error.message)")
      }
    }
  }

  @Test func writesChunks() {
    var out = ByteBuffer()
    withBytes("hello") { RequestWriter.appendChunk($0, to: &out) }
    withBytes("") { RequestWriter.appendChunk($0, to: &out) }
    RequestWriter.appendChunkHeader(bytes: 0x1F0, to: &out)
    RequestWriter.appendChunkEnd(to: &out)
    RequestWriter.appendLastChunk(to: &out)
    #expect(string(out) == "5\r\nhello\r\n1f0\r\n\r\n0\r\n\r\n")
  }

  @Test func whatIsWrittenValidatesAgain() {
    var random = Random(3)
    let seed = Array("Host: h\r\na:b\r\nConnection: close\r\nc: d\r\n".utf8)
    var accepted = 0
    for _ in 0..<10_000 {
      let block = String(decoding: mutated(seed, &random), as: UTF8.self)
      guard case .success(let text) = head("POST", "http://h/", block, framing: .length(1)) else { continue }
      accepted += 1
      let lines = text.utf8.split(separator: 0x0A)
      #expect(lines.first.map { String($0)! } == "POST / HTTP/1.1\r")
      #expect(lines.filter { String($0)!.hasPrefix("Host: ") }.count == 1)
      #expect(text.hasSuffix("Content-Length: 1\r\n\r\n"))
      #expect(lines.dropLast().allSatisfy { $0.last == 0x0D && $0.count > 1 })
    }
    #expect(accepted > 1_000)
  }
}
