import LLMPoolWire

// Bytes from servers and applications into the codecs. The first byte says into which; the second, how the rest is cut
// into pieces, which must make no difference.

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
  guard size >= 2 else { return 0 }
  let input = UnsafeRawBufferPointer(start: data + 2, count: size - 2)
  let step = max(1, Int(data[1]))
  switch data[0] % 5 {
  case 0, 1:
    let isHEAD = data[0] % 5 == 1
    let whole = answers(input, step: max(1, input.count), isHEAD: isHEAD)
    precondition(answers(input, step: step, isHEAD: isHEAD) == whole, "the pieces changed the answer")
  case 2: fuzzURL(input)
  case 3: fuzzHeaders(input)
  default:
    let whole = events(input, step: max(1, input.count))
    precondition(events(input, step: step) == whole, "the pieces changed the events")
  }
  return 0
}

/// What the parser makes of the input, bodies joined.
private func answers(_ input: UnsafeRawBufferPointer, step: Int, isHEAD: Bool) -> [String] {
  var parser = ResponseParser()
  parser.reset(requestMethodIsHEAD: isHEAD)
  var result: [String] = []
  var body: [UInt8] = []
  var start = 0
  while start < input.count {
    var piece = UnsafeRawBufferPointer(rebasing: input[start..<min(input.count, start + step)])
    start += piece.count
    while true {
      let next = parser.next(piece)
      precondition(next.consumed <= piece.count)
      switch next.event {
      case .interim(let status): result.append("interim \(status)")
      case .head(let head):
        result.append("head \(head.status) \(head.framing) \(String(decoding: head.headers, as: UTF8.self))")
      case .body(let start, let count): body += piece[start..<start + count]
      case .end: return result + ["end \(body)"]
      case .failed(let error, let kind): return result + ["failed \(kind) \(error.message) \(body)"]
      case .needMore: break
      }
      piece = UnsafeRawBufferPointer(rebasing: piece[next.consumed...])
      if case .needMore = next.event { break }
    }
  }
  return result + ["\(parser.endOfInput())".prefix(40) + " \(body)"]
}

private func events(_ input: UnsafeRawBufferPointer, step: Int) -> [String] {
  var parser = SSEParser(maximumEventBytes: 4_096)
  var result: [String] = []
  var credit = 0
  var start = 0
  while start < input.count {
    var piece = UnsafeRawBufferPointer(rebasing: input[start..<min(input.count, start + step)])
    start += piece.count
    while true {
      let next = parser.next(piece)
      switch next.event {
      case .event(let event):
        credit += event.credit
        let parts = [event.event, event.id, event.data].map { String(decoding: $0, as: UTF8.self) }
        result.append("\(parts) \(event.retryMilliseconds ?? 0)")
      case .failed(_, let kind): return result + ["failed \(kind)"]
      case .needMore: break
      }
      piece = UnsafeRawBufferPointer(rebasing: piece[next.consumed...])
      if case .needMore = next.event { break }
    }
  }
  precondition(credit + parser.pendingCredit == input.count, "bytes without credit")
  return result
}

private func fuzzURL(_ input: UnsafeRawBufferPointer) {
  guard let parts = try? URLParts.parse(input) else { return }
  var out = ByteBuffer()
  out.didWrite(parts.writeOrigin(of: input, to: out.writable(parts.originRoom)))
  precondition(parts.hostRange.upperBound <= input.count && parts.targetRange.upperBound <= input.count)
  // What was accepted is accepted again, and means the same.
  let again = try? URLParts.parse(out.readable)
  precondition(again?.port == parts.port && again?.isTLS == parts.isTLS)
}

private func fuzzHeaders(_ input: UnsafeRawBufferPointer) {
  var fields: [HeaderField] = []
  guard let summary = try? HeaderBlock.validate(input, into: &fields) else { return }
  for field in fields {
    precondition(field.valueRange.upperBound <= input.count)
    precondition(!input[field.valueRange].contains { $0 == 0x0D || $0 == 0x0A || $0 == 0 })
  }
  let text: StaticString = "h"
  let bytes = UnsafeRawBufferPointer(start: text.utf8Start, count: 1)
  fields.withUnsafeBufferPointer { fields in
    var out = ByteBuffer()
    RequestWriter.appendHead(
      RequestHead(
        method: bytes, target: bytes, targetNeedsSlash: true, authority: bytes, block: input, fields: fields,
        summary: summary, framing: .none), to: &out)
    precondition(!out.isEmpty)
  }
}
