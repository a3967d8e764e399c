import CLLMPoolSystem

/// OpenSSL's errors as text for people.
enum TLSReason {
  /// "certificate verify failed": of one error code.
  static func text(_ error: UInt) -> String {
    guard let reason = ERR_reason_error_string(error) else { return "OpenSSL error \(error)" }
    return String(cString: reason)
  }

  /// Of the first error in this thread's queue, which it empties.
  static func takeText() -> String {
    let error = ERR_get_error()
    ERR_clear_error()
    return error == 0 ? "no reason given" : text(error)
  }

  /// Why a certificate was refused, with what helps to find the culprit: "certificate has expired on Jan  1 00:00:00
  /// 2024 GMT; subject CN=api.example.com, issuer CN=Some CA".
  static func verifyText(_ store: OpaquePointer) -> String {
    let code = X509_STORE_CTX_get_error(store)
    var text = String(cString: X509_verify_cert_error_string(Int(code)))
    guard let certificate = X509_STORE_CTX_get_current_cert(store) else { return text }
    switch code {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      text += " on " + printed { ASN1_TIME_print($0, X509_get0_notAfter(certificate)) }
    case X509_V_ERR_CERT_NOT_YET_VALID:
      text += " before " + printed { ASN1_TIME_print($0, X509_get0_notBefore(certificate)) }
    case X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH:
      text += "; the certificate is for " + alternativeNames(certificate)
    default:
      break
    }
    let subject = printedName(X509_get_subject_name(certificate))
    let issuer = printedName(X509_get_issuer_name(certificate))
    return "\(text); subject \(subject), issuer \(issuer)"
  }

  private static func alternativeNames(_ certificate: OpaquePointer) -> String {
    let position = X509_get_ext_by_NID(certificate, NID_subject_alt_name, -1)
    guard position >= 0, let extensionFound = X509_get_ext(certificate, position) else {
      return "no host: it has no subjectAltName, and its CN does not count (RFC 9525)"
    }
    return printed { X509V3_EXT_print($0, extensionFound, 0, 0) }
  }

  private static func printedName(_ name: OpaquePointer?) -> String {
    guard let name else { return "(none)" }
    let text = printed { lp_name_print($0, name) }
    return text.isEmpty ? "(empty)" : text
  }

  /// What OpenSSL prints, at most 300 bytes: a certificate may name hundreds of hosts. A peer chose these bytes, so
  /// control characters do not reach a log.
  private static func printed(_ print: (OpaquePointer) -> Int32) -> String {
    guard let memory = BIO_new(BIO_s_mem()) else { return "" }
    defer { BIO_free(memory) }
    _ = print(memory)
    return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 300) { buffer in
      let count = Int(BIO_read(memory, buffer.baseAddress, Int32(buffer.count)))
      guard count > 0 else { return "" }
      let cleaned = buffer[..<count].map { $0 < 0x20 || $0 == 0x7f ? UInt8(ascii: "?") : $0 }
      return String(decoding: cleaned, as: UTF8.self) + (count == buffer.count ? "..." : "")
    }
  }
}
