import CLLMPoolSystem
import LLMPoolCore
import Testing

@testable import LLMPoolEngine

/// An HTTP/2 session that is fed without a socket, an engine or a core.
@Suite struct Http2SessionTests {
  static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
  let host = TestHost()
  let transport = TestTransport()
  let session: Http2Connection

  init() { session = Http2Connection(transport, host) }

  /// What went out since the last time, the acknowledgements of SETTINGS and of windows aside.
  private func flushed() -> [Frame] {
    transport.flush(session)
    var output = transport.takeOutput()
    if output.starts(with: Self.preface) { output.removeFirst(Self.preface.count) }
    return Frame.all(in: output).filter { $0.kind != .settings && $0.kind != .windowUpdate }
  }

  private func receive(_ frames: Frame...) { for frame in frames { session.receive(frame.bytes) } }

  /// The session, past its beginning: the server's SETTINGS have come, these requests have gone out.
  private func begin(_ requests: RequestState...) -> [Frame] {
    receive(.settings)
    for request in requests { session.begin(request) }
    let frames = flushed()
    _ = host.takeLog()
    return frames
  }

  private static func fields(_ block: [UInt8]) -> [String] {
    var inflater: OpaquePointer?
    nghttp2_hd_inflate_new(&inflater)
    defer { nghttp2_hd_inflate_del(inflater) }
    var fields: [String] = []
    var rest = block
    while true {
      var field = nghttp2_nv()
      var flags: Int32 = 0
      let used = nghttp2_hd_inflate_hd2(inflater, &field, &flags, &rest, rest.count, 1)
      guard used >= 0 else { return fields + ["error \(used)"] }
      rest.removeFirst(used)
      if flags & Int32(NGHTTP2_HD_INFLATE_EMIT.rawValue) != 0 {
        let name = UnsafeBufferPointer(start: field.name, count: field.namelen)
        let value = UnsafeBufferPointer(start: field.value, count: field.valuelen)
        fields.append("\(String(decoding: name, as: UTF8.self)): \(String(decoding: value, as: UTF8.self))")
      }
      if flags & Int32(NGHTTP2_HD_INFLATE_FINAL.rawValue) != 0 { return fields }
    }
  }

  // MARK: Out

  @Test func aRequestGoesOutWithTheFlush() throws {
    session.begin(try testRequest(1, headers: "X-Name: value\r\nContent-Type: a/b\r\n"))
    #expect(transport.output.isEmpty)
    transport.flush(session)
    let output = transport.takeOutput()
    #expect(output.starts(with: Self.preface))
    let frames = Frame.all(in: Array(output.dropFirst(Self.preface.count)))
    #expect(frames.map(\.kind) == [.settings, .windowUpdate, .headers])
    #expect(frames[2].flags == Frame.endStream | Frame.endHeaders && frames[2].stream == 1)
    #expect(
      Self.fields(frames[2].payload) == [
        ":method: GET", ":scheme: https", ":authority: api.example.com", ":path: /v1/x?y", "x-name: value",
        "content-type: a/b",
      ])
    #expect(host.takeLog() == ["1 sent"])
  }

  @Test func aBodyThatTheSocketTakesInPieces() throws {
    _ = begin()
    session.begin(try testRequest(1, body: String(repeating: "x", count: 20_000)))
    transport.room = 100
    transport.flush(session)
    #expect(host.takeLog() == ["1 wrote", "1 wrote"])
    transport.room = .max
    session.flush()
    #expect(host.takeLog() == ["1 sent"])
    let frames = flushed()
    #expect(frames.map(\.kind) == [.headers, .data, .data])
    #expect(frames.map { $0.flags & Frame.endStream } == [0, 0, Frame.endStream])
    #expect(frames[1].payload.count + frames[2].payload.count == 20_000)
  }

  @Test func anUploadWaitsForItsPieces() throws {
    let request = try testRequest(1, flags: .upload)
    _ = begin(request)
    let upload = try #require(request.upload)
    var isAnnounced = false
    let piece = Array("abc".utf8)
    _ = piece.withUnsafeBytes { upload.add($0, last: false, announce: { isAnnounced = true }) }
    #expect(isAnnounced)
    session.bodyArrived(request)
    #expect(flushed() == [.data(1, "abc")])
    #expect(host.takeLog() == ["1 uploadTaken 3", "1 wrote", "1 uploadTaken 0", "1 uploadWaits"])
    _ = upload.add(UnsafeRawBufferPointer(start: nil, count: 0), last: true, announce: {})
    session.bodyArrived(request)
    #expect(flushed() == [.data(1, "", ends: true)])
    #expect(host.takeLog() == ["1 uploadTaken 0 last", "1 sent"])
  }

  // MARK: In

  @Test func anAnswerInPiecesOfOneByte() throws {
    _ = begin(try testRequest(1))
    let frames: [Frame] = [
      .head(1, status: "103"), .head(1, status: "200", [("content-type", "text/plain")]), .data(1, "hel"),
      .data(1, "lo", ends: true),
    ]
    for byte in frames.flatMap(\.bytes) { session.receive([byte]) }
    #expect(host.takeLog() == ["1 head 200 content-type: text/plain", "1 finished success"])
    #expect(host.body == Array("hello".utf8))
    #expect(transport.lostReason == nil)
  }

  @Test func whatTheReaderHoldsIsNotCredited() throws {
    let request = try testRequest(1)
    _ = begin(request)
    host.credit = 0
    receive(.head(1, status: "200"))
    for _ in 0..<4 { receive(.data(1, String(repeating: "x", count: 16_000))) }
    transport.flush(session)
    func credited() -> [UInt32] {
      Frame.all(in: transport.takeOutput()).filter { $0.kind == .windowUpdate && $0.stream == 1 }.map(\.code)
    }
    #expect(credited().isEmpty)
    session.credit(request, 64_000)
    transport.flush(session)
    #expect(credited() == [64_000])
  }

  @Test(arguments: [NGHTTP2_REFUSED_STREAM, NGHTTP2_CANCEL, NGHTTP2_INTERNAL_ERROR])
  func onlyARefusedStreamIsUnseen(code: nghttp2_error_code) throws {
    let request = try testRequest(1)
    _ = begin(request)
    receive(.reset(1, code))
    let isRefused = code == NGHTTP2_REFUSED_STREAM
    #expect(host.takeLog() == [isRefused ? "1 finished refused unseen" : "1 finished read"])
    #expect(request.attempt.failureMessage?.contains("the server re\(isRefused ? "fused" : "set") the stream") == true)
  }

  @Test func aStreamThatWasAnsweredIsSeenWhateverItsResetSays() throws {
    _ = begin(try testRequest(1), try testRequest(2))
    receive(.head(1, status: "103"), .reset(1, NGHTTP2_REFUSED_STREAM))
    receive(.head(3, status: "200"), .data(3, "begun"), .reset(3, NGHTTP2_REFUSED_STREAM))
    #expect(host.takeLog() == ["1 finished read", "2 head 200 ", "2 finished read"])
  }

  @Test func aGoAwaySparesWhatItNames() throws {
    _ = begin(try testRequest(1), try testRequest(2))
    receive(.goAway(last: 1))
    #expect(host.takeLog() == ["goAway", "2 finished refused unseen"])
    #expect(transport.lostReason == nil)
    receive(.head(1, status: "200"), .data(1, "all", ends: true))
    #expect(host.takeLog() == ["1 head 200 ", "1 finished success"])
    _ = flushed()
    #expect(transport.lostReason == .goAway)
  }

  @Test func anEndFailsWhatIsLeftAfterItsGoAway() throws {
    let (first, second) = (try testRequest(1), try testRequest(2))
    _ = begin(first)
    session.begin(second)
    session.endOfInput(clean: true, failure: nil)
    // The second was not on the wire yet.
    #expect(host.takeLog() == ["goAway", "1 finished read", "2 finished read unseen"])
    #expect(first.attempt.failureMessage == "the server closed the connection")
    #expect(transport.lostReason == .closedByPeer)
  }

  @Test func whatTheServerSaidIsReadBeforeAWriteFails() throws {
    _ = begin(try testRequest(1))
    transport.input = [Frame.head(1, status: "200").bytes, Frame.data(1, "all", ends: true).bytes]
    transport.writeFailure = Fault(.write, "Broken pipe")
    session.begin(try testRequest(2))
    transport.flush(session)
    #expect(host.takeLog() == ["1 head 200 ", "1 finished success", "goAway", "2 finished write"])
    #expect(transport.lostReason == .error)
  }

  @Test func aServerThatBreaksTheRulesIsToldAndLeft() throws {
    let request = try testRequest(1)
    _ = begin(request)
    receive(.data(1, "before any head"))
    let goodbye = flushed().filter { $0.kind == .goAway }
    #expect(goodbye.count == 1)
    #expect(host.takeLog().last == "1 finished protocolViolation")
    #expect(transport.lostReason == .protocolViolation)
  }

  // MARK: Given up

  @Test func aCancelledRequestIsResetAndHeardOfNoMore() throws {
    let request = try testRequest(1)
    _ = begin(request)
    session.abort(request)
    #expect(flushed() == [.reset(1, NGHTTP2_CANCEL)])
    receive(.head(1, status: "200"), .data(1, "too late", ends: true))
    #expect(host.takeLog().isEmpty && host.body.isEmpty)
    #expect(transport.lostReason == nil)
  }

  @Test func whatIsCancelledBeforeTheFlushIsNeverSent() throws {
    _ = begin()
    let request = try testRequest(1, body: "x")
    session.begin(request)
    session.abort(request)
    #expect(flushed().isEmpty)
    #expect(host.takeLog().isEmpty)
  }

  @Test func tenResetsGoOutARoundTrip() throws {
    let requests = try (1...25).map { try testRequest($0) }
    _ = begin()
    for request in requests { session.begin(request) }
    _ = flushed()
    _ = host.takeLog()
    for request in requests { session.abort(request) }
    #expect(host.takeLog() == ["resetsHeld"])
    func resets(_ frames: [Frame]) -> Int { frames.filter { $0.kind == .resetStream }.count }
    var frames = flushed()
    #expect(resets(frames) == 10)
    var ping = try #require(frames.first { $0.kind == .ping })
    ping.flags = Frame.ack
    receive(ping)
    frames = flushed()
    #expect(resets(frames) == 10)
    // The answer does not come: the core says that it goes on without.
    #expect(host.takeLog() == ["resetsHeld"])
    session.releaseResets()
    #expect(resets(flushed()) == 5)
    #expect(host.takeLog().isEmpty)
  }

  @Test func sayingGoodbyeSendsAGoAway() throws {
    _ = begin()
    session.sayGoodbye()
    let frames = flushed()
    #expect(frames.map(\.kind) == [.goAway])
  }
}
