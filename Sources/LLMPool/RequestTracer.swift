/// Follows the requests of a pool, for spans and logs: `Pool.trace(with:)`.
public protocol RequestTracer: Sendable {
  /// A request is about to be submitted. Called on the task that calls the pool, where what is task-local is at hand,
  /// as a current span; may change the request, as to add a `traceparent`.
  ///
  /// - Returns: what follows this request; nil: nobody does.
  func begin(_ request: inout Request) -> (any RequestTrace)?
}

/// Follows one request. `ended` is called once, whatever happens; all of it in order, on the pool's thread or that of
/// the caller, and must not block.
public protocol RequestTrace: Sendable {
  /// An attempt has failed, and the request is tried again.
  func retried(_ attempt: AttemptReport)
  /// The head of an answer is here that is read as it comes.
  func opened(_ attempt: AttemptReport)
  /// The request is over.
  func ended(_ attempt: AttemptReport)
}

extension RequestTrace {
  public func retried(_ attempt: AttemptReport) {}
  public func opened(_ attempt: AttemptReport) {}
}
