import CLLMPoolSystem
import Glibc
import LLMPoolWire

/// The system's CA store where it is one file, read certificate by certificate. As OpenSSL's
/// `SSL_CTX_set_default_verify_file` does at once; with 25 ms for a usual bundle, within which nobody could fork.
struct SystemAuthorities: ~Copyable {
  private static let sizeLimit = 1 << 26
  private var bytes: ByteBuffer
  private var bio: OpaquePointer?

  /// SSL_CERT_FILE, or where OpenSSL was built to look.
  static var path: String {
    if let named = lp_secure_getenv(X509_get_default_cert_file_env()) { return String(cString: named) }
    return String(cString: X509_get_default_cert_file())
  }

  /// SSL_CERT_DIR, or where OpenSSL was built to look: one directory, or several with colons between.
  private static var directories: String {
    if let named = lp_secure_getenv(X509_get_default_cert_dir_env()) { return String(cString: named) }
    return String(cString: X509_get_default_cert_dir())
  }

  /// For a person whose system has no certificate in the file, and none in the directories either; else nil.
  static func absence(file: String) -> String? {
    let directories = directories
    guard !directories.split(separator: ":").contains(where: { hasCertificate(String($0)) }) else { return nil }
    return "; there is no CA certificate on this system, neither in the file \(file) nor in the directory "
      + "\(directories): install ca-certificates, or name a file with ca_file or SSL_CERT_FILE"
  }

  /// OpenSSL finds certificates by links named "5ed36f99.0" after the hash of their subject.
  private static func hasCertificate(_ path: String) -> Bool {
    guard let directory = opendir(path) else { return false }
    defer { closedir(directory) }
    while let entry = readdir(directory) {
      let isHashed = withUnsafeBytes(of: &entry.pointee.d_name) { name in
        name[8] == UInt8(ascii: ".") && name[..<8].allSatisfy { $0 &- 0x30 < 10 || $0 &- 0x61 < 6 }
      }
      if isHashed { return true }
    }
    return false
  }

  /// Reads the file, without OpenSSL. One that is not there holds nothing and is no error.
  init(path: String) {
    bytes = ByteBuffer()
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    while bytes.count < SystemAuthorities.sizeLimit {
      let room = bytes.writable(1 << 18)
      let count = read(descriptor, room.baseAddress, room.count)
      guard count > 0 else { break }
      bytes.didWrite(count)
    }
    close(descriptor)
  }

  /// Adds the next certificate to the context; false after the last, when nothing is left in OpenSSL to be freed.
  mutating func addNext(to context: OpaquePointer) -> Bool {
    guard !bytes.isEmpty else { return false }
    if bio == nil { bio = BIO_new_mem_buf(bytes.readable.baseAddress, Int32(bytes.count)) }
    // No password is asked for on the terminal of the process.
    if let certificate = PEM_read_bio_X509_AUX(bio, nil, { _, _, _, _ in -1 }, nil) {
      X509_STORE_add_cert(SSL_CTX_get_cert_store(context), certificate)
      X509_free(certificate)
      return true
    }
    BIO_free(bio)
    bio = nil
    ERR_clear_error()
    return false
  }

  /// Gives up before the end.
  mutating func abandon() {
    BIO_free(bio)
    bio = nil
  }
}
