import CLLMPoolSystem
import Glibc
import LLMPoolCore

/// What one call of `read` or `write` did.
package enum IOResult: Equatable {
  case bytes(Int)
  /// Nothing now: wait for the next edge. Of `read` it also means that everything that had arrived was given out.
  case wouldBlock
  /// The peer ended its side. `clean` is false where TLS was cut off without close_notify: a body that lasts until the
  /// connection closes is then truncated. Of a plain connection always true: TCP's FIN is all there is.
  case endOfFile(clean: Bool)
  /// The connection is of no more use, in either direction for a write.
  case failed(Fault)
}

/// A connected TCP descriptor, plain or with TLS on top. Engine thread only.
///
/// Made for edge-triggered epoll (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET): `noteReadable` and `noteWritable` are
/// told the edges; in between, no system call is made whose answer is known to be EAGAIN. A `recv` that returned less
/// than was asked for has emptied the socket: what comes later makes a new edge. Not so an end of stream that came
/// together with the last bytes, hence `hangup`. Level-triggered loops work as well if they tell each report.
package final class ByteStream {
  /// -1 once closed.
  package private(set) var descriptor: Int32
  /// "192.0.2.1:443" or "[::1]:443"; of a proxied connection the proxy's.
  package let peer: String
  /// Of the socket, below TLS.
  package private(set) var bytesReceived: UInt64 = 0
  package private(set) var bytesSent: UInt64 = 0

  private var mayReceive = true
  private var maySend = true
  private var hasHungUp = false
  private(set) var sawEndOfFile = false
  /// The first errno that a system call gave other than EAGAIN. The call that tells an error makes the kernel forget
  /// it, so it is kept.
  private(set) var socketError: Int32 = 0
  /// Whether `recv` failed. A failed `send` alone does not end reading: the answer may have come before.
  private(set) var receiveFailed = false
  /// What the kernel had acknowledged when we had sent nothing: the SYN, and what libcurl told a proxy.
  private let acknowledgedAtStart: UInt64?

  // The state of TLS; ByteStream+TLS.swift works on it.
  var ssl: OpaquePointer?
  var tlsContext: TLSContext?
  var tlsSessionKey: TLSSessionKey?
  var tlsStartFailure: Fault?
  /// What the verification of the certificate found; see `noteVerifyFailure`.
  var verifyFailure: String?
  var isSecured = false
  /// True while OpenSSL must not be called again: it has reported a fatal error.
  var tlsIsBroken = false
  /// An error or end that followed bytes within one `read`, for the next one.
  var deferredRead: IOResult?
  var lastReadWouldBlock = false
  /// TLS wants to send (the answer to a key update) before it reads on.
  var readWaitsForWritable = false
  var isReadingTLS = false
  var firstBytes: [UInt8] = []

  /// Takes over a connected, non-blocking descriptor.
  package init(descriptor: Int32) {
    self.descriptor = descriptor
    peer = SocketAddress(peerOf: descriptor)?.description ?? "unknown address"
    acknowledgedAtStart = Socket.bytesAcknowledged(descriptor)
  }

  deinit {
    close(goodbye: false)
  }

  // MARK: readiness

  /// To be called on each report that the descriptor is readable. `hangup`: EPOLLRDHUP, EPOLLHUP or EPOLLERR was in
  /// the report; where the caller does not know, true costs one more recv().
  package func noteReadable(hangup: Bool = true) {
    mayReceive = true
    lastReadWouldBlock = false
    if hangup { hasHungUp = true }
  }

  package func noteWritable() {
    maySend = true
    if readWaitsForWritable {
      readWaitsForWritable = false
      lastReadWouldBlock = false
    }
  }

  /// True while `read` may give something without a further edge: TLS holds bytes, decrypted or not, or the last
  /// `recv` did not empty the socket. A loop that stops reading for the sake of others keeps the connection on its
  /// ready list while this is true.
  package var hasBufferedInput: Bool {
    guard descriptor >= 0, !lastReadWouldBlock else { return false }
    if deferredRead != nil { return true }
    if let ssl, SSL_has_pending(ssl) == 1 { return true }
    return mayReceive && !receiveFailed
  }

  /// Whether anything that the peer sent, its end included, lies unread: in TLS, whole or in part, or in the socket.
  /// Asks the kernel only where the last `recv` may have left something.
  package func holdsInput() -> Bool {
    guard descriptor >= 0, deferredRead == nil, !sawEndOfFile else { return true }
    if let ssl, SSL_has_pending(ssl) == 1 { return true }
    guard mayReceive else { return false }
    var byte: UInt8 = 0
    let count = retryingInterrupted { recv(descriptor, &byte, 1, Int32(MSG_PEEK)) }
    guard count < 0, errno == EAGAIN || errno == EWOULDBLOCK else { return true }
    mayReceive = false
    return false
  }

  // MARK: reading and writing

  package func read(into buffer: UnsafeMutableRawBufferPointer) -> IOResult {
    guard let base = buffer.baseAddress, buffer.count > 0 else { return .bytes(0) }
    lastReadWouldBlock = false
    if let deferred = deferredRead {
      deferredRead = nil
      return deferred
    }
    if ssl != nil { return readTLS(into: buffer) }
    switch receive(into: base, count: buffer.count) {
    case .bytes(let count):
      return .bytes(count)
    case .wouldBlock:
      lastReadWouldBlock = true
      return .wouldBlock
    case .endOfFile:
      return .endOfFile(clean: true)
    case .error(let code):
      return .failed(failure(.read, errnoText(code)))
    }
  }

  /// After `.wouldBlock` or fewer bytes than given the caller offers the rest again, from the same byte on and at
  /// least as much of it: TLS may have put part of it into a record already.
  package func write(_ buffer: UnsafeRawBufferPointer) -> IOResult {
    guard let base = buffer.baseAddress, buffer.count > 0 else { return .bytes(0) }
    if ssl != nil { return writeTLS(buffer) }
    return writeResult(send(base, count: buffer.count))
  }

  /// Head and body of a request in one segment or record where they fit. The count covers both, the head first.
  package func write(_ head: UnsafeRawBufferPointer, _ body: UnsafeRawBufferPointer) -> IOResult {
    guard head.count > 0 else { return write(body) }
    guard body.count > 0 else { return write(head) }
    if ssl != nil { return writeTLS(head, body) }
    return writeResult(sendBoth(head, body))
  }

  private func writeResult(_ result: SocketResult) -> IOResult {
    switch result {
    case .bytes(let count): .bytes(count)
    case .wouldBlock: .wouldBlock
    case .endOfFile: .failed(failure(.internalError, "a write that ended"))
    case .error(let code): .failed(failure(.write, errnoText(code)))
    }
  }

  // MARK: what the server can have seen

  /// True only if no byte that we sent from `position` (an earlier `bytesSent`) on was acknowledged by the peer's
  /// kernel. False where the kernel cannot say. Meant for a direct connection: a proxy acknowledges for itself.
  package func isUnacknowledged(from position: UInt64) -> Bool {
    guard let start = acknowledgedAtStart, let now = Socket.bytesAcknowledged(descriptor) else { return false }
    return now <= start + position
  }

  /// True if the peer answered what we sent to its closed socket with a reset (EPIPE after its FIN): together with
  /// an end of file and `isUnacknowledged` the proof that it acted on nothing. ECONNRESET proves nothing.
  package func peerRefusedInput() -> Bool {
    if socketError == 0, descriptor >= 0 { socketError = Socket.takeError(descriptor) }
    return socketError == EPIPE
  }

  // MARK: closing

  /// Ends the connection; EPOLL_CTL_DEL comes before. `goodbye` sends close_notify if that is possible at once.
  package func close(goodbye: Bool) {
    guard descriptor >= 0 else { return }
    closeTLS(goodbye: goodbye)
    // A forked child may still hold the descriptor: shutdown() ends the connection all the same.
    Glibc.shutdown(descriptor, Int32(SHUT_RDWR))
    Descriptors.close(descriptor)
    descriptor = -1
  }

  /// Where it happened is the connection's to say, once for all that can go wrong on it.
  func failure(_ failure: Failure, _ reason: String) -> Fault { Fault(failure, reason) }

  // MARK: system calls

  enum SocketResult {
    case bytes(Int)
    case wouldBlock, endOfFile
    case error(Int32)
  }

  func receive(into base: UnsafeMutableRawPointer, count: Int) -> SocketResult {
    if sawEndOfFile { return .endOfFile }
    guard mayReceive else { return .wouldBlock }
    let received = retryingInterrupted { recv(descriptor, base, count, 0) }
    if received < 0 {
      if errno == EAGAIN || errno == EWOULDBLOCK {
        mayReceive = false
        return .wouldBlock
      }
      receiveFailed = true
      return failed(errno)
    }
    // The reset that send() told has made the kernel forget it, and recv() now tells a cut as an ordinary end.
    if received == 0 && socketError != 0 && socketError != EPIPE {
      receiveFailed = true
      return .error(socketError)
    }
    if received == 0 {
      sawEndOfFile = true
      return .endOfFile
    }
    if received < count && !hasHungUp { mayReceive = false }
    bytesReceived += UInt64(received)
    return .bytes(received)
  }

  func send(_ base: UnsafeRawPointer, count: Int) -> SocketResult {
    guard maySend else { return .wouldBlock }
    let sent = retryingInterrupted { Glibc.send(descriptor, base, count, Int32(MSG_NOSIGNAL)) }
    return noteSent(sent, of: count)
  }

  private func sendBoth(_ head: UnsafeRawBufferPointer, _ body: UnsafeRawBufferPointer) -> SocketResult {
    guard maySend else { return .wouldBlock }
    return withUnsafeTemporaryAllocation(of: iovec.self, capacity: 2) { parts in
      parts[0] = iovec(iov_base: UnsafeMutableRawPointer(mutating: head.baseAddress), iov_len: head.count)
      parts[1] = iovec(iov_base: UnsafeMutableRawPointer(mutating: body.baseAddress), iov_len: body.count)
      var message = msghdr()
      message.msg_iov = parts.baseAddress
      message.msg_iovlen = 2
      let sent = retryingInterrupted { sendmsg(descriptor, &message, Int32(MSG_NOSIGNAL)) }
      return noteSent(sent, of: head.count + body.count)
    }
  }

  private func noteSent(_ sent: Int, of count: Int) -> SocketResult {
    if sent < 0 {
      if errno == EAGAIN || errno == EWOULDBLOCK {
        maySend = false
        return .wouldBlock
      }
      return failed(errno)
    }
    // A short send has met the full socket buffer, and the kernel will make an edge when there is room.
    if sent < count { maySend = false }
    bytesSent += UInt64(sent)
    return .bytes(sent)
  }

  private func failed(_ code: Int32) -> SocketResult {
    if socketError == 0 { socketError = code }
    return .error(code)
  }

  private func retryingInterrupted(_ call: () -> Int) -> Int {
    while true {
      let result = call()
      if result >= 0 || errno != EINTR { return result }
    }
  }
}
