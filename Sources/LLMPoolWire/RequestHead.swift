/// What the head of an HTTP/1.1 request is made of. Everything in it was validated before: the method by
/// `RequestWriter.validateMethod`, target and authority by `URLParts.parse`, the block by `HeaderBlock.validate`.
public struct RequestHead {
  public var method: UnsafeRawBufferPointer
  /// `URLParts.targetRange` of the URL.
  public var target: UnsafeRawBufferPointer
  /// `URLParts.targetNeedsSlash`.
  public var targetNeedsSlash: Bool
  /// What `URLParts.writeAuthority` wrote.
  public var authority: UnsafeRawBufferPointer
  /// To a plain proxy the request line carries "http://authority/path" (RFC 9112 section 3.2.2).
  public var usesAbsoluteForm = false
  public var block: UnsafeRawBufferPointer
  public var fields: UnsafeBufferPointer<HeaderField>
  public var summary: HeaderSummary
  public var framing: BodyFraming
  /// Lines of the library, each ended by CR LF, sent before the fields: `Proxy-Authorization`.
  public var extraLines = UnsafeRawBufferPointer(start: nil, count: 0)

  public init(
    method: UnsafeRawBufferPointer, target: UnsafeRawBufferPointer, targetNeedsSlash: Bool,
    authority: UnsafeRawBufferPointer, block: UnsafeRawBufferPointer, fields: UnsafeBufferPointer<HeaderField>,
    summary: HeaderSummary, framing: BodyFraming
  ) {
    self.method = method
    self.target = target
    self.targetNeedsSlash = targetNeedsSlash
    self.authority = authority
    self.block = block
    self.fields = fields
    self.summary = summary
    self.framing = framing
  }
}
