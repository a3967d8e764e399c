import LLMPoolCore
import LLMPoolWire

/// HTTP/1.1 on one connection (RFC 9112): one request at a time, no pipelining.
final class Http1Connection: HTTPSession {
  private let transport: any SessionTransport
  private let host: any SessionHost
  /// Of the route, which costs a dozen counts to be copied.
  private let usesAbsoluteForm: Bool
  private let proxyLines: [UInt8]
  private var request: RequestState?
  private var parser = ResponseParser()
  /// The head of the request; its body is written from where it lies.
  private var output = ByteBuffer()
  private var bodyOffset = 0
  private var isSent = true
  /// The last piece of an upload is in `output`.
  private var uploadEnded = false
  /// The answer came before the body was sent: the rest is not.
  private var dropsBody = false
  private var answerClosesConnection = false
  private var untilClose = false
  private var announcedLength: UInt64?
  private var writeFailure: Fault?
  /// The stream's count of bytes sent when the request began.
  private var startPosition: UInt64 = 0

  init(_ transport: any SessionTransport, _ host: any SessionHost) {
    self.transport = transport
    self.host = host
    usesAbsoluteForm = transport.route.usesAbsoluteForm
    proxyLines = transport.route.proxyLines
  }

  func begin(_ request: RequestState) {
    assert(self.request == nil)
    self.request = request
    parser.reset(requestMethodIsHEAD: request.isHEAD)
    startPosition = transport.bytesSent
    bodyOffset = 0
    isSent = false
    uploadEnded = false
    dropsBody = false
    answerClosesConnection = false
    untilClose = false
    announcedLength = nil
    request.fields.withUnsafeBufferPointer { fields in
      var head = RequestHead(
        method: request.method, target: request.target, targetNeedsSlash: request.url.targetNeedsSlash,
        authority: request.authority, block: request.headers, fields: fields, summary: request.summary,
        framing: Http1Connection.framing(of: request))
      head.usesAbsoluteForm = usesAbsoluteForm
      proxyLines.withUnsafeBytes { lines in
        head.extraLines = lines
        RequestWriter.appendHead(head, to: &output)
      }
    }
    if output.isShort { return fail(request, .outOfMemory, "no memory for the head of the request", unseen: true) }
    transport.needsFlush()
  }

  private static func framing(of request: RequestState) -> BodyFraming {
    if let upload = request.upload { return upload.declaredLength.map { .length($0) } ?? .chunked }
    return request.bodyCount > 0 ? .length(UInt64(request.bodyCount)) : .none
  }

  // MARK: Sending

  /// As much of an upload is put behind the head, or behind what is not written yet.
  private static let uploadStep = 65_536

  func bodyArrived(_ request: RequestState) {
    if self.request === request { transport.needsFlush() }
  }

  /// Moves pieces of an upload into the output. True while more may follow.
  private func takeUpload(_ request: RequestState, _ upload: Upload) -> Bool {
    guard !dropsBody, !uploadEnded else { return false }
    guard output.count < Http1Connection.uploadStep else { return true }
    let isChunked = upload.declaredLength == nil
    let taken = upload.take(Http1Connection.uploadStep) { bytes in
      if isChunked { RequestWriter.appendChunk(bytes, to: &output) } else { output.append(bytes) }
    }
    if taken.isLast {
      uploadEnded = true
      if isChunked { RequestWriter.appendLastChunk(to: &output) }
    }
    if taken.count > 0 || output.isEmpty { host.uploadTaken(request, taken) }
    return !taken.isLast
  }

  func flush() {
    guard let request, !isSent, writeFailure == nil else { return }
    var hasProgress = false
    while true {
      let mayGrow = request.upload.map { takeUpload(request, $0) } ?? false
      let body = UnsafeRawBufferPointer(rebasing: request.body[(dropsBody ? request.bodyCount : bodyOffset)...])
      guard !output.isEmpty || !body.isEmpty else {
        guard mayGrow else { break }
        if hasProgress { host.progressed(request, .wrote) }
        return host.uploadWaits(request)
      }
      switch transport.write(output.readable, body) {
      case .bytes(let count):
        hasProgress = true
        let ofHead = min(count, output.count)
        output.consume(ofHead)
        bodyOffset += count - ofHead
        request.attempt.bodySent += count - ofHead
        continue
      case .wouldBlock, .endOfFile:
        if hasProgress { host.progressed(request, .wrote) }
        return
      case .failed(let failure):
        // The server may have answered before it closed: what it said is read to its end first.
        writeFailure = failure
        transport.needsReading()
        return
      }
    }
    isSent = true
    host.sent(request)
  }

  // MARK: Receiving

  var wantsInput: Bool { !(request?.answer.isHeld ?? false) }

  func receive(_ bytes: UnsafeRawBufferPointer) {
    guard let request else {
      // Nobody asked for these bytes: the next answer on this connection could not be trusted.
      return transport.lost(.strayBytes)
    }
    host.received(request)
    var input = bytes
    while self.request === request {
      let step = parser.next(input)
      switch step.event {
      case .needMore: return
      case .interim: break
      case .head(let head): takeHead(request, head)
      case .body(let start, let count):
        let bytes = UnsafeRawBufferPointer(rebasing: input[start..<start + count])
        host.answerBody(request, bytes, isWhole: UInt64(count) == announcedLength)
      case .end:
        return complete(request, leftover: input.count - step.consumed)
      case .failed(let error, let kind):
        return fail(request, kind == .tooLarge ? .tooLarge : .protocolViolation, error.message)
      }
      input = UnsafeRawBufferPointer(rebasing: input[step.consumed...])
    }
  }

  private func takeHead(_ request: RequestState, _ head: ResponseHead) {
    // The proxy's own answer (RFC 9110, section 15.5.8), as to CONNECT: it is not the origin's, which saw nothing.
    if head.status == 407, usesAbsoluteForm {
      return fail(
        request, .proxy, "the proxy answered with status 407 (credentials refused)", unseen: true)
    }
    // HTTP proxies close without a word (tinyproxy after every answer, and passes the origin's version on as its own):
    // a request would be lost in every twentieth that met such a connection. Only who says so is taken to keep it.
    answerClosesConnection = head.closesConnection || (usesAbsoluteForm && !head.keepsConnection)
    untilClose = head.framing == .untilClose
    if let seconds = head.keepAliveTimeoutSeconds {
      host.tell(.keepAlive(transport.id, .seconds(seconds)))
    }
    // RFC 9112, section 9.5: an error means that the server need not read the rest.
    if head.status >= 300, !isSent {
      dropsBody = true
      transport.needsFlush()
    }
    if case .length(let length) = head.framing {
      announcedLength = length
      request.answer.announcedLength = length
      request.answer.body.expect(length)
    }
    host.answerHead(
      request, status: head.status, version: head.minorVersion == 0 ? .http10 : .http11, reason: head.reason,
      headers: head.headers)
  }

  private func complete(_ request: RequestState, leftover: Int) {
    let wasSent = isSent && !dropsBody && writeFailure == nil
    let reusable =
      wasSent && leftover == 0 && !answerClosesConnection && !request.summary.closesConnection && !parser.isDoubtful
      && !transport.holdsInput()
    end()
    host.finished(request, .success, reusable: reusable)
  }

  private func fail(_ request: RequestState, _ failure: Failure, _ message: String, unseen: Bool = false) {
    end()
    request.attempt.failureMessage = transport.located(message)
    host.finished(request, Outcome(failure: failure, unseen: unseen), reusable: false)
  }

  private func end() {
    request = nil
    isSent = true
    output.removeAll(keepingCapacityUpTo: 16_384)
  }

  func endOfInput(clean: Bool, failure: Fault?) {
    guard let request else { return transport.lost(.closedByPeer) }
    let hasBegun = parser.hasBegun
    if failure == nil, case .end = parser.endOfInput() {
      if untilClose, !clean {
        return fail(request, .read, "TLS was cut off without close_notify, the answer may be too")
      }
      answerClosesConnection = true
      return complete(request, leftover: 0)
    }
    // A client certificate that TLS 1.3 refuses shows only now.
    let kind: Failure = failure?.failure == .tls ? .tls : .read
    if hasBegun { return fail(request, kind, failure?.message ?? endMessage()) }
    let unseen = isProvablyUnseen(failure: failure)
    if let writeFailure { return fail(request, .write, writeFailure.message, unseen: unseen) }
    fail(request, kind, failure?.message ?? "the server closed the connection without an answer", unseen: unseen)
  }

  private func endMessage() -> String {
    if case .failed(let error, _) = parser.endOfInput() { return error.message }
    return "the connection ended"
  }

  /// A kept connection that the server had closed already: it sent its FIN, refused what came (EPIPE), and its
  /// kernel acknowledged not one byte of the request. A reset proves nothing: Linux discards the ACK in a RST.
  private func isProvablyUnseen(failure: Fault?) -> Bool {
    if transport.bytesSent == startPosition { return true }
    guard failure == nil, transport.route.proxy == nil, transport.peerRefusedInput() else { return false }
    return transport.isUnacknowledged(from: startPosition)
  }

  // MARK: The rest

  func abort(_ request: RequestState) {
    if self.request === request { end() }
  }

  func credit(_ request: RequestState, _ bytes: Int) { transport.needsReading() }
  func ping() {}
  func releaseResets() {}
  func sayGoodbye() {}
}
