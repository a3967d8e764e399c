import CLLMPoolSystem
import Glibc

/// The directory in which each process of a user has a socket to look in, named after its number. Nobody else may put
/// anything there, or could look in where a socket is made a moment before its mode.
struct SnapshotDirectory {
  let path: String
  private let descriptor: Int32
  private static let ending = ".sock"
  /// Seconds.
  private static let fresh: Int32 = 5
  private var name: String { "\(getpid())\(SnapshotDirectory.ending)" }

  /// Made where it is not there, but not what it lies in.
  init(_ path: String) throws(Fault) {
    self.path = path
    if mkdir(path, 0o700) != 0, errno != EEXIST { throw SnapshotDirectory.failure("cannot make \(path)", errno) }
    descriptor = lp_open_directory(path)
    guard descriptor >= 0 else { throw SnapshotDirectory.failure("\(path) is no directory that can be read", errno) }
    Descriptors.note(descriptor)
    do throws(Fault) { try checkOwner() } catch {
      close()
      throw error
    }
  }

  private func checkOwner() throws(Fault) {
    var about = stat()
    guard fstat(descriptor, &about) == 0 else { throw SnapshotDirectory.failure("cannot look at \(path)", errno) }
    guard about.st_uid == geteuid() else {
      throw Fault(.invalidArgument, "directory: \(path) belongs to user \(about.st_uid), not to \(geteuid())")
    }
    guard about.st_mode & 0o022 == 0 else {
      let mode = String(about.st_mode & 0o777, radix: 8)
      throw Fault(.invalidArgument, "directory: others may write to \(path) (mode \(mode)); expected 700")
    }
  }

  /// A descriptor that listens. What processes have left there that ended without a word goes, but nothing that is new:
  /// somebody may be beginning or ending there.
  func listen() throws(Fault) -> Int32 {
    // By which names in an open directory are reached, however long its path is.
    guard access("/proc/self/fd", F_OK) == 0 else {
      throw Fault(.invalidArgument, "directory: a socket in \(path) needs /proc, which is not mounted")
    }
    for name in names where !isServed(name) && lp_is_older(descriptor, name, SnapshotDirectory.fresh) == 1 {
      unlinkat(descriptor, name, 0)
    }
    guard lp_unix_is_served(descriptor, name) == 0 else {
      throw Fault(.invalidArgument, "directory: another process \(getpid()), of a container, is shown in \(path)")
    }
    let socket = lp_unix_socket()
    guard socket >= 0 else { throw SnapshotDirectory.failure("no socket", errno) }
    Descriptors.note(socket)
    if lp_unix_listen(socket, descriptor, name, ".\(getpid()).new", 4) == 0 { return socket }
    let reason = errno
    Descriptors.close(socket)
    throw SnapshotDirectory.failure("cannot listen in \(path)", reason)
  }

  /// The sockets of processes.
  private var names: [String] {
    directoryNames("/proc/self/fd/\(descriptor)").filter { name in
      name.hasSuffix(SnapshotDirectory.ending) && Int32(name.dropLast(SnapshotDirectory.ending.count)) != nil
    }
  }

  private func isServed(_ name: String) -> Bool { lp_unix_is_served(descriptor, name) == 1 }

  /// Nobody has removed it from outside.
  var hasSocket: Bool { isServed(name) }

  /// Of this process.
  func removeSocket() { unlinkat(descriptor, name, 0) }

  func close() { Descriptors.close(descriptor) }

  private static func failure(_ what: String, _ code: Int32) -> Fault {
    Fault(.invalidArgument, "directory: \(what): \(errnoText(code))")
  }
}
