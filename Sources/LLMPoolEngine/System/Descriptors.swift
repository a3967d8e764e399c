import CLLMPoolSystem
import Glibc

/// The descriptors that the library has opened, for a forked child: it must give up those that it inherits, and none
/// else. A table of plain words, which a child can walk whatever the parent was at, and where each is taken out
/// before it is closed: a number is closed once.
enum Descriptors {
  enum Kind: UInt64 {
    /// A child closes it.
    case own = 1
    /// The application waits on it: a child leaves it open, and to the application.
    case lent = 2
  }

  private static let pageSize = 4_096
  private static let pageCount = 4_096
  /// By number: the file that it means, and the kind in the lowest two bits; 0: none of ours. The file is kept because
  /// libcurl 7.88 closes sockets without a word (`DialTicket`), so that a number may be the application's by now.
  nonisolated(unsafe) private static let pages: UnsafeMutablePointer<UnsafeMutablePointer<UInt64>?> = {
    let pages = UnsafeMutablePointer<UnsafeMutablePointer<UInt64>?>.allocate(capacity: pageCount)
    pages.initialize(repeating: nil, count: pageCount)
    return pages
  }()
  private static let lock = Lock()

  /// Notes what was just opened; a negative one is nothing.
  static func note(_ descriptor: Int32, _ kind: Kind = .own) {
    let (page, index) = (Int(descriptor) / pageSize, Int(descriptor) % pageSize)
    guard descriptor >= 0, page < pageCount else { return }
    let file = lp_file(descriptor) << 2 | kind.rawValue
    lock.lock()
    defer { lock.unlock() }
    if pages[page] == nil {
      let words = UnsafeMutablePointer<UInt64>.allocate(capacity: pageSize)
      words.initialize(repeating: 0, count: pageSize)
      pages[page] = words
    }
    pages[page]![index] = file
  }

  /// It goes to somebody else, who closes it.
  static func forget(_ descriptor: Int32) {
    let (page, index) = (Int(descriptor) / pageSize, Int(descriptor) % pageSize)
    guard descriptor >= 0, page < pageCount else { return }
    lock.lock()
    defer { lock.unlock() }
    pages[page]?[index] = 0
  }

  /// Inside the gate, so that no fork comes between. Of this process: what it inherited `abandon` has dealt with.
  static func close(_ descriptor: Int32) {
    guard descriptor >= 0 else { return }
    Gate.enter()
    defer { Gate.leave() }
    forget(descriptor)
    Glibc.close(descriptor)
  }

  /// In a forked child. `inUse`: the fork came from a signal handler that has interrupted a call, which goes on here:
  /// then the numbers stay in use, and mean a descriptor that nothing can be done with.
  static func abandon(inUse: Bool) {
    let dead = inUse ? lp_eventfd() : -1
    for page in 0..<pageCount {
      guard let words = pages[page] else { continue }
      for index in 0..<pageSize where words[index] != 0 {
        let (file, kind) = (words[index] >> 2, words[index] & 3)
        let descriptor = Int32(page * pageSize + index)
        words[index] = 0
        guard lp_file(descriptor) == file else { continue }
        if inUse { lp_deaden(descriptor, dead) } else if kind == Kind.own.rawValue { Glibc.close(descriptor) }
      }
    }
    if dead >= 0 {
      lp_eventfd_signal(dead)
      Glibc.close(dead)
    }
  }
}
