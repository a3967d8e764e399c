/// A refusal that no waiting mends: the account has spent what it may. OpenAI answers 429 to it, as to a rate that is
/// too high, and says only in the body which of the two it is: `{"error": {..., "code": "insufficient_quota"}}`.
public enum SpentQuota {
  /// So much of a body is looked at.
  public static let reach = 4_096
  private static let code: StaticString = "\"insufficient_quota\""

  /// Whether a body with these headers may say so: it is JSON that can be read as it comes.
  public static func mayBeNamed(behind headers: UnsafeRawBufferPointer) -> Bool {
    HeaderBlock.kind(headers) == .document && HeaderBlock.value(of: "content-encoding", in: headers) == nil
  }

  public static func isNamed(in body: UnsafeRawBufferPointer) -> Bool {
    let code = UnsafeRawBufferPointer(start: code.utf8Start, count: code.utf8CodeUnitCount)
    var rest = body.prefix(reach)
    while let start = rest.firstIndex(of: code[0]) {
      rest = rest[start...]
      if rest.starts(with: code) { return true }
      rest = rest.dropFirst()
    }
    return false
  }
}
