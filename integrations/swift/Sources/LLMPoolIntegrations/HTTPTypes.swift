import HTTPTypes
import LLMPool

/// A part is missing without which there is no URL.
public struct IncompleteRequest: Error, CustomStringConvertible {
  /// "scheme", "authority" or "path".
  public let part: String
  public var description: String { "\(part): expected one, as the request has no URL without it" }
}

extension Request {
  /// - Throws: `IncompleteRequest`, where it has no scheme, authority or path.
  public init(_ request: HTTPRequest, body: [UInt8] = []) throws {
    guard let scheme = request.scheme else { throw IncompleteRequest(part: "scheme") }
    guard let authority = request.authority else { throw IncompleteRequest(part: "authority") }
    guard let path = request.path else { throw IncompleteRequest(part: "path") }
    self.init(
      method: request.method.rawValue, url: "\(scheme)://\(authority)\(path)", headers: Headers(request.headerFields),
      body: body)
  }
}

extension Headers {
  public init(_ fields: HTTPFields) {
    self.init()
    for field in fields { append(field.name.rawName, field.value) }
  }
}

extension HTTPFields {
  public init(_ headers: Headers) {
    self.init()
    for (name, value) in headers {
      if let name = HTTPField.Name(name) { append(HTTPField(name: name, value: value)) }
    }
  }
}

extension HTTPResponse {
  public init(_ response: Response) {
    self.init(status: Status(code: response.status), headerFields: HTTPFields(response.headers))
  }

  public init(_ head: Event.Head) {
    self.init(status: Status(code: head.status), headerFields: HTTPFields(head.headers))
  }
}

extension Pool {
  /// As `send(_:)`.
  public func send(_ request: HTTPRequest, body: [UInt8] = []) async throws -> (HTTPResponse, body: [UInt8]) {
    let response = try await send(Request(request, body: body))
    return (HTTPResponse(response), response.body)
  }
}
