import CLLMPoolSystem
import Glibc

/// Which sockets of one dial are still libcurl's to close.
///
/// libcurl calls the close-socket callback with the data of the easy handle that opened the socket, also after that
/// handle is gone, when it prunes its connection cache. Hence an object that lives until libcurl has closed all that
/// it opened; and hence one per dial: by then the number of a descriptor that was handed over may have been closed by
/// its new owner and used again by another dial.
///
/// libcurl 7.88 closes the sockets of addresses that did not answer without that callback (and without taking them
/// out of the epoll set first). So a number may mean something else by the time we look; the inode tells.
final class DialTicket {
  private unowned let dialer: Dialer
  private var open: [Int32: ino_t] = [:]
  private var handedOver: Int32 = -1
  private var isFinished = false
  private var isRetained = false
  /// Why the last socket could not be opened.
  private(set) var openError: Int32 = 0

  init(dialer: Dialer) {
    self.dialer = dialer
  }

  /// The pointer that libcurl gets. It counts as a reference until `finish` was called and everything was closed.
  func retainedPointer() -> UnsafeMutableRawPointer {
    isRetained = true
    return Unmanaged.passRetained(self).toOpaque()
  }

  /// From here on libcurl's closing of this descriptor closes nothing.
  func handOver(_ descriptor: Int32) {
    handedOver = descriptor
  }

  /// The easy handle is gone.
  func finish() {
    isFinished = true
    open = open.filter { Self.inode($0.key) == $0.value }
    releaseIfDone()
  }

  private func releaseIfDone() {
    guard isFinished, isRetained, open.isEmpty else { return }
    isRetained = false
    Unmanaged.passUnretained(self).release()
  }

  private static func inode(_ descriptor: Int32) -> ino_t? {
    var information = stat()
    return fstat(descriptor, &information) == 0 ? information.st_ino : nil
  }

  /// CURLOPT_OPENSOCKETFUNCTION
  static let openSocket: curl_opensocket_callback = { data, _, address in
    guard let data, let address else { return -1 }
    let ticket = Unmanaged<DialTicket>.fromOpaque(data).takeUnretainedValue()
    let kind = address.pointee.socktype | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
    let descriptor = socket(address.pointee.family, kind, address.pointee.protocol)
    if descriptor < 0 {
      ticket.openError = errno
    } else {
      ticket.open[descriptor] = inode(descriptor)
      Descriptors.note(descriptor)
      ticket.dialer.renewWatch(descriptor)
    }
    return descriptor
  }

  /// CURLOPT_CLOSESOCKETFUNCTION
  static let closeSocket: curl_closesocket_callback = { data, descriptor in
    guard let data else { return 0 }
    let ticket = Unmanaged<DialTicket>.fromOpaque(data).takeUnretainedValue()
    ticket.open[descriptor] = nil
    if descriptor == ticket.handedOver {
      ticket.handedOver = -1
    } else {
      ticket.dialer.forget(descriptor)
      Glibc.shutdown(descriptor, Int32(SHUT_RDWR))
      Descriptors.close(descriptor)
    }
    ticket.releaseIfDone()
    return 0
  }
}
