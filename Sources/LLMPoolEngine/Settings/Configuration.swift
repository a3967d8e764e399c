/// Settings that were found right, with what is made of them: the files that they name are read here.
final class Configuration: Sendable {
  let settings: PoolSettings
  let tls: TLSContext
  let proxyRules: ProxyRules

  init(_ settings: PoolSettings) throws(Fault) {
    try settings.validate()
    var settings = settings
    settings.core = try settings.coreOptions()
    self.settings = settings
    proxyRules = try ProxyRules(settings)
    tls = try TLSContext(settings.tlsOptions)
  }
}
