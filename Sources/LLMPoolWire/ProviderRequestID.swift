/// By which a provider knows an answer, among its headers.
public enum ProviderRequestID {
  /// Longer ones, and such as could forge the end of a line, are none.
  private static let longest = 200

  public static func text(in block: UnsafeRawBufferPointer) -> String? {
    (plain("x-request-id", in: block) ?? plain("request-id", in: block)).map { String(decoding: $0, as: UTF8.self) }
  }

  private static func plain(_ name: StaticString, in block: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    guard let value = HeaderBlock.value(of: name, in: block), (1...longest).contains(value.count),
      value.allSatisfy({ $0 > 0x20 && $0 < 0x7F })
    else { return nil }
    return value
  }
}
