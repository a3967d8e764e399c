import Glibc
import LLMPool
import LLMPoolTestSupport
import Testing

/// Bodies that come in pieces.
@Suite struct UploadTests {
  private func pieces(_ count: Int, of size: Int) -> AsyncStream<[UInt8]> {
    AsyncStream { pieces in
      for number in 0..<count { pieces.yield([UInt8](repeating: UInt8(ascii: "a") + UInt8(number % 26), count: size)) }
      pieces.finish()
    }
  }

  @Test func piecesAddUpToTheBody() async throws {
    let server = LoopbackServer { path, body in answerText("200 OK", "\(path) \(body.count) \(Set(body).count)") }
    defer { server.stop() }
    let pool = try Pool()
    let request = Request(method: "PUT", url: server.url("/a"), headers: ["content-length": "\(48 << 16)"])
    let response = try await pool.send(request, uploading: pieces(48, of: 1 << 16))
    #expect(response.status == 200 && String(decoding: response.body, as: UTF8.self) == "/a \(48 << 16) 26")
    var answer = ""
    for try await event in try pool.events(of: request, uploading: pieces(48, of: 1 << 16)) {
      if case .data(let bytes) = event { answer += String(decoding: bytes, as: UTF8.self) }
    }
    #expect(answer == "/a \(48 << 16) 26")
    try pool.close()
  }

  @Test func aBodyWithoutLengthComesInChunks() async throws {
    let seen = Locked("")
    let server = RawServer { text in
      guard text.hasSuffix("0\r\n\r\n") else { return nil }
      seen.withLock { $0 = text }
      return answerText("200 OK", "ok")
    }
    let pool = try Pool()
    let body = AsyncStream<ArraySlice<UInt8>> { pieces in
      pieces.yield([][...])
      pieces.yield(Array("hello".utf8)[1...])
      pieces.finish()
    }
    #expect(try await pool.send(Request(url: server.url), uploading: body).status == 200)
    try pool.close()
    server.waitForEnd()
    let text = seen.withLock { $0 }
    #expect(text.hasPrefix("POST / HTTP/1.1\r\n") && text.lowercased().contains("transfer-encoding: chunked\r\n"))
    #expect(text.hasSuffix("\r\n\r\n4\r\nello\r\n0\r\n\r\n"))
  }

  @Test func aServerThatDoesNotReadHoldsTheBodyBack() async throws {
    let listener = Listener()
    let pool = try Pool()
    let given = Locked(0)
    let body = AsyncStream<[UInt8]> {
      given.withLock { $0 += 1 }
      return [UInt8](repeating: 1, count: 1 << 16)
    }
    let request = Request(url: "http://127.0.0.1:\(listener.port)/")
    let upload = Task { try await pool.send(request, uploading: body) }
    let peer = listener.acceptOne()
    var (last, same) = (-1, 0)
    while same < 100 {
      try await Task.sleep(for: .milliseconds(1))
      let count = given.withLock { $0 }
      same = count == last && count > 0 ? same + 1 : 0
      last = count
    }
    #expect(last << 16 < 16 << 20, "the window of 1 MiB, and what the kernel holds")
    upload.cancel()
    await #expect(throws: CancellationError.self) { try await upload.value }
    close(peer)
    listener.close()
    try pool.close()
  }

  private struct Broken: Error {}

  @Test func whatTheBodyThrowsEndsTheRequest() async throws {
    let server = LoopbackServer { _, _ in "" }
    defer { server.stop() }
    let pool = try Pool()
    let request = Request(url: server.url("/"))
    let body = { @Sendable in
      AsyncThrowingStream<[UInt8], any Error> { pieces in
        pieces.yield([1])
        pieces.finish(throwing: Broken())
      }
    }
    await #expect(throws: Broken.self) { try await pool.send(request, uploading: body()) }
    await #expect(throws: Broken.self) { for try await _ in try pool.events(of: request, uploading: body()) {} }
    #expect(try pool.statistics().cancelled == 2)
    try pool.close()
  }

  /// What had come by then is not sent as if it were all.
  @Test func aBodyWhoseTaskIsCancelledIsNotEnded() async throws {
    let seen = Locked("")
    let server = RawServer { text in
      seen.withLock { $0 = text }
      return nil
    }
    let pool = try Pool()
    let (body, pieces) = AsyncStream.makeStream(of: [UInt8].self)
    pieces.yield(Array("half".utf8))
    let request = Request(url: server.url)
    let upload = Task { try await pool.send(request, uploading: body) }
    for _ in 0..<20_000 where !seen.withLock({ $0.contains("half") }) { try await Task.sleep(for: .milliseconds(1)) }
    upload.cancel()
    await #expect(throws: CancellationError.self) { try await upload.value }
    server.waitForEnd()
    #expect(seen.withLock { $0.hasSuffix("4\r\nhalf\r\n") })
    try pool.close()
  }

  @Test func anAnswerThatComesEarlyEndsTheBody() async throws {
    let server = RawServer { $0.contains("one") ? answerText("413 Too Large", "no") : nil }
    let pool = try Pool()
    let (body, pieces) = AsyncStream.makeStream(of: [UInt8].self)
    let isLeft = Locked(false)
    pieces.onTermination = { _ in isLeft.withLock { $0 = true } }
    pieces.yield(Array("one".utf8))
    let response = try await pool.send(Request(url: server.url), uploading: body)
    #expect(response.status == 413 && isLeft.withLock { $0 })
    try pool.close()
    server.waitForEnd()
  }

  @Test func whatDoesNotAddUpIsRefused() async throws {
    let server = LoopbackServer { _, _ in "" }
    defer { server.stop() }
    let pool = try Pool()
    let request = Request(url: server.url("/"), headers: ["content-length": "3"])
    let error = await #expect(throws: PoolError.self) { try await pool.send(request, uploading: pieces(1, of: 5)) }
    #expect(error?.message == "size: the body has 5 bytes, but content-length is 3")
    let own = await #expect(throws: PoolError.self) {
      try await pool.send(Request(url: server.url("/"), body: [1]), uploading: pieces(1, of: 1))
    }
    #expect(own?.message.hasPrefix("body: expected none") == true)
    await #expect(throws: PoolError.self) { try await pool.send(Request(url: "nowhere"), uploading: pieces(1, of: 1)) }
    try pool.close()
  }
}
