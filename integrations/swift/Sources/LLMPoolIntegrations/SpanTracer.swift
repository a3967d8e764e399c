import FoundationEssentials
import LLMPool
import Synchronization
import Tracing

/// A span for each attempt of a request, with the names that OpenTelemetry has for HTTP clients; the context of the
/// first goes out in the request's headers: `pool.trace(with: SpanTracer())`. Neither the path of a URL nor any header
/// is recorded.
public struct SpanTracer: RequestTracer {
  private let tracer: (any Tracer)?

  /// - Parameter tracer: nil: that of `InstrumentationSystem`.
  public init(_ tracer: (any Tracer)? = nil) { self.tracer = tracer }

  public func begin(_ request: inout Request) -> (any RequestTrace)? {
    let tracer = tracer ?? InstrumentationSystem.tracer
    let trace = SpanTrace(request, tracer)
    tracer.inject(trace.context, into: &request.headers, using: HeaderInjector())
    return trace
  }
}

private struct HeaderInjector: Injector {
  func inject(_ value: String, forKey key: String, into headers: inout Headers) { headers[key] = value }
}

private final class SpanTrace: RequestTrace {
  private let method: String
  private let url: URLComponents?
  private let tracer: any Tracer
  private let above = ServiceContext.current ?? .topLevel
  private let span: Mutex<(any Span)?> = Mutex(nil)

  init(_ request: Request, _ tracer: any Tracer) {
    method = request.method ?? (request.body.isEmpty ? "GET" : "POST")
    url = URLComponents(string: request.url)
    self.tracer = tracer
    start(resend: 0)
  }

  var context: ServiceContext { span.withLock { $0?.context } ?? above }

  func retried(_ attempt: AttemptReport) {
    end(attempt)
    start(resend: max(1, attempt.number))
  }

  func ended(_ attempt: AttemptReport) { end(attempt) }

  private func start(resend: Int) {
    let span = tracer.startSpan(method, context: above, ofKind: .client)
    span.attributes["http.request.method"] = method
    if let scheme = url?.scheme { span.attributes["url.scheme"] = scheme }
    if let host = url?.host { span.attributes["server.address"] = host }
    if let port = url?.port ?? (url?.scheme == "https" ? 443 : 80) as Int? { span.attributes["server.port"] = port }
    if resend > 0 { span.attributes["http.request.resend_count"] = resend }
    self.span.withLock { $0 = span }
  }

  private func end(_ attempt: AttemptReport) {
    guard let span = span.withLock({ $0 }) else { return }
    if let status = attempt.status {
      span.attributes["http.response.status_code"] = status
      if status >= 400 { fail(span, "\(status)") }
    }
    if let id = attempt.providerRequestID { span.attributes["llmpool.request_id"] = id }
    if let colon = attempt.peer.lastIndex(of: ":") {
      span.attributes["network.peer.address"] = String(attempt.peer[..<colon])
      span.attributes["network.peer.port"] = Int(attempt.peer[colon...].dropFirst())
    }
    if let error = attempt.error {
      span.recordError(error)
      fail(span, (error as? PoolError)?.name ?? "\(type(of: error))")
    } else if let reason = attempt.reason, attempt.status == nil {
      fail(span, reason)
    }
    span.end()
  }

  private func fail(_ span: any Span, _ type: String) {
    span.attributes["error.type"] = type
    span.setStatus(SpanStatus(code: .error))
  }
}
