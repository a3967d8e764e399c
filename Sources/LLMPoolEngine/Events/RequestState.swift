import CLLMPoolSystem
import Glibc
import LLMPoolCore
import LLMPoolWire
import Synchronization

/// A request from its submission to its DONE. Made on the application's thread; after that everything but the credit
/// belongs to the engine's thread.
final class RequestState: @unchecked Sendable {
  static let defaultMaxResponseBytes = 64 << 20

  let flags: RequestFlags
  let userData: UInt64
  let queue: CompletionQueue
  /// The engine's side of it.
  var port: QueuePort?
  /// Timeouts that it leaves to the pool are filled in when the pool changes them.
  var options: RequestOptions
  let maxResponseBytes: Int
  /// Of one server-sent event; 0: as the pool has it.
  let maxEventBytes: Int
  let methodKind: RequestMethod
  let url: URLParts
  let fields: [HeaderField]
  let summary: HeaderSummary
  /// Owns every byte of the request: method, URL, authority, headers, body, name of its budget, one after the other.
  private let bytes: UnsafeMutableRawPointer
  /// Of a twin: whose bytes they are.
  private let owner: RequestState?
  private let methodCount: Int
  private let urlCount: Int
  private let authorityCount: Int
  private let headersCount: Int
  let bodyCount: Int
  /// Of all its bytes.
  let size: Int
  private let budgetNameCount: Int
  let serverName: String?
  /// The body where it comes in pieces.
  let upload: Upload?

  // Since submission.
  var id = RequestID(value: 0)
  /// The sending that runs, or ran last.
  var attempt = Attempt()
  /// What has come for it.
  var answer = Answer()
  var origin: Int32 = -1
  var budget = BudgetID.none
  /// When its budget had room for it, in microseconds.
  var budgeted: UInt64 = 0
  /// A piece of an upload went to a connection.
  var isBodyConsumed = false
  /// It has an event timeout.
  var hasEventClock = false
  /// Credit for bytes that have not come yet, whichever sending brings them.
  var creditAhead = 0
  /// How it ended for the core, while a part of its answer waits for the application.
  var ending: Completion?

  /// Of the engine that runs it, for the credit that releasing its events gives.
  var inbox: Inbox?
  /// Credit that releasing events has given, not yet told to the engine.
  private let pendingCredit = Atomic<Int>(0)
  var creditThreshold = 0

  init(_ input: RequestInput, queue: CompletionQueue, now: Int64) throws(Fault) {
    self.queue = queue
    owner = nil
    flags = input.flags
    userData = input.userData
    guard input.flags.isSubset(of: .known) else {
      throw Fault(
        .unsupported, "flags: unknown bits 0x\(String(input.flags.subtracting(.known).rawValue, radix: 16))")
    }
    guard !input.flags.contains(.upload) || input.body.isEmpty else {
      throw Fault(.invalidArgument, "body: with LLMPOOL_REQUEST_UPLOAD it comes by llmpool_write()")
    }
    guard input.maxResponseBytes >= 0 else { throw Fault(.invalidArgument, "max_response_bytes: too large") }
    maxEventBytes = try RequestState.validate(maxEventBytes: input.maxEventBytes)
    maxResponseBytes = input.maxResponseBytes == 0 ? RequestState.defaultMaxResponseBytes : input.maxResponseBytes
    options = RequestState.options(of: input, now: now)
    let sendsBody = input.body.count > 0 || input.flags.contains(.upload)
    let method = input.method.baseAddress == nil ? RequestState.defaultMethod(sendsBody) : input.method
    (methodKind, url) = try RequestState.validate(method, input.url)
    (fields, summary) = try RequestState.validate(headers: input)
    serverName = try RequestState.validate(serverName: input.serverName)
    try BudgetName.validate(input.budget)
    try RequestState.validate(hedgingOf: input)
    upload = input.flags.contains(.upload) ? Upload(declaredLength: summary.contentLength) : nil
    methodCount = method.count
    urlCount = input.url.count
    headersCount = input.headers.count
    bodyCount = input.body.count
    budgetNameCount = input.budget.count
    guard
      let size = Memory.sum([methodCount, urlCount, url.authorityRoom, headersCount, bodyCount, budgetNameCount])
    else {
      throw Fault(.invalidArgument, "body_size: more than memory can have")
    }
    self.size = size
    guard let memory = Memory.allocate(size) else {
      throw Fault(.outOfMemory, "body_size: no memory for a request of \(size) bytes")
    }
    bytes = memory
    var end = bytes
    RequestState.append(method, &end)
    RequestState.append(input.url, &end)
    let room = UnsafeMutableRawBufferPointer(start: end, count: url.authorityRoom)
    authorityCount = url.writeAuthority(of: input.url, to: room)
    end += authorityCount
    RequestState.append(input.headers, &end)
    RequestState.append(input.body, &end)
    RequestState.append(input.budget, &end)
  }

  /// The same request once more, for a second attempt beside its own.
  init(twinOf other: RequestState) {
    flags = other.flags
    userData = other.userData
    queue = other.queue
    port = other.port
    options = other.options
    maxResponseBytes = other.maxResponseBytes
    maxEventBytes = other.maxEventBytes
    methodKind = other.methodKind
    url = other.url
    fields = other.fields
    summary = other.summary
    bytes = other.bytes
    owner = other
    size = other.size
    methodCount = other.methodCount
    urlCount = other.urlCount
    authorityCount = other.authorityCount
    headersCount = other.headersCount
    bodyCount = other.bodyCount
    serverName = other.serverName
    budgetNameCount = other.budgetNameCount
    upload = nil
    id = other.id
    origin = other.origin
    budget = other.budget
    budgeted = other.budgeted
    hasEventClock = other.hasEventClock
    inbox = other.inbox
    creditThreshold = other.creditThreshold
    attempt.number = other.attempt.number
  }

  private static func append(_ source: UnsafeRawBufferPointer, _ end: inout UnsafeMutableRawPointer) {
    guard let base = source.baseAddress, source.count > 0 else { return }
    end.copyMemory(from: base, byteCount: source.count)
    end += source.count
  }

  deinit { if owner == nil { free(bytes) } }

  /// A sending begins. Where none was before there is nothing in the answer.
  func begin(_ id: AttemptID, on connection: Connection, isReused: Bool) {
    if attempt.connection != nil {
      answer = Answer()
      attempt = Attempt(after: attempt.number)
    }
    attempt.begin(id, on: connection, isReused: isReused)
  }

  /// It is over: the connection may go, and what came is in its DONE.
  func leave() {
    attempt.leave()
    answer.leave()
  }

  /// Nothing of what was sent, or came, is left.
  func forgetSending() {
    attempt = Attempt()
    answer = Answer()
  }

  private func part(_ start: Int, _ count: Int) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: bytes + start, count: count)
  }
  var method: UnsafeRawBufferPointer { part(0, methodCount) }
  var urlText: UnsafeRawBufferPointer { part(methodCount, urlCount) }
  var authority: UnsafeRawBufferPointer { part(methodCount + urlCount, authorityCount) }
  /// Scheme, host and port as the URL has them.
  var originText: UnsafeRawBufferPointer { part(methodCount, url.targetRange.lowerBound) }
  /// "https://host:443"
  var originName: String {
    String(unsafeUninitializedCapacity: url.originRoom) {
      url.writeOrigin(of: urlText, to: UnsafeMutableRawBufferPointer($0))
    }
  }
  private var headersStart: Int { methodCount + urlCount + authorityCount }
  var headers: UnsafeRawBufferPointer { part(headersStart, headersCount) }
  var body: UnsafeRawBufferPointer { part(headersStart + headersCount, bodyCount) }
  /// Empty where it has none.
  var budgetName: UnsafeRawBufferPointer { part(headersStart + headersCount + bodyCount, budgetNameCount) }
  var target: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: urlText[url.targetRange]) }
  var isHEAD: Bool { methodKind.isHEAD }
  var hasBody: Bool { bodyCount > 0 || upload != nil }
  var isHedged: Bool { options.hedgeAfter != .max }
  var isStreamed: Bool { !flags.isDisjoint(with: [.stream, .sse]) }
  var host: String { String(decoding: urlText[url.hostRange], as: UTF8.self).lowercased() }

  // MARK: Credit

  /// An event was released on any thread. Its credit is told to the engine in large steps, for each costs it a wake;
  /// the memory of records is, where the engine does not wait for it, left to be seen in its next turn.
  func released(credit: UInt32, records: Int, isAwaited: Bool) {
    var taken = 0
    if !flags.contains(.manualCredit) {
      let sum = pendingCredit.add(Int(credit), ordering: .relaxed).newValue
      if sum >= creditThreshold { taken = pendingCredit.exchange(0, ordering: .relaxed) }
    }
    guard taken > 0 || records > 0 else { return }
    let isQuiet = taken == 0 && !isAwaited
    inbox?.withLock { inbox?.deliver(.credit(id, taken, records: records), quietly: isQuiet, &$0) }
  }

  // MARK: Validation

  private static func defaultMethod(_ sendsBody: Bool) -> UnsafeRawBufferPointer {
    let name: StaticString = sendsBody ? "POST" : "GET"
    return UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount)
  }

  private static func options(of input: RequestInput, now: Int64) -> RequestOptions {
    var options = input.options
    options.submittedAt = Instant(nanoseconds: now)
    if !input.flags.isDisjoint(with: [.stream, .sse]) { options.flags.insert(.streamed) }
    if input.flags.contains(.retryStatus) { options.flags.insert(.retryStatus) }
    if input.flags.contains(.retrySent) { options.flags.insert(.retrySent) }
    if input.flags.contains(.noRetry) { options.flags.insert(.noRetry) }
    if input.flags.contains(.noRedial) { options.flags.insert(.noRedial) }
    if input.flags.contains(.upload) { options.flags.insert(.upload) }
    options.inputCost = min(max(0, options.inputCost), Cost.most)
    options.outputCost = min(max(0, options.outputCost), Cost.most)
    if input.flags.contains(.estimatedCost) { options.flags.insert(.estimatedCost) }
    return options
  }

  private static func validate(
    _ method: UnsafeRawBufferPointer, _ url: UnsafeRawBufferPointer
  ) throws(Fault) -> (RequestMethod, URLParts) {
    do {
      let kind = try RequestWriter.validateMethod(method)
      return (kind, try URLParts.parse(url))
    } catch {
      throw Fault(.invalidArgument, error.description)
    }
  }

  private static func validate(headers input: RequestInput) throws(Fault) -> ([HeaderField], HeaderSummary) {
    var fields: [HeaderField] = []
    let summary: HeaderSummary
    do { summary = try HeaderBlock.validate(input.headers, into: &fields) } catch {
      throw Fault(.invalidArgument, error.description)
    }
    if let length = summary.contentLength, !input.flags.contains(.upload), length != UInt64(input.body.count) {
      throw Fault(
        .invalidArgument, "headers: content-length is \(length), but body_size is \(input.body.count); leave it out")
    }
    return (fields, summary)
  }

  private static func validate(hedgingOf input: RequestInput) throws(Fault) {
    guard input.options.hedgeAfter != .max else { return }
    guard !input.flags.contains(.upload) else {
      throw Fault(.invalidArgument, "hedge_after_ms: not with LLMPOOL_REQUEST_UPLOAD, whose body cannot be sent twice")
    }
    guard input.flags.contains(.retrySent), !input.flags.contains(.noRetry) else {
      throw Fault(
        .invalidArgument,
        "hedge_after_ms: only with LLMPOOL_REQUEST_RETRY_SENT, without _NO_RETRY: the server may act on both attempts")
    }
  }

  private static func validate(maxEventBytes: Int) throws(Fault) -> Int {
    let range = PoolSettings.maxEventBytesRange
    guard maxEventBytes == 0 || (Int(range.lowerBound)...Int(range.upperBound)).contains(maxEventBytes) else {
      throw Fault(
        .invalidArgument, "max_event_bytes: expected 0, or \(range.lowerBound) to \(range.upperBound)")
    }
    return maxEventBytes
  }

  private static func validate(serverName: UnsafeRawBufferPointer) throws(Fault) -> String? {
    guard !serverName.isEmpty else { return nil }
    // By the same rules as the host of a URL: the certificate is compared with it, and ".test" would be any name below.
    guard URLParts.isHost(serverName) else {
      throw Fault(
        .invalidArgument,
        "server_name: expected a host name: labels of 1 to 63 letters, digits, '-' and '_' with a '.' between them")
    }
    return String(decoding: serverName, as: UTF8.self)
  }
}
