import LLMPoolCore
import Testing

@testable import LLMPoolEngine

/// An HTTP/1.1 session that is fed without a socket, an engine or a core.
@Suite struct Http1SessionTests {
  let host = TestHost()
  let transport = TestTransport()
  let session: Http1Connection

  init() { session = Http1Connection(transport, host) }

  private func receive(_ text: String) { session.receive(Array(text.utf8)) }

  private func begin(_ request: RequestState) -> String {
    session.begin(request)
    transport.flush(session)
    _ = host.takeLog()
    return String(decoding: transport.takeOutput(), as: UTF8.self)
  }

  @Test func aRequestGoesOutWithTheFlush() throws {
    session.begin(try testRequest(1, headers: "X-Name: value\r\n", body: "hello"))
    #expect(transport.output.isEmpty)
    transport.room = 10
    transport.flush(session)
    #expect(host.takeLog() == ["1 wrote"])
    transport.room = .max
    session.flush()
    #expect(host.takeLog() == ["1 sent"])
    let text = String(decoding: transport.takeOutput(), as: UTF8.self)
    #expect(text.hasPrefix("POST /v1/x?y HTTP/1.1\r\nHost: api.example.com\r\n"))
    #expect(text.contains("\r\nX-Name: value\r\n") && text.hasSuffix("\r\n\r\nhello"))
  }

  @Test func anAnswerInPiecesOfOneByte() throws {
    _ = begin(try testRequest(1))
    for byte in "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=7\r\nContent-Length: 5\r\n\r\nhello".utf8 {
      session.receive([byte])
    }
    #expect(
      host.takeLog() == [
        "keepAlive 7", "1 head 200 Keep-Alive: timeout=7, Content-Length: 5", "1 finished success",
      ])
    #expect(host.body == Array("hello".utf8))
  }

  @Test func whatFollowsAnAnswerIsNobodys() throws {
    _ = begin(try testRequest(1))
    receive("HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n")
    #expect(host.takeLog() == ["1 head 204 ", "1 finished success notReusable"])
    receive("more")
    #expect(transport.lostReason == .strayBytes)
  }

  /// A kept connection whose end crossed the request: only where the peer's kernel took none of it.
  @Test(arguments: [0, 1]) func anEndWithoutAnAnswerIsUnseenIfNothingWasAcknowledged(acknowledged: UInt64) throws {
    _ = begin(try testRequest(1))
    transport.acknowledged = acknowledged
    session.endOfInput(clean: true, failure: nil)
    #expect(host.takeLog() == ["1 finished read\(acknowledged == 0 ? " unseen" : "") notReusable"])
  }

  @Test func aWriteThatFailsWaitsForWhatTheServerSaid() throws {
    transport.writeFailure = Fault(.write, "Broken pipe")
    _ = begin(try testRequest(1, body: "hello"))
    #expect(transport.wantsReading && host.takeLog().isEmpty)
    receive("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    #expect(host.takeLog().last == "1 finished success notReusable")
  }

  @Test func aCancelledRequestIsHeardOfNoMore() throws {
    let request = try testRequest(1)
    _ = begin(request)
    session.abort(request)
    receive("HTTP/1.1 200 OK\r\n\r\n")
    #expect(host.takeLog().isEmpty)
    #expect(transport.lostReason == .strayBytes)
  }
}
