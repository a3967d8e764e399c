import CLLMPoolSystem

enum Libraries {
  /// Initialises OpenSSL and libcurl once per process, in this order: libcurl would initialise OpenSSL with an atexit
  /// handler that frees OpenSSL's state under the feet of the engine thread when a process exits with requests
  /// in flight.
  static let initialized: Bool = {
    let ssl = OPENSSL_init_ssl(UInt64(OPENSSL_INIT_NO_ATEXIT), nil)
    return ssl == 1 && curl_global_init(Int(CURL_GLOBAL_NOTHING)) == CURLE_OK
  }()
}
