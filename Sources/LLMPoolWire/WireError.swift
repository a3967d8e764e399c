/// What was wrong with bytes that were to be sent or that were received.
///
/// A trivial value: making, copying and dropping one costs neither an allocation nor a retain. The text is put
/// together only when `message` is asked for. It may hold a header's name, never its value: values are secrets.
public struct WireError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The part of a request, an answer or a stream that was refused.
  public enum Field: UInt8, Sendable, CaseIterable {
    case url, method, headers, head, statusLine, contentLength, transferEncoding, body, chunk, trailer, event
  }

  public let field: Field
  /// Which header line was refused, counted from 1; 0 where the error is about no particular line.
  public let line: Int

  let text: StaticString
  let name: ShortName
  let first: UInt64
  let second: UInt64

  /// - Parameter text: for people; `{1}` and `{2}` stand for the two numbers.
  init(
    _ field: Field, _ text: StaticString, _ first: UInt64 = 0, _ second: UInt64 = 0, line: Int = 0,
    name: ShortName = ShortName()
  ) {
    self.field = field
    self.text = text
    self.first = first
    self.second = second
    self.line = line
    self.name = name
  }

  /// What was wrong and what was expected, in English, for people.
  public var message: String {
    var message = ""
    if line > 0 {
      message += field == .trailer ? "trailer line \(line)" : "header line \(line)"
      let name = self.name.description
      message += name.isEmpty ? ": " : " (\(name)): "
    }
    var isPlaceholder = false
    for scalar in text.description.unicodeScalars {
      switch (isPlaceholder, scalar) {
      case (false, "{"): isPlaceholder = true
      case (true, "1"): message += "\(first)"
      case (true, "2"): message += "\(second)"
      case (true, "}"): isPlaceholder = false
      default: message.unicodeScalars.append(scalar)
      }
    }
    return message
  }

  public var description: String { "\(field): \(message)" }

  public static func == (left: WireError, right: WireError) -> Bool {
    left.field == right.field && left.message == right.message
  }
}

/// How an answer or a stream failed; it decides which status the application sees.
public enum FailureKind: UInt8, Sendable {
  /// The peer broke the protocol: E_PROTOCOL.
  case protocolViolation
  /// A limit was passed: E_TOO_LARGE.
  case tooLarge
  /// Memory was refused: E_OUT_OF_MEMORY.
  case outOfMemory
  /// The connection ended before the answer was complete: E_READ.
  case truncated
}
