import LLMPoolEngine

// Bodies that come in pieces, each as soon as the server takes it. Their length is that of a Content-Length among the
// request's headers, which the pieces must add up to; without one they are as long as they get.
extension Pool {
  /// Sends a request whose body comes in pieces, and waits for the whole answer. The next piece is asked for once less
  /// than 1 MiB waits to be sent. Where the answer is complete before the body is, the task that reads `body` is
  /// cancelled, and waited for. Cancelling the task cancels the request.
  ///
  /// - Parameters:
  ///   - request: without a body of its own. It is not tried again once a piece was sent.
  ///   - body: pieces of any size, as `[UInt8]`, slices of it, or whatever else is a collection of bytes.
  /// - Throws: what `body` throws, which ends the request; else as `send(_:)`.
  public func send<Body: AsyncSequence & Sendable>(_ request: Request, uploading body: Body) async throws -> Response
  where Body.Element: Collection<UInt8> {
    let (request, writer) = (try Pool.uploading(request), BodyWriter())
    async let _ = writer.write(BodyWriter.source(body))
    do { return try await send(request, flags: .upload, writer) } catch {
      writer.ended()
      throw writer.failure ?? error
    }
  }

  /// The same with the answer as it comes, while the body is still on its way. Each iteration reads `body` once more.
  public func events<Body: AsyncSequence & Sendable>(of request: Request, uploading body: Body) throws -> EventSequence
  where Body.Element: Collection<UInt8> {
    EventSequence(pool: self, request: try Pool.uploading(request), body: BodyWriter.source(body))
  }

  private static func uploading(_ request: Request) throws -> Request {
    guard request.body.isEmpty else {
      throw PoolError(Fault(.invalidArgument, "body: expected none of the request's own beside that which is uploaded"))
    }
    var request = request
    request.method = request.method ?? "POST"
    return request
  }
}
