import CLLMPoolSystem
import Glibc
import Synchronization

/// Gives each who connects a document, and the end of the stream: on a thread of its own, which reads nothing and waits
/// for nobody. Who is another user, is a fifth at a time, or takes too long, is dropped.
final class SnapshotListener: @unchecked Sendable {
  private static let clientLimit = 4
  private static let longest: Int64 = 2_000_000_000
  private static let pause: Int64 = 200_000_000

  private struct Client {
    var document: ArraySlice<UInt8>
    let deadline: Int64
  }

  private let directory: SnapshotDirectory
  private let socket: Int32
  private let epoll: Int32
  private let wake: Int32
  private let document: @Sendable () -> [UInt8]
  private let isStopped = Atomic<Bool>(false)
  /// By their descriptors; the thread's.
  private var clients: [Int32: Client] = [:]

  init(_ path: String, document: @escaping @Sendable () -> [UInt8]) throws(Fault) {
    self.document = document
    directory = try SnapshotDirectory(path)
    (epoll, wake) = (lp_epoll_create(), lp_eventfd())
    Descriptors.note(epoll)
    Descriptors.note(wake)
    do throws(Fault) {
      socket = try directory.listen()
    } catch {
      for descriptor in [epoll, wake] { Descriptors.close(descriptor) }
      directory.close()
      throw error
    }
    for descriptor in [socket, wake] { watch(descriptor, LP_EPOLLIN) }
    do throws(Fault) { try start() } catch {
      directory.removeSocket()
      close()
      throw error
    }
  }

  /// False: somebody has removed the socket's file, so that nobody finds it.
  var isThere: Bool { directory.hasSocket }

  /// The socket is gone when this returns; the thread ends soon after.
  func stop() {
    directory.removeSocket()
    isStopped.store(true, ordering: .relaxed)
    lp_eventfd_signal(wake)
  }

  private func start() throws(Fault) {
    guard epoll >= 0, wake >= 0 else { throw Fault(.outOfMemory, "no descriptors for a socket to look in") }
    var thread = pthread_t()
    let result = startThread(&thread, "llmpool-stats") {
      Gate.enter()
      self.run()
      self.close()
      Gate.leave()
    }
    guard result == 0 else { throw Fault(.outOfMemory, "no thread for a socket to look in: \(errnoText(result))") }
    pthread_detach(thread)
  }

  private func close() {
    for descriptor in clients.keys { Descriptors.close(descriptor) }
    for descriptor in [socket, epoll, wake] { Descriptors.close(descriptor) }
    directory.close()
  }

  // MARK: The thread

  private func run() {
    while true {
      let due = clients.values.map(\.deadline).min()
      _ = Gate.sleep(readable: epoll, due.map { max(0, $0 - monotonicNow()) } ?? -1)
      guard !isStopped.load(ordering: .relaxed) else { return }
      for descriptor in ready() {
        if descriptor == socket { accept() } else { send(descriptor) }
      }
      let now = monotonicNow()
      for (descriptor, client) in clients where client.deadline <= now { drop(descriptor) }
    }
  }

  private func ready() -> [Int32] {
    let capacity = SnapshotListener.clientLimit + 2
    return withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: capacity) { events in
      let count = epoll_wait(epoll, events.baseAddress!, Int32(capacity), 0)
      return (0..<max(0, Int(count))).map { Int32(lp_epoll_tag(&events[$0])) }
    }
  }

  private func accept() {
    let client = lp_unix_accept(socket)
    // Without descriptors the socket would stay readable, and this thread go round: it looks again a little later.
    guard client >= 0 else { return errno == EAGAIN ? () : rest() }
    Descriptors.note(client)
    guard clients.count < SnapshotListener.clientLimit, lp_unix_may_read(client) == 1 else {
      return Descriptors.close(client)
    }
    clients[client] = Client(document: document()[...], deadline: monotonicNow() + SnapshotListener.longest)
    watch(client, LP_EPOLLOUT)
  }

  private func rest() { _ = Gate.sleep(readable: wake, SnapshotListener.pause) }

  private func send(_ descriptor: Int32) {
    guard let client = clients[descriptor] else { return }
    let sent = client.document.withUnsafeBytes {
      Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
    }
    if sent < 0, errno == EAGAIN || errno == EINTR { return }
    clients[descriptor]?.document = client.document.dropFirst(max(0, sent))
    if sent < 0 || sent == client.document.count { drop(descriptor) }
  }

  private func drop(_ descriptor: Int32) {
    clients[descriptor] = nil
    Descriptors.close(descriptor)
  }

  private func watch(_ descriptor: Int32, _ events: UInt32) {
    _ = lp_epoll_control(epoll, EPOLL_CTL_ADD, descriptor, events, UInt64(descriptor))
  }
}
