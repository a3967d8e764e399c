import CLLMPoolSystem
import Glibc
import LLMPoolCore
import LLMPoolWire

/// HTTP/2 on one connection (RFC 9113); nghttp2 frames, this class joins its streams to requests.
///
/// nghttp2 is never asked to send or to take bytes inside one of its callbacks; submitting frames there is allowed.
final class Http2Connection: HTTPSession {
  static let connectionWindow: Int32 = 16 << 20
  static let maximumHeaderBytes = 65_536
  /// nghttp2's own limit was below what a request may have: as much as is accepted of headers and of a URL, and some
  /// for each field.
  static let maximumRequestHeadBytes = HeaderBlock.maximumBytes + URLParts.maximumBytes + 16 * HeaderBlock.maximumFields
  /// As much is taken from nghttp2 before it is written.
  static let outputLimit = 65_536

  private let transport: any SessionTransport
  fileprivate let host: any SessionHost
  private let workspace: Http2Workspace
  private var session: OpaquePointer?
  /// Taken from nghttp2, and not yet by the socket.
  private var unsent = ByteBuffer()
  /// Those that are not over, in no order.
  private var streams: [Http2Stream] = []
  /// Their last byte was taken from nghttp2.
  private var lastByteQueued: [Int32] = []
  /// Nothing more of their uploads was there to be taken.
  private var drainedUploads: [Http2Stream] = []
  private var isFailed = false
  /// The server's SETTINGS have come, with which it must begin (RFC 9113, section 3.4).
  private var hasSpoken = false
  private var goAwayText: String?
  /// The server broke the protocol: nghttp2 has ended the session with a GOAWAY of ours.
  private var violationText: String?

  init(_ transport: any SessionTransport, _ host: any SessionHost) {
    self.transport = transport
    self.host = host
    workspace = host.http2Workspace
    var option: OpaquePointer?
    nghttp2_option_new(&option)
    nghttp2_option_set_no_auto_window_update(option, 1)
    nghttp2_option_set_no_closed_streams(option, 1)
    // A blank around a value is no part of it: taken off here, as curl and HTTP/1 do, not refused.
    lp_nghttp2_allow_blanks(option)
    nghttp2_option_set_max_send_header_block_length(option, Self.maximumRequestHeadBytes)
    var memory = workspace.memoryOfSessions
    nghttp2_session_client_new3(
      &session, Http2Callbacks.table, Unmanaged.passUnretained(self).toOpaque(), option, &memory)
    nghttp2_option_del(option)
    let settings = [
      nghttp2_settings_entry(settings_id: Int32(NGHTTP2_SETTINGS_ENABLE_PUSH.rawValue), value: 0),
      nghttp2_settings_entry(
        settings_id: Int32(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE.rawValue), value: UInt32(host.streamWindow)),
      nghttp2_settings_entry(
        settings_id: Int32(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE.rawValue), value: UInt32(Self.maximumHeaderBytes)),
    ]
    nghttp2_submit_settings(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), settings, settings.count)
    nghttp2_session_set_local_window_size(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), 0, Self.connectionWindow)
    transport.needsFlush()
  }

  deinit {
    for stream in streams { stream.request.attempt.stream = nil }
    nghttp2_session_del(session)
  }

  // MARK: Requests

  func begin(_ request: RequestState) {
    let stream = Http2Stream(request)
    var provider = nghttp2_data_provider()
    provider.source.ptr = Unmanaged.passUnretained(stream).toOpaque()
    provider.read_callback = Http2Callbacks.readBody
    workspace.headers.take(request)
    let id = withUnsafePointer(to: provider) { provider in
      workspace.headers.fields.withUnsafeBufferPointer { fields in
        nghttp2_submit_request(
          session, nil, fields.baseAddress!, fields.count, request.hasBody ? provider : nil,
          provider.pointee.source.ptr)
      }
    }
    if id == NGHTTP2_ERR_NOMEM.rawValue {
      request.attempt.failureMessage = transport.located("no memory for the head of the request")
      return host.finished(request, Outcome(failure: .outOfMemory, unseen: true), reusable: true)
    }
    guard id > 0 else {
      // Out of stream ids, or the session is ending: nothing was sent, and nothing more will be.
      request.attempt.failureMessage = transport.located("HTTP/2: \(String(cString: nghttp2_strerror(id)))")
      host.tell(.goAway(transport.id))
      return host.finished(request, Outcome(failure: .refused, unseen: true), reusable: true)
    }
    stream.id = id
    stream.place = streams.count
    request.attempt.stream = stream
    streams.append(consume stream)
    transport.needsFlush()
  }

  /// The one at that place is over for the engine: from now on nghttp2 gives it to nobody.
  private func abandon(_ place: Int) -> (Http2Stream, RequestState) {
    streams.withUnsafeMutableBufferPointer { $0.swapAt(place, $0.count - 1) }  // not counted, as by the array's own
    let stream = streams.removeLast()
    if place < streams.count { streams[place].place = place }
    assert(stream.request.attempt.stream === stream)
    let request = stream.abandon()
    nghttp2_session_set_stream_user_data(session, stream.id, nil)
    return (stream, request)
  }

  func abort(_ request: RequestState) {
    guard let place = request.attempt.stream?.place else { return }
    let (stream, _) = abandon(place)
    abandoned.append(stream)
    // What nghttp2 has not begun to send it drops at a reset, and sends neither.
    if request.answer.hasHead || !stream.isOnWire { reset(stream, NGHTTP2_CANCEL) } else { holdReset(stream) }
    transport.needsFlush()
  }

  /// Given up, their requests are free; but nghttp2 may still ask for their bodies until the reset is out.
  private var abandoned: [Http2Stream] = []

  // MARK: Resets of streams that have no answer yet

  /// A server may not have handed such a stream to its application; many that reset them fast look like an attack
  /// (CVE-2023-44487), and servers on Rust's h2 crate end the connection at 20. So few go out a round trip.
  private static let unansweredResetLimit = 10
  /// With more than so many held back the connection takes nothing new: they keep the server's streams occupied.
  private static let heldResetLimit = 100
  /// The PING that tells when a round trip is over.
  private static let resetMark: [UInt8] = Array("resets..".utf8)
  private var heldResets: [Http2Stream] = []
  private var unansweredResetsOut = 0
  /// The core was told since the last that went out: it knows when they go on without an answer to the PING.
  private var isHoldTold = false

  private func holdReset(_ stream: Http2Stream) {
    heldResets.append(stream)
    sendHeldResets()
    if heldResets.count > Self.heldResetLimit { host.tell(.goAway(transport.id)) }
  }

  private func sendHeldResets() {
    let count = min(heldResets.count, Self.unansweredResetLimit - unansweredResetsOut)
    if count > 0 {
      for stream in heldResets[..<count] { reset(stream, NGHTTP2_CANCEL) }
      heldResets.removeFirst(count)
      unansweredResetsOut += count
      isHoldTold = false
      if unansweredResetsOut == Self.unansweredResetLimit {
        nghttp2_submit_ping(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), Self.resetMark)
      }
    }
    guard !heldResets.isEmpty, !isHoldTold else { return }
    isHoldTold = true
    host.tell(.resetsHeld(transport.id))
  }

  private func pinged(_ mark: UnsafeRawBufferPointer) {
    if mark.elementsEqual(Self.resetMark) { releaseResets() }
  }

  func releaseResets() {
    unansweredResetsOut = 0
    isHoldTold = false
    sendHeldResets()
    transport.needsFlush()
  }

  func credit(_ request: RequestState, _ bytes: Int) {
    guard let stream = request.attempt.stream else { return }
    nghttp2_session_consume_stream(session, stream.id, bytes)
    transport.needsFlush()
  }

  func bodyArrived(_ request: RequestState) {
    guard let stream = request.attempt.stream else { return }
    nghttp2_session_resume_data(session, stream.id)
    transport.needsFlush()
  }

  func ping() {
    nghttp2_submit_ping(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), nil)
    transport.needsFlush()
  }

  func sayGoodbye() {
    guard !isFailed else { return }
    nghttp2_session_terminate_session(session, UInt32(NGHTTP2_NO_ERROR.rawValue))
    flush()
  }

  // MARK: Bytes

  var wantsInput: Bool { true }

  func receive(_ bytes: UnsafeRawBufferPointer) {
    guard !isFailed else { return }
    host.tell(.received(transport.id))
    let result = nghttp2_session_mem_recv(session, bytes.bindMemory(to: UInt8.self).baseAddress, bytes.count)
    transport.needsFlush()
    guard result < 0 else { return }
    fail(.protocolViolation, .protocolViolation, "HTTP/2: \(String(cString: nghttp2_strerror(Int32(result))))")
  }

  func endOfInput(clean: Bool, failure: Fault?) {
    let text = failure?.message ?? goAwayText ?? "the server closed the connection"
    // A client certificate that TLS 1.3 refuses shows only now.
    fail(.closedByPeer, failure?.failure == .tls ? .tls : .read, text)
  }

  /// Frames are gathered in the buffer of the workspace; what the socket does not take stays here.
  func flush() {
    guard !isFailed else { return }
    var output = unsent.isEmpty ? workspace.output.take() : unsent.take()
    flush(&output)
    if output.isEmpty { workspace.output = output } else { unsent = output }
  }

  private func flush(_ output: inout ByteBuffer) {
    while true {
      while output.count < Self.outputLimit {
        var bytes: UnsafePointer<UInt8>?
        let count = nghttp2_session_mem_send(session, &bytes)
        if count < 0 {
          return fail(.error, .protocolViolation, "HTTP/2: \(String(cString: nghttp2_strerror(Int32(count))))")
        }
        guard count > 0, let bytes else { break }
        output.append(bytes, count: count)
      }
      guard !output.isEmpty else { break }
      switch transport.write(output.readable) {
      case .bytes(let count): output.consume(count)
      case .wouldBlock, .endOfFile: return endIfOver()
      case .failed(let failure):
        writeFailed(failure)
        return
      }
    }
    abandoned.removeAll(keepingCapacity: true)
    abandoned += heldResets
    tellSent()
    endIfOver()
  }

  /// nghttp2 wants nothing more: after a GOAWAY of either side. A last word that the server does not take is no
  /// reason to stay.
  private func endIfOver() {
    guard nghttp2_session_want_read(session) == 0, nghttp2_session_want_write(session) == 0 else { return }
    if let violationText { return fail(.protocolViolation, .protocolViolation, violationText) }
    fail(.goAway, .read, goAwayText ?? "the HTTP/2 session ended")
  }

  private func tellSent() {
    for id in lastByteQueued { with(id) { host.sent($0.request) } }
    lastByteQueued.removeAll(keepingCapacity: true)
    for stream in drainedUploads where !stream.isAbandoned && stream.request.upload?.isDrained == true {
      host.uploadWaits(stream.request)
    }
    drainedUploads.removeAll(keepingCapacity: true)
  }

  /// Found so by nghttp2, and again when the frame before is out.
  fileprivate func uploadDrained(_ stream: Http2Stream) {
    if drainedUploads.last !== stream { drainedUploads.append(stream) }
  }

  /// What the server said before it closed (GOAWAY, answers) is read first; then the streams that are left fail.
  private func writeFailed(_ failure: Fault) {
    while !isFailed, transport.read({ receive($0) }) {}
    fail(.error, .write, failure.message)
  }

  /// The connection is of no more use: nothing new may come to it, then each stream ends, then it is gone.
  private static let priorKnowledge =
    "it has not said a word of HTTP/2, which without TLS (LLMPOOL_HTTP_2, http1=False) it must know beforehand; "
    + "does it speak HTTP/1.1 only?"

  private func fail(_ reason: CloseReason, _ failure: Failure, _ message: String) {
    guard !isFailed else { return }
    isFailed = true
    host.tell(.goAway(transport.id))
    let message = hasSpoken || transport.isTLS ? message : "\(message); \(Self.priorKnowledge)"
    let lost = streams.sorted { $0.id < $1.id }
    streams.removeAll()
    for stream in lost {
      let request = stream.abandon()
      if stream.remoteEnded {
        host.finished(request, .success, reusable: true)
      } else {
        let (failure, message) = stream.localFailure ?? (failure, message)
        request.attempt.failureMessage = transport.located(message)
        host.finished(request, Outcome(failure: failure, unseen: !stream.isOnWire), reusable: true)
      }
    }
    transport.lost(reason)
  }

  // MARK: What nghttp2 tells

  /// Calls `body` with the stream, if it is not over. Not counted: it is among `streams`, or, given up meanwhile, among
  /// `abandoned`, until nghttp2 has returned.
  @inline(__always)
  @discardableResult
  private func with<Result>(_ id: Int32, _ body: (Http2Stream) -> Result) -> Result? {
    guard let pointer = nghttp2_session_get_stream_user_data(session, id) else { return nil }
    return Unmanaged<Http2Stream>.fromOpaque(pointer)._withUnsafeGuaranteedRef(body)
  }

  fileprivate func header(_ id: Int32, _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Int32 {
    with(id) { header($0, name, value) } ?? 0
  }

  private func header(
    _ stream: Http2Stream, _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer
  ) -> Int32 {
    // Trailers are read over: nobody asked for them.
    guard !stream.request.answer.hasHead else { return 0 }
    if name.first == UInt8(ascii: ":") {
      // nghttp2 has checked that it is :status with three digits, once and first (RFC 9113, section 8.3.2).
      if value.count == 3 { stream.status = value.reduce(0) { $0 * 10 + UInt16($1 &- 0x30) } }
      guard ResponseHead.isStatus(Int(stream.status)) else {
        stream.localFailure = (.protocolViolation, "the status is \(stream.status); expected 100 to 999")
        return Int32(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue)
      }
      return 0
    }
    guard stream.request.answer.head.count + name.count + value.count + 4 <= Self.maximumHeaderBytes else {
      stream.localFailure = (.tooLarge, "more than \(Self.maximumHeaderBytes) bytes of headers")
      return Int32(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue)
    }
    if Self.isContentLength(name), !stream.request.isStreamed { noteLength(stream, value) }
    // At once what most answers need: each growth is an allocation.
    if stream.request.answer.head.isEmpty { stream.request.answer.head.reserve(512) }
    HeaderBlock.appendLine(name: name, value: HeaderBlock.trimmed(value), to: &stream.request.answer.head)
    return 0
  }

  /// What nghttp2 would not take, for its name or its value: values are judged as over HTTP/1.
  fileprivate func invalidHeader(_ id: Int32, _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Int32
  {
    let isName = nghttp2_check_header_name(name.bindMemory(to: UInt8.self).baseAddress, name.count) != 0
    guard isName, !Self.isContentLength(name), !HeaderBlock.isOfConnection(name), HeaderBlock.isReadable(value) else {
      return Int32(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue)
    }
    return header(id, name, value)
  }

  private static let contentLength: StaticString = "content-length"
  private static func isContentLength(_ name: UnsafeRawBufferPointer) -> Bool {
    name.count == 14 && memcmp(name.baseAddress!, contentLength.utf8Start, 14) == 0
  }

  /// An answer to HEAD, and 204 and 304, have no body.
  private func noteLength(_ stream: Http2Stream, _ value: UnsafeRawBufferPointer) {
    let hasBody = !stream.request.isHEAD && stream.status != 204 && stream.status != 304 && stream.status >= 200
    guard hasBody, value.count <= 19 else { return }
    guard !value.isEmpty, value.allSatisfy({ $0 &- 0x30 < 10 }) else { return }
    let length = value.reduce(UInt64(0)) { $0 &* 10 &+ UInt64($1 &- 0x30) }
    stream.request.answer.announcedLength = length
    stream.request.answer.body.expect(length)
  }

  fileprivate func frameReceived(_ frame: UnsafePointer<nghttp2_frame>) {
    let header = frame.pointee.hd
    switch nghttp2_frame_type(UInt32(header.type)) {
    case NGHTTP2_HEADERS:
      with(header.stream_id) { stream in
        host.received(stream.request)
        if !stream.request.answer.hasHead { takeHead(stream) }
        if header.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0 { remoteEnded(stream) }
      }
    case NGHTTP2_DATA:
      if header.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0 { with(header.stream_id) { remoteEnded($0) } }
    case NGHTTP2_RST_STREAM:
      with(header.stream_id) { $0.isResetByPeer = true }
    case NGHTTP2_SETTINGS where header.flags & UInt8(NGHTTP2_FLAG_ACK.rawValue) == 0:
      hasSpoken = true
      let limit = nghttp2_session_get_remote_settings(session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
      host.tell(.settings(transport.id, maxStreams: Int(limit)))
    case NGHTTP2_PING where header.flags & UInt8(NGHTTP2_FLAG_ACK.rawValue) != 0:
      withUnsafeBytes(of: frame.pointee.ping.opaque_data) { pinged($0) }
    case NGHTTP2_GOAWAY:
      goAwayText = "the server sent GOAWAY (\(Self.name(ofCode: frame.pointee.goaway.error_code)))"
      host.tell(.goAway(transport.id))
    default: break
    }
  }

  private func takeHead(_ stream: Http2Stream) {
    if (100..<200).contains(stream.status) {
      if let error = stream.interim.take(stream.request.answer.head.count) {
        stream.localFailure = (.tooLarge, error.message)
        reset(stream, NGHTTP2_PROTOCOL_ERROR)
      }
      stream.request.answer.head.removeAll(keepingCapacity: true)
      return
    }
    if stream.status >= 300, !stream.isSent {
      // RFC 9113, section 8.1: an error may come before the body was read. The rest stays here.
      stream.dropsBody = true
      host.progressed(stream.request, .sent)
    }
    host.answerHead(
      stream.request, status: stream.status, version: .http2, reason: UnsafeRawBufferPointer(start: nil, count: 0),
      headers: nil)
  }

  private func remoteEnded(_ stream: Http2Stream) {
    stream.remoteEnded = true
    // The answer is complete while the request is not: the rest is of no use to anybody (RFC 9113, section 8.1).
    if !stream.isSent { reset(stream, NGHTTP2_NO_ERROR) }
  }

  private func reset(_ stream: Http2Stream, _ code: nghttp2_error_code) {
    nghttp2_submit_rst_stream(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), stream.id, UInt32(code.rawValue))
  }

  fileprivate func dataReceived(_ id: Int32, _ bytes: UnsafeRawBufferPointer, isLast: Bool) {
    // The connection's window is for everybody: credited on receipt. The stream's is its reader's.
    nghttp2_session_consume_connection(session, bytes.count)
    let credit = with(id) { stream in
      host.received(stream.request)
      return host.answerBody(stream.request, bytes, isWhole: isLast)
    }
    // What comes for nobody is credited at once, too.
    if credit != 0 { nghttp2_session_consume_stream(session, id, credit ?? bytes.count) }
  }

  fileprivate func streamClosed(_ id: Int32, _ code: UInt32) {
    guard let pointer = nghttp2_session_get_stream_user_data(session, id) else {
      // Given up, and ended by the server before its reset went out.
      return heldResets.removeAll { $0.id == id }
    }
    let (stream, request) = abandon(
      Unmanaged<Http2Stream>.fromOpaque(pointer)._withUnsafeGuaranteedRef { $0.place })
    if stream.remoteEnded { return host.finished(request, .success, reusable: true) }
    let failure: Failure
    let text: String
    if let local = stream.localFailure {
      (failure, text) = local
    } else if code == UInt32(NGHTTP2_REFUSED_STREAM.rawValue), stream.status == 0 {
      (failure, text) = (.refused, goAwayText ?? "the server refused the stream")
    } else if stream.isResetByPeer {
      (failure, text) = (
        .read, "the server reset the stream (\(Self.name(ofCode: code))) before its answer was complete"
      )
    } else if code == UInt32(NGHTTP2_REFUSED_STREAM.rawValue) {
      // A GOAWAY that leaves out a stream whose answer has begun, maybe with an interim one.
      (failure, text) = (.read, "\(goAwayText ?? "the HTTP/2 session ended") before its answer was complete")
    } else {
      (failure, text) = (.protocolViolation, "the answer broke the rules of HTTP/2 (\(Self.name(ofCode: code)))")
    }
    request.attempt.failureMessage = transport.located(text)
    let unseen = failure == .refused || !stream.isOnWire
    host.finished(request, Outcome(failure: failure, unseen: unseen), reusable: true)
  }

  fileprivate func frameSent(_ frame: UnsafePointer<nghttp2_frame>) {
    let header = frame.pointee.hd
    let type = nghttp2_frame_type(UInt32(header.type))
    if type == NGHTTP2_GOAWAY { return noteViolation(frame.pointee.goaway) }
    guard type == NGHTTP2_HEADERS || type == NGHTTP2_DATA else { return }
    with(header.stream_id) { stream in
      stream.isOnWire = true
      if header.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0 {
        stream.isSent = true
        lastByteQueued.append(header.stream_id)
      } else {
        host.progressed(stream.request, .wrote)
        // nghttp2 does not ask for more where the server's window is used up.
        if stream.request.upload?.isDrained == true { uploadDrained(stream) }
      }
    }
  }

  /// nghttp2 closes the stream as if the server had refused it: where it has not, it is told what it was.
  fileprivate func frameNotSent(_ frame: UnsafePointer<nghttp2_frame>, _ code: Int32) {
    let header = frame.pointee.hd
    guard nghttp2_frame_type(UInt32(header.type)) == NGHTTP2_HEADERS,
      code != Int32(NGHTTP2_ERR_START_STREAM_NOT_ALLOWED.rawValue)
    else { return }
    let text = String(cString: nghttp2_strerror(code))
    with(header.stream_id) {
      $0.localFailure = (.internalError, "HTTP/2: the request could not be framed: \(text)")
    }
  }

  /// Gives nghttp2 what comes next of a request's body.
  fileprivate func readBody(
    _ stream: Http2Stream, _ buffer: UnsafeMutableRawBufferPointer, _ flags: UnsafeMutablePointer<UInt32>
  ) -> Int {
    guard !stream.dropsBody, !stream.isAbandoned else { return Int(NGHTTP2_ERR_DEFERRED.rawValue) }
    let request = stream.request
    if let upload = request.upload {
      let taken = upload.take(buffer.count) { buffer.copyMemory(from: $0) }
      host.uploadTaken(request, taken)
      if taken.isLast { flags.pointee |= UInt32(NGHTTP2_DATA_FLAG_EOF.rawValue) }
      guard taken.count == 0, !taken.isLast else { return taken.count }
      uploadDrained(stream)
      return Int(NGHTTP2_ERR_DEFERRED.rawValue)
    }
    let rest = request.body[request.attempt.bodySent...].prefix(buffer.count)
    buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: rest))
    request.attempt.bodySent += rest.count
    if request.attempt.bodySent == request.bodyCount { flags.pointee |= UInt32(NGHTTP2_DATA_FLAG_EOF.rawValue) }
    return rest.count
  }

  private func noteViolation(_ goAway: nghttp2_goaway) {
    guard goAway.error_code != UInt32(NGHTTP2_NO_ERROR.rawValue) else { return }
    let detail = String(
      decoding: UnsafeBufferPointer(start: goAway.opaque_data, count: goAway.opaque_data_len), as: UTF8.self)
    violationText = "the server broke the rules of HTTP/2 (\(Self.name(ofCode: goAway.error_code)))"
    if !detail.isEmpty { violationText! += ": \(detail)" }
  }

  private static func name(ofCode code: UInt32) -> String { String(cString: nghttp2_http2_strerror(code)) }
}

/// nghttp2's callbacks: C functions that find the connection and call it.
private enum Http2Callbacks {
  nonisolated(unsafe) static let table: OpaquePointer? = {
    var callbacks: OpaquePointer?
    nghttp2_session_callbacks_new(&callbacks)
    nghttp2_session_callbacks_set_on_header_callback(callbacks) {
      _, frame, name, nameCount, value, valueCount, _, user in
      with(user) { connection in
        connection.header(
          frame!.pointee.hd.stream_id, UnsafeRawBufferPointer(start: name, count: nameCount),
          UnsafeRawBufferPointer(start: value, count: valueCount))
      }
    }
    nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks) {
      _, frame, name, nameCount, value, valueCount, _, user in
      with(user) { connection in
        connection.invalidHeader(
          frame!.pointee.hd.stream_id, UnsafeRawBufferPointer(start: name, count: nameCount),
          UnsafeRawBufferPointer(start: value, count: valueCount))
      }
    }
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks) { _, frame, user in
      with(user) { $0.frameReceived(frame!) }
      return 0
    }
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks) { _, flags, id, bytes, count, user in
      let isLast = flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0
      with(user) { $0.dataReceived(id, UnsafeRawBufferPointer(start: bytes, count: count), isLast: isLast) }
      return 0
    }
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks) { _, id, code, user in
      with(user) { $0.streamClosed(id, code) }
      return 0
    }
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks) { _, frame, user in
      with(user) { $0.frameSent(frame!) }
      return 0
    }
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks) { _, frame, code, user in
      with(user) { $0.frameNotSent(frame!, code) }
      return 0
    }
    return callbacks
  }()

  /// Not counted: whoever called nghttp2 holds the connection.
  private static func with<Result>(_ user: UnsafeMutableRawPointer?, _ body: (Http2Connection) -> Result) -> Result {
    Unmanaged<Http2Connection>.fromOpaque(user!)._withUnsafeGuaranteedRef(body)
  }

  static let readBody: nghttp2_data_source_read_callback = { _, _, buffer, capacity, flags, source, user in
    // Not counted: the connection has it until nghttp2 has no use for it any more.
    Unmanaged<Http2Stream>.fromOpaque(source!.pointee.ptr)._withUnsafeGuaranteedRef { stream in
      with(user) { $0.readBody(stream, UnsafeMutableRawBufferPointer(start: buffer, count: capacity), flags!) }
    }
  }
}
