import LLMPoolCore

/// What other threads ask of the engine.
enum Message {
  case submit(Unmanaged<RequestState>)  // in `live` until the engine has ended it
  case cancel(RequestID)
  /// `records`: memory of event records that was given back.
  case credit(RequestID, Int, records: Int)
  case queueClosed(CompletionQueue)
  /// By reference: the messages of every request are as large as the largest kind.
  case configure(Configuration)
  case configureBudget(BudgetConfiguration)
  case share(BudgetSharing)
  case grant(BudgetGrant)
  /// The request may be over.
  case settle(RequestID, input: Int64, output: Int64)
  case warm(RequestState, connections: Int)
  case watch(Watcher)
  /// Pieces of its body are there to be sent.
  case written(RequestID)
  case lookedUp(LookupResult)
  /// Of the context with this identity.
  case authoritiesRead(ObjectIdentifier)
  case close(deadline: Int64)
}
