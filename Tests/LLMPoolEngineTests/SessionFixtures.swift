import CLLMPoolSystem
import LLMPoolCore

@testable import LLMPoolEngine

/// Writes down what a session tells: a host with neither an engine nor a core behind it.
final class TestHost: SessionHost {
  var streamWindow = 65_536
  let http2Workspace = Http2Workspace()
  /// One line for each call, but for bytes that came or went.
  private(set) var log: [String] = []
  private(set) var body: [UInt8] = []
  /// Of the body; -1: as many as came.
  var credit = -1

  /// What was told since the last time.
  func takeLog() -> [String] {
    defer { log = [] }
    return log
  }

  func tell(_ event: Event) {
    switch event {
    case .received: break
    case .goAway: log.append("goAway")
    case .settings(_, let maxStreams): log.append("settings \(maxStreams == Int(UInt32.max) ? "" : "\(maxStreams)")")
    case .resetsHeld: log.append("resetsHeld")
    case .keepAlive(_, let time): log.append("keepAlive \(time / 1_000_000_000)")
    default: log.append("\(event)")
    }
  }
  func progressed(_ request: RequestState, _ phase: Phase) { log.append("\(request.userData) \(phase)") }
  func sent(_ request: RequestState) { log.append("\(request.userData) sent") }
  func uploadTaken(_ request: RequestState, _ taken: Upload.Taken) {
    log.append("\(request.userData) uploadTaken \(taken.count)\(taken.isLast ? " last" : "")")
  }
  func uploadWaits(_ request: RequestState) { log.append("\(request.userData) uploadWaits") }
  func received(_ request: RequestState) {}
  func answerHead(
    _ request: RequestState, status: UInt16, version: AnswerVersion, reason: UnsafeRawBufferPointer,
    headers: UnsafeRawBufferPointer?
  ) {
    request.answer.hasHead = true
    let lines = String(decoding: headers ?? request.answer.headers, as: UTF8.self)
    log.append("\(request.userData) head \(status) \(lines.split(whereSeparator: \.isNewline).joined(separator: ", "))")
  }
  func answerBody(_ request: RequestState, _ bytes: UnsafeRawBufferPointer, isWhole: Bool) -> Int {
    body += bytes
    return credit < 0 ? bytes.count : credit
  }
  func finished(_ request: RequestState, _ outcome: Outcome, reusable: Bool) {
    let end = outcome.failure.map { "\($0)" } ?? "success"
    log.append(
      "\(request.userData) finished \(end)\(outcome.unseen ? " unseen" : "")\(reusable ? "" : " notReusable")")
  }
}

/// A connection made of two arrays.
final class TestTransport: SessionTransport {
  let id = ConnectionID(slot: 0, generation: 1)
  var isTLS = true
  var route = Route.direct
  /// What the session has written.
  private(set) var output: [UInt8] = []
  /// So much is still taken; then writes would block.
  var room = Int.max
  var writeFailure: Fault?
  /// For `read`.
  var input: [[UInt8]] = []
  var acknowledged: UInt64 = .max
  private(set) var wantsFlush = false
  private(set) var wantsReading = false
  private(set) var lostReason: CloseReason?

  var bytesSent: UInt64 { UInt64(output.count + taken) }
  private var taken = 0

  /// What was written since the last time.
  func takeOutput() -> [UInt8] {
    defer {
      taken += output.count
      output = []
    }
    return output
  }

  func needsFlush() { wantsFlush = true }
  func needsReading() { wantsReading = true }
  func write(_ head: UnsafeRawBufferPointer, _ body: UnsafeRawBufferPointer) -> IOResult {
    if let writeFailure { return .failed(writeFailure) }
    let bytes = (Array(head) + Array(body)).prefix(room)
    guard !bytes.isEmpty else { return .wouldBlock }
    room -= bytes.count
    output += bytes
    return .bytes(bytes.count)
  }
  func read(_ body: (UnsafeRawBufferPointer) -> Void) -> Bool {
    guard !input.isEmpty else { return false }
    input.removeFirst().withUnsafeBytes(body)
    return true
  }
  func holdsInput() -> Bool { !input.isEmpty }
  func peerRefusedInput() -> Bool { acknowledged < .max }
  func isUnacknowledged(from position: UInt64) -> Bool { acknowledged <= position }
  func located(_ message: String) -> String { message }
  func lost(_ reason: CloseReason) { lostReason = reason }

  /// As the engine does once a turn, where it was asked to.
  func flush(_ session: HTTPSession) {
    guard wantsFlush else { return }
    wantsFlush = false
    session.flush()
  }
}

extension HTTPSession {
  func receive(_ bytes: [UInt8]) { bytes.withUnsafeBytes { receive($0) } }
}

/// `number` names the request in the log of the host.
func testRequest(
  _ number: UInt64, method: String = "", url: String = "https://api.example.com/v1/x?y", headers: String = "",
  body: String = "", flags: RequestFlags = []
) throws -> RequestState {
  var (method, url, headers, body) = (method, url, headers, body)
  var input = RequestInput()
  input.flags = flags
  input.userData = number
  func make() throws -> RequestState { try RequestState(input, queue: CompletionQueue(), now: 0) }
  return try method.withUTF8 { method in
    try url.withUTF8 { url in
      try headers.withUTF8 { headers in
        try body.withUTF8 { body in
          if !method.isEmpty { input.method = UnsafeRawBufferPointer(method) }
          input.url = UnsafeRawBufferPointer(url)
          input.headers = UnsafeRawBufferPointer(headers)
          input.body = UnsafeRawBufferPointer(body)
          return try make()
        }
      }
    }
  }
}

/// A frame of HTTP/2 (RFC 9113, section 4.1).
struct Frame: Equatable, CustomStringConvertible {
  enum Kind: UInt8 {
    case data, headers, priority, resetStream, settings, pushPromise, ping, goAway, windowUpdate, continuation
  }
  static let endStream: UInt8 = 1
  static let ack: UInt8 = 1
  static let endHeaders: UInt8 = 4

  var kind: Kind
  var flags: UInt8 = 0
  var stream: UInt32 = 0
  var payload: [UInt8] = []

  var bytes: [UInt8] {
    Frame.number(UInt32(payload.count)).dropFirst() + [kind.rawValue, flags] + Frame.number(stream) + payload
  }
  var description: String { "\(kind) \(flags) \(stream) \(payload.count) bytes" }
  /// The first four bytes of the payload.
  var code: UInt32 { payload.prefix(4).reduce(0) { $0 << 8 | UInt32($1) } }

  static func number(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) } }

  static let settings = Frame(kind: .settings)
  static func settings(maxStreams: UInt32) -> Frame {
    Frame(kind: .settings, payload: [0, 3] + number(maxStreams))
  }
  /// The status is a literal that is not indexed (RFC 7541, section 6.2.2), and so is each field.
  static func head(_ stream: UInt32, status: String, _ fields: [(String, String)] = [], ends: Bool = false) -> Frame {
    var block: [UInt8] = [0x08, UInt8(status.utf8.count)] + Array(status.utf8)
    for (name, value) in fields {
      block += [0, UInt8(name.utf8.count)] + Array(name.utf8) + [UInt8(value.utf8.count)] + Array(value.utf8)
    }
    return Frame(kind: .headers, flags: endHeaders | (ends ? endStream : 0), stream: stream, payload: block)
  }
  static func data(_ stream: UInt32, _ text: String, ends: Bool = false) -> Frame {
    Frame(kind: .data, flags: ends ? endStream : 0, stream: stream, payload: Array(text.utf8))
  }
  static func reset(_ stream: UInt32, _ code: nghttp2_error_code) -> Frame {
    Frame(kind: .resetStream, stream: stream, payload: number(code.rawValue))
  }
  static func goAway(last: UInt32, _ code: nghttp2_error_code = NGHTTP2_NO_ERROR) -> Frame {
    Frame(kind: .goAway, payload: number(last) + number(code.rawValue))
  }

  static func all(in bytes: [UInt8]) -> [Frame] {
    var frames: [Frame] = []
    var rest = bytes[...]
    while rest.count >= 9 {
      let head = Array(rest.prefix(9))
      let length = Int(head[0]) << 16 | Int(head[1]) << 8 | Int(head[2])
      let stream = head[5...].reduce(0) { UInt32($0) << 8 | UInt32($1) }
      let payload = Array(rest.dropFirst(9).prefix(length))
      frames.append(Frame(kind: Kind(rawValue: head[3])!, flags: head[4], stream: stream, payload: payload))
      rest = rest.dropFirst(9 + length)
    }
    return frames
  }
}
