import Glibc

/// A file that an option names. It may lie on a file system that answers late, or be a pipe: nobody who forks waits for
/// it, so it is opened and read outside the gate. Read once: a pipe cannot be read again.
enum NamedFile {
  private static let sizeLimit = 1 << 26

  /// `field` is the option, for the message.
  static func read(_ path: String, field: String) throws(Fault) -> [UInt8] {
    let (descriptor, openError) = Gate.outside { () -> (Int32, Int32) in
      while true {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        if descriptor >= 0 || errno != EINTR { return (descriptor, errno) }
      }
    }
    guard descriptor >= 0 else { throw failure(field, "cannot read \(path): \(errnoText(openError))") }
    Descriptors.note(descriptor)
    defer { Descriptors.close(descriptor) }
    let (bytes, readError) = Gate.outside { contents(descriptor) }
    guard readError == 0 else {
      let reason = readError == EISDIR ? "is a directory" : "cannot be read: \(errnoText(readError))"
      throw failure(field, "\(path) \(reason)")
    }
    guard bytes.count <= sizeLimit else { throw failure(field, "\(path) is larger than \(sizeLimit) bytes") }
    return bytes
  }

  /// One that is looked into later.
  static func checkDirectory(_ path: String, field: String) throws(Fault) {
    let error = Gate.outside { () -> Int32 in
      guard let directory = opendir(path) else { return errno }
      closedir(directory)
      return 0
    }
    guard error == 0 else { throw failure(field, "cannot read \(path): \(errnoText(error))") }
  }

  private static func failure(_ field: String, _ reason: String) -> Fault {
    Fault(.invalidArgument, "\(field): \(reason)")
  }

  /// What is in it, and an errno; one piece more than the limit where that is exceeded.
  private static func contents(_ descriptor: Int32) -> ([UInt8], Int32) {
    var bytes: [UInt8] = []
    var error: Int32 = 0
    withUnsafeTemporaryAllocation(byteCount: 16_384, alignment: 16) { buffer in
      while bytes.count <= sizeLimit {
        let count = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
        if count < 0, errno == EINTR { continue }
        if count < 0 { error = errno }
        guard count > 0 else { return }
        bytes.append(contentsOf: UnsafeRawBufferPointer(rebasing: buffer[..<count]))
      }
    }
    return (bytes, error)
  }
}
