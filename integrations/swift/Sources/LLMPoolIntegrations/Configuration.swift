import Configuration
import LLMPool

extension Pool.Options {
  /// By the names of the options: `maxConnections`, `connectTimeout`, `caFile`, which are `MAX_CONNECTIONS` and so on
  /// in the environment. Limits and counts are numbers, and times seconds; 0 is no limit, and for ever. What is not
  /// there is as in a new pool.
  ///
  /// - Parameter config: as a rule scoped: `config.scoped(to: "llmpool")`.
  public init(_ config: ConfigReader) {
    self.init()
    for (key, path) in Pool.Options.limits {
      if let limit = config.int(forKey: key) { self[keyPath: path] = limit == 0 ? nil : limit }
    }
    for (key, path) in Pool.Options.counts {
      if let count = config.int(forKey: key) { self[keyPath: path] = count }
    }
    for (key, path) in Pool.Options.times {
      if let seconds = config.double(forKey: key) { self[keyPath: path] = seconds == 0 ? nil : .seconds(seconds) }
    }
    for (key, path) in Pool.Options.texts {
      // A proxy's address may have a password.
      if let text = config.string(forKey: key, isSecret: true) { self[keyPath: path] = text }
    }
  }

  private typealias Path<Value> = WritableKeyPath<Pool.Options, Value> & Sendable

  private static let limits: [(ConfigKey, Path<Int?>)] = [
    ("maxConnections", \.maxConnections), ("maxConnectionsPerOrigin", \.maxConnectionsPerOrigin),
    ("maxKeepaliveConnections", \.maxKeepaliveConnections), ("maxStreamsPerConnection", \.maxStreamsPerConnection),
    ("maxPendingRequests", \.maxPendingRequests),
  ]
  private static let counts: [(ConfigKey, Path<Int>)] = [
    ("maxRetries", \.maxRetries), ("breakerFailures", \.breakerFailures), ("hedgePercent", \.hedgePercent),
    ("streamWindow", \.streamWindow), ("maxEventBytes", \.maxEventBytes),
    ("utilizationWarning", \.utilizationWarning),
  ]
  private static let times: [(ConfigKey, Path<Duration?>)] = [
    ("connectTimeout", \.timeouts.connect), ("readTimeout", \.timeouts.read), ("writeTimeout", \.timeouts.write),
    ("poolTimeout", \.timeouts.pool), ("budgetTimeout", \.timeouts.budget),
    ("firstByteTimeout", \.timeouts.firstByte), ("totalTimeout", \.timeouts.total),
    ("eventTimeout", \.timeouts.event), ("keepaliveExpiry", \.keepaliveExpiry),
    ("maxConnectionAge", \.maxConnectionAge), ("pingInterval", \.pingInterval), ("tcpKeepalive", \.tcpKeepalive),
    ("retryAfterMax", \.retryAfterMax),
  ]
  private static let texts: [(ConfigKey, Path<String?>)] = [
    ("proxy", \.proxy), ("noProxy", \.noProxy), ("caFile", \.caFile), ("caPath", \.caPath), ("caPEM", \.caPEM),
    ("clientCertificateFile", \.clientCertificateFile), ("clientKeyFile", \.clientKeyFile),
    ("quietEvents", \.quietEvents), ("breakerStatuses", \.breakerStatuses),
  ]
}
