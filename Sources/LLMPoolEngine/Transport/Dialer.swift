import CLLMPoolSystem
import Glibc
import LLMPoolCore

/// Makes TCP connections, also through proxies, with a libcurl multi handle that does nothing else. libcurl brings
/// happy eyeballs and the proxy protocols; a descriptor that is connected leaves it for good.
///
/// Engine thread only. The caller's loop owns the time and the epoll set: it calls `descriptorReady` for what the
/// watcher was asked to watch and `advance` when `nextDeadline` has come, then empties `takeResults`. Nothing happens
/// between these calls; `dial` itself only makes `nextDeadline` due. `shutdown` comes before the last reference goes.
package final class Dialer {
  private final class Dial {
    let request: DialRequest
    let ticket: DialTicket
    let easy: UnsafeMutableRawPointer
    var lists: [UnsafeMutablePointer<curl_slist>] = []

    init(request: DialRequest, ticket: DialTicket, easy: UnsafeMutableRawPointer) {
      self.request = request
      self.ticket = ticket
      self.easy = easy
    }
  }

  /// When `advance` is due, by CLOCK_MONOTONIC in nanoseconds; nil: no dial waits for time.
  package var nextDeadline: Int64? { stalled.isEmpty ? timer : 0 }

  /// When libcurl wants to be called.
  private var timer: Int64?
  /// Dials whose socket libcurl has given up. 7.88 then prepares the next address, but neither tries it nor sets its
  /// timer, so that it would come to it when the whole dial has timed out.
  private var stalled: Set<UInt64> = []
  private var multi: UnsafeMutableRawPointer?
  private unowned let watcher: any DescriptorWatcher
  private var dials: [UInt64: Dial] = [:]
  /// What libcurl wants to know of which descriptor: CURL_POLL_*.
  private var watched: [Int32: Int32] = [:]
  private var results: [DialResult] = []
  private let cacheAgeSeconds: Int?

  /// `cacheAgeSeconds` lets a test see libcurl prune what it believes to be its connections.
  package init(watcher: any DescriptorWatcher, cacheAgeSeconds: Int? = nil) throws(Fault) {
    guard Libraries.initialized, let multi = curl_multi_init() else {
      throw Fault(.outOfMemory, "cannot create libcurl's multi handle")
    }
    WakeupSockets.closeOnExec(of: multi)
    self.multi = multi
    self.watcher = watcher
    self.cacheAgeSeconds = cacheAgeSeconds
    let context = Unmanaged.passUnretained(self).toOpaque()
    _ = lp_multi_set_socket(multi, onSocketChange, context)
    _ = lp_multi_set_timer(multi, onTimerChange, context)
    // Dials that end in one turn lie in libcurl's cache until they are taken; a limit would close the oldest of them.
    _ = lp_multi_set_long(multi, CURLMOPT_MAXCONNECTS, 1_000_000)
    _ = lp_multi_set_long(multi, CURLMOPT_PIPELINING, Int(CURLPIPE_NOTHING))
  }

  deinit {
    precondition(multi == nil, "shutdown() comes before the last reference goes")
  }

  // MARK: dialling

  /// Starts a dial. Its result, of a failure too, comes out of `takeResults`, once, unless it is cancelled before.
  package func dial(_ request: DialRequest) {
    guard let multi, dials[request.token] == nil else {
      return fail(request, .internalError, "the dialer is shut down or the token in use")
    }
    guard isDialable(request.host), request.port > 0 else {
      return fail(request, .invalidArgument, "\"\(request.host)\" cannot be dialled")
    }
    guard let easy = curl_easy_init() else { return fail(request, .outOfMemory, "no memory for a dial") }
    let dial = Dial(request: request, ticket: DialTicket(dialer: self), easy: easy)
    guard configure(dial), curl_multi_add_handle(multi, easy) == CURLM_OK else {
      destroy(dial)
      return fail(request, .outOfMemory, "libcurl did not take the dial")
    }
    dials[request.token] = dial
  }

  /// No result comes for the token from here on; a connection already made is closed.
  package func cancel(_ token: UInt64) {
    if let dial = dials.removeValue(forKey: token) {
      destroy(dial)
      stalled.remove(token)
    }
    results.removeAll { result in
      guard result.token == token else { return false }
      if case .connected(let descriptor, _, _) = result.outcome { Descriptors.close(descriptor) }
      return true
    }
  }

  /// What has ended since the last call, in the order in which it did.
  package func takeResults() -> [DialResult] {
    guard !results.isEmpty else { return [] }
    defer { results.removeAll(keepingCapacity: true) }
    return results
  }

  /// For a descriptor that the watcher was asked to watch; others are ignored.
  package func descriptorReady(_ descriptor: Int32, readable: Bool, writable: Bool, error: Bool) {
    guard watched[descriptor] != nil else { return }
    let mask =
      (readable ? CURL_CSELECT_IN : 0) | (writable ? CURL_CSELECT_OUT : 0) | (error ? CURL_CSELECT_ERR : 0)
    act(descriptor, mask)
  }

  package func advance(now: Int64) {
    if !stalled.isEmpty {
      stalled = []
      runAll()
    }
    guard let deadline = timer, deadline <= now else { return }
    // The timer is one-shot: libcurl sets the next one within the call, or none.
    timer = nil
    act(CURL_SOCKET_TIMEOUT, 0)
  }

  /// Ends all dials without results, and libcurl's part.
  package func shutdown() {
    guard let multi else { return }
    let ending = dials.values
    dials = [:]
    for dial in ending { destroy(dial) }
    for result in results {
      if case .connected(let descriptor, _, _) = result.outcome { Descriptors.close(descriptor) }
    }
    results = []
    curl_multi_cleanup(multi)
    self.multi = nil
    (timer, stalled) = (nil, [])
  }

  // MARK: options of a dial

  private func configure(_ dial: Dial) -> Bool {
    let easy = dial.easy
    let ticket = dial.ticket.retainedPointer()
    _ = lp_easy_set_open_socket(easy, DialTicket.openSocket, ticket)
    _ = lp_easy_set_close_socket(easy, DialTicket.closeSocket, ticket)
    _ = lp_easy_set_pointer(easy, CURLOPT_PRIVATE, UnsafeMutableRawPointer(bitPattern: UInt(dial.request.token)))
    _ = lp_easy_set_write(easy) { _, size, count, _ in size * count }
    let timeout = dial.request.timeoutMilliseconds
    let longs: [(CURLoption, Int)] = [
      (CURLOPT_CONNECT_ONLY, 1), (CURLOPT_NOSIGNAL, 1), (CURLOPT_FRESH_CONNECT, 1),
      (CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_1_1)), (CURLOPT_TCP_NODELAY, 1),
      // 0 would mean libcurl's 300 s.
      (CURLOPT_CONNECTTIMEOUT_MS, timeout == 0 ? Int(Int32.max) : Int(min(timeout, UInt32(Int32.max)))),
      (CURLOPT_PROXYAUTH, lp_auth_basic()), (CURLOPT_SUPPRESS_CONNECT_HEADERS, 1),
      // Of what CURLOPT_RESOLVE brings: long enough for a SOCKS proxy that comes to it late in the dial.
      (CURLOPT_DNS_CACHE_TIMEOUT, 300),
    ]
    for (option, value) in longs where lp_easy_set_long(easy, option, value) != CURLE_OK { return false }
    // libcurl knows it since 7.87; before, it waits at exit for names that are being looked up.
    _ = lp_easy_set_long(easy, CURLOPT_QUICK_EXIT, 1)
    if let cacheAgeSeconds { _ = lp_easy_set_long(easy, CURLOPT_MAXAGE_CONN, cacheAgeSeconds) }
    return setDestination(dial)
  }

  /// The scheme is http:// for TLS origins too: TLS is not libcurl's business here.
  private func setDestination(_ dial: Dial) -> Bool {
    let (easy, request) = (dial.easy, dial.request)
    let origin = "\(bracketed(request.host)):\(request.port)"
    var target = origin
    // Set even where there is none: libcurl would else look at http_proxy and no_proxy by itself.
    var proxy = ""
    if let settings = request.proxy {
      addResolve(dial, settings.host, settings.port, settings.addresses)
      if settings.scheme == .http && !request.tunnel {
        target = settings.authority
      } else {
        proxy = settings.description
        if settings.scheme == .http { _ = lp_easy_set_long(easy, CURLOPT_HTTPPROXYTUNNEL, 1) }
        if let user = settings.user {
          _ = lp_easy_set_string(easy, CURLOPT_PROXYUSERNAME, user)
          _ = lp_easy_set_string(easy, CURLOPT_PROXYPASSWORD, settings.password ?? "")
        }
      }
    }
    addResolve(dial, request.host, request.port, request.addresses)
    return lp_easy_set_string(easy, CURLOPT_PROXY, proxy) == CURLE_OK
      && lp_easy_set_string(easy, CURLOPT_NOPROXY, "") == CURLE_OK
      && lp_easy_set_string(easy, CURLOPT_URL, "http://\(target)/") == CURLE_OK
  }

  /// "+host:port:192.0.2.1,[2001:db8::1]": the addresses go into libcurl's name cache, to expire there.
  private func addResolve(_ dial: Dial, _ host: String, _ port: UInt16, _ addresses: [SocketAddress]) {
    guard !addresses.isEmpty, SocketAddress(literal: host, port: 0) == nil else { return }
    let list = addresses.map { $0.isIPv6 ? "[\($0.host)]" : $0.host }.joined(separator: ",")
    guard let entries = curl_slist_append(dial.lists.last, "+\(host):\(port):\(list)") else { return }
    dial.lists = [entries]
    _ = lp_easy_set_list(dial.easy, CURLOPT_RESOLVE, entries)
  }

  // MARK: libcurl's answers

  private func act(_ descriptor: Int32, _ mask: Int32) {
    guard let multi else { return }
    var running: Int32 = 0
    curl_multi_socket_action(multi, descriptor, mask, &running)
    collect(multi)
  }

  private func runAll() {
    guard let multi else { return }
    var running: Int32 = 0
    _ = lp_multi_run_all(multi, &running)
    collect(multi)
  }

  private func collect(_ multi: UnsafeMutableRawPointer) {
    var left: Int32 = 0
    while let message = curl_multi_info_read(multi, &left) {
      guard message.pointee.msg == CURLMSG_DONE, let easy = message.pointee.easy_handle else { continue }
      // The message's memory goes with the easy handle.
      finish(easy, lp_message_result(message))
    }
  }

  private func finish(_ easy: UnsafeMutableRawPointer, _ code: CURLcode) {
    guard let dial = dials.removeValue(forKey: token(easy)) else { return }
    stalled.remove(dial.request.token)
    let outcome = code == CURLE_OK ? take(dial) : .failed(failure(dial, code))
    destroy(dial)
    results.append(DialResult(token: dial.request.token, outcome: outcome))
  }

  private func token(_ easy: UnsafeMutableRawPointer) -> UInt64 {
    var token: UnsafeMutableRawPointer?
    _ = lp_easy_get_pointer(easy, CURLINFO_PRIVATE, &token)
    return UInt64(UInt(bitPattern: token))
  }

  private func take(_ dial: Dial) -> DialResult.Outcome {
    var descriptor: curl_socket_t = -1
    _ = lp_easy_get_socket(dial.easy, CURLINFO_ACTIVESOCKET, &descriptor)
    guard descriptor >= 0, let address = SocketAddress(peerOf: descriptor) else {
      let text = "the connection to \(destination(dial.request)) was lost as soon as it was made"
      return .failed(Fault(dial.request.proxy == nil ? .connect : .proxy, text))
    }
    dial.ticket.handOver(descriptor)
    forget(descriptor)
    if let keepalive = dial.request.keepalive { Socket.setKeepalive(descriptor, keepalive) }
    return .connected(descriptor: descriptor, peer: address.description, address: address)
  }

  private func destroy(_ dial: Dial) {
    if let multi { curl_multi_remove_handle(multi, dial.easy) }
    curl_easy_cleanup(dial.easy)
    dial.ticket.finish()
    for list in dial.lists { curl_slist_free_all(list) }
    dial.lists = []
  }

  private func fail(_ request: DialRequest, _ failure: Failure, _ message: String) {
    results.append(DialResult(token: request.token, outcome: .failed(Fault(failure, message))))
  }

  /// libcurl closes or gives up the descriptor.
  func forget(_ descriptor: Int32) {
    if watched.removeValue(forKey: descriptor) != nil { watcher.unwatch(descriptor) }
  }

  /// A new socket has the number of one that libcurl closed without a word, as it does between two addresses. The
  /// kernel has dropped the old one from the epoll set, and libcurl, seeing the same number, will not ask again.
  func renewWatch(_ descriptor: Int32) {
    guard let what = watched[descriptor] else { return }
    watcher.unwatch(descriptor)
    watch(descriptor, what)
  }

  fileprivate func socketChanged(_ easy: UnsafeMutableRawPointer?, _ descriptor: Int32, _ what: Int32) {
    guard what == CURL_POLL_REMOVE else { return watch(descriptor, what) }
    forget(descriptor)
    if let easy, case let token = token(easy), dials[token] != nil { stalled.insert(token) }
  }

  private func watch(_ descriptor: Int32, _ what: Int32) {
    watched[descriptor] = what
    watcher.watch(descriptor, read: what & CURL_POLL_IN != 0, write: what & CURL_POLL_OUT != 0)
  }

  fileprivate func timerChanged(_ milliseconds: Int) {
    timer = milliseconds < 0 ? nil : monotonicNow() + Int64(milliseconds) * 1_000_000
  }
}

private let onSocketChange: curl_socket_callback = { easy, descriptor, what, context, _ in
  guard let context else { return 0 }
  Unmanaged<Dialer>.fromOpaque(context).takeUnretainedValue().socketChanged(easy, descriptor, what)
  return 0
}

private let onTimerChange: curl_multi_timer_callback = { _, milliseconds, context in
  guard let context else { return 0 }
  Unmanaged<Dialer>.fromOpaque(context).takeUnretainedValue().timerChanged(milliseconds)
  return 0
}

// MARK: failures

extension Dialer {
  private func failure(_ dial: Dial, _ code: CURLcode) -> Fault {
    let request = dial.request
    let target = destination(request)
    if [EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(dial.ticket.openError) || code == CURLE_OUT_OF_MEMORY {
      let reason = dial.ticket.openError == 0 ? "out of memory" : errnoText(dial.ticket.openError)
      return Fault(.outOfMemory, "cannot open a socket to \(target): \(reason)")
    }
    if code == CURLE_OPERATION_TIMEDOUT {
      let text = "no connection to \(target) within \(request.timeoutMilliseconds) ms\(tried(request))"
      return Fault(.connectTimeout, text)
    }
    let failure: Failure = request.proxy == nil ? .connect : .proxy
    return Fault(failure, "cannot connect to \(target): \(reason(dial, code))\(tried(request))")
  }

  private func reason(_ dial: Dial, _ code: CURLcode) -> String {
    var status = 0
    _ = lp_easy_get_long(dial.easy, CURLINFO_HTTP_CONNECTCODE, &status)
    if status != 0 && status / 100 != 2 {
      return "the proxy answered CONNECT with status \(status)" + (status == 407 ? " (credentials refused)" : "")
    }
    var proxyCode = 0
    if code == CURLE_PROXY, lp_easy_get_long(dial.easy, CURLINFO_PROXY_ERROR, &proxyCode) == CURLE_OK {
      return proxyReason(UInt32(clamping: proxyCode))
    }
    var system = 0
    _ = lp_easy_get_long(dial.easy, CURLINFO_OS_ERRNO, &system)
    if system == 0 { system = Int(dial.ticket.openError) }
    if code == CURLE_COULDNT_CONNECT && system != 0 { return errnoText(Int32(clamping: system)) }
    return String(cString: curl_easy_strerror(code))
  }

  private func proxyReason(_ code: UInt32) -> String {
    switch CURLproxycode(rawValue: code) {
    case CURLPX_REPLY_NOT_ALLOWED: "the SOCKS proxy's rules do not allow it"
    case CURLPX_REPLY_NETWORK_UNREACHABLE: "the SOCKS proxy finds the network unreachable"
    case CURLPX_REPLY_HOST_UNREACHABLE: "the SOCKS proxy finds the host unreachable"
    case CURLPX_REPLY_CONNECTION_REFUSED: "the host refused the SOCKS proxy's connection"
    case CURLPX_REPLY_TTL_EXPIRED: "the time to live expired behind the SOCKS proxy"
    case CURLPX_REPLY_GENERAL_SERVER_FAILURE: "the SOCKS proxy failed"
    case CURLPX_USER_REJECTED, CURLPX_NO_AUTH: "the SOCKS proxy refused the credentials"
    case CURLPX_BAD_VERSION: "the proxy does not speak SOCKS 5"
    case CURLPX_CLOSED: "the SOCKS proxy closed the connection"
    case CURLPX_RESOLVE_HOST: "the host name could not be resolved"
    default: "the SOCKS proxy refused or failed (libcurl's proxy code \(code))"
    }
  }

  private func destination(_ request: DialRequest) -> String {
    let origin = "\(bracketed(request.host)):\(request.port)"
    return request.proxy.map { "\(origin) through \($0)" } ?? origin
  }

  private func tried(_ request: DialRequest) -> String {
    let addresses = request.proxy?.addresses ?? request.addresses
    if addresses.isEmpty { return "" }
    let more = addresses.count > 4 ? ", ..." : ""
    return " (tried \(addresses.prefix(4).map(\.host).joined(separator: ", "))\(more))"
  }
}
