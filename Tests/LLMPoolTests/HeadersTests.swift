import LLMPool
import LLMPoolTestSupport
import Testing

@Suite struct HeadersTests {
  @Test func theyAreReadAndChanged() {
    var headers: Headers = ["Content-Type": "text/plain", "X-One": "1"]
    headers.append("x-one", "2")
    #expect(headers["x-ONE"] == "1" && headers.values(of: "X-one") == ["1", "2"] && headers["x-two"] == nil)
    #expect(headers.map(\.name) == ["Content-Type", "X-One", "x-one"])
    headers["x-one"] = "3"
    #expect(headers.values(of: "X-One") == ["3"] && headers.count == 2)
    headers["CONTENT-TYPE"] = nil
    #expect(Array(headers.map { "\($0.name)=\($0.value)" }) == ["x-one=3"])
    headers.removeAll(named: "X-One")
    #expect(headers.isEmpty && headers == [] && headers == [:])
    #expect([("a", "b"), ("c", "")] as Headers == Headers([(name: "A", value: "b"), (name: "c", value: "")]))
    #expect(["a": "b"] as Headers != ["a": "B"] && ["a": "b", "c": "d"] as Headers != ["c": "d", "a": "b"])
  }

  /// Somebody will print a request.
  @Test func valuesAreNotShown() {
    let headers: Headers = ["authorization": "Bearer secret"]
    var dumped = ""
    dump(headers, to: &dumped)
    let request = Request(url: "http://127.0.0.1/", headers: headers)
    for text in ["\(headers)", String(reflecting: headers), "\(request)", dumped] {
      #expect(text.contains("authorization") && !text.contains("secret"))
    }
  }

  @Test func noneBecomesTwo() async throws {
    let server = LoopbackServer { _, _ in answerText("200 OK", "") }
    defer { server.stop() }
    let pool = try Pool()
    for (name, value) in [
      ("a", "b\r\nc: d"), ("a", "b\nc: d"), ("a\r\nc", "d"), ("a: b", "c"), ("", "b"), (" a", "b"),
    ] {
      var request = Request(url: server.url("/"))
      request.headers.append(name, value)
      let error = await #expect(throws: PoolError.self) { try await pool.send(request) }
      #expect(error?.name == "E_INVALID_ARGUMENT" && error?.message.contains("headers") == true)
    }
    #expect(server.connections == 0)
    try pool.close()
  }
}
