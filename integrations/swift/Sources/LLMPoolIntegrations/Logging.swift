import LLMPool
import Logging

extension Pool {
  /// Logs what the pool tells, by the levels and with the fields, as metadata, that docs/monitoring.md lists. Returns
  /// when the pool is closed or the task is cancelled.
  ///
  /// - Throws: `PoolError`, where the pool is closed already.
  public func log(to logger: Logger) async throws {
    for await notice in try notices() {
      var metadata: Logger.Metadata = [:]
      for (name, value) in notice.fields { metadata[name] = "\(value)" }
      if let id = notice.requestID { metadata["request"] = "\(id)" }
      if let id = notice.connectionID { metadata["connection"] = "\(id)" }
      logger.log(level: notice.level, "\(notice.message)", metadata: metadata)
    }
  }
}

extension Notice {
  var level: Logger.Level {
    switch kind {
    case .connectionOpened: .debug
    case .breakerOpened, .budgetStopped: .warning
    default: .info
    }
  }
}
