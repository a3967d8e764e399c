import Glibc
import LLMPoolCore
import Synchronization
import Testing

@testable import LLMPoolEngine

/// Results as they arrive, and a gate that the lookups under test wait at.
private final class Collector: Sendable {
  private let results = Guarded<[LookupResult]>([])
  private let gateIsOpen = Atomic<Bool>(true)
  let lookups = Atomic<Int>(0)

  func add(_ result: LookupResult) { results.withLock { $0.append(result) } }
  var all: [LookupResult] { results.withLock { $0 } }

  func closeGate() { gateIsOpen.store(false, ordering: .sequentiallyConsistent) }
  func openGate() { gateIsOpen.store(true, ordering: .sequentiallyConsistent) }

  @Sendable func lookup(_ host: String) -> LookupResult.Outcome {
    lookups.add(1, ordering: .sequentiallyConsistent)
    while !gateIsOpen.load(ordering: .sequentiallyConsistent) { usleep(1000) }
    if host.hasPrefix("bad") { return .failed(Fault(.resolve, "no \(host)")) }
    return .addresses([SocketAddress(literal: "192.0.2.1", port: 0)!])
  }

  /// False after 20 s.
  func wait(_ condition: () -> Bool) -> Bool {
    for _ in 0..<20_000 {
      if condition() { return true }
      usleep(1000)
    }
    return false
  }

  func resolver(threads: Int = 4, idleMilliseconds: Int = 10_000) -> Resolver {
    Resolver(threads: threads, idleMilliseconds: idleMilliseconds, lookup: lookup) { self.add($0) }
  }
}

@Suite struct TransportResolverTests {
  @Test func literalsNeedNoThread() {
    let resolver = Resolver { _ in Issue.record("no thread was needed") }
    for host in ["127.0.0.1", "::1", "[2001:db8::1]"] {
      let expected = SocketAddress(literal: host, port: 0)!
      #expect(resolver.lookup(host: host, token: 7)?.outcome == .addresses([expected]))
    }
    for host in ["", "a b", "a\0b", String(repeating: "a", count: 300)] {
      guard case .failed(let failure)? = resolver.lookup(host: host, token: 8)?.outcome else {
        Issue.record("\(host)")
        continue
      }
      #expect(failure.failure == .resolve)
    }
    #expect(resolver.lookupsStarted == 0)
    resolver.shutdown()
  }

  @Test func asksTheSystem() {
    let collector = Collector()
    let resolver = Resolver { collector.add($0) }
    #expect(resolver.lookup(host: "localhost", token: 1) == nil)
    #expect(resolver.lookup(host: "no-such-name.invalid", token: 2) == nil)
    #expect(collector.wait { collector.all.count == 2 })
    for result in collector.all {
      switch (result.token, result.outcome) {
      case (1, .addresses(let addresses)):
        #expect(addresses.contains { $0.host == "127.0.0.1" || $0.host == "::1" })
      case (2, .failed(let failure)):
        #expect(failure.failure == .resolve)
        #expect(failure.message.hasPrefix("cannot resolve no-such-name.invalid: "))
      default:
        Issue.record("\(result)")
      }
    }
    resolver.shutdown()
  }

  @Test func joinsLookupsOfOneName() {
    let collector = Collector()
    collector.closeGate()
    let resolver = collector.resolver()
    for token in 0..<100 { #expect(resolver.lookup(host: "api.test", token: UInt64(token)) == nil) }
    collector.openGate()
    #expect(collector.wait { collector.all.count == 100 })
    #expect(Set(collector.all.map(\.token)) == Set(0..<100))
    #expect(collector.lookups.load(ordering: .sequentiallyConsistent) == 1)
    #expect(resolver.lookupsStarted == 1)
    #expect(resolver.lookup(host: "api.test", token: 100) == nil)
    #expect(collector.wait { collector.all.count == 101 })
    #expect(resolver.lookupsStarted == 2)
    resolver.shutdown()
  }

  @Test func looksUpManyNamesOnFewThreads() {
    let collector = Collector()
    collector.closeGate()
    let resolver = collector.resolver()
    for number in 0..<500 { #expect(resolver.lookup(host: "h\(number).test", token: UInt64(number)) == nil) }
    #expect(collector.wait { collector.lookups.load(ordering: .sequentiallyConsistent) == 4 })
    #expect(resolver.lookupsStarted == 4)
    collector.openGate()
    #expect(collector.wait { collector.all.count == 500 })
    #expect(collector.all.allSatisfy { $0.host == "h\($0.token).test" })
    resolver.shutdown()
  }

  @Test func threadsComeBackAfterIdling() {
    let collector = Collector()
    let resolver = collector.resolver(idleMilliseconds: 1)
    for number in 0..<20 {
      #expect(resolver.lookup(host: number % 2 == 0 ? "good.test" : "bad.test", token: UInt64(number)) == nil)
      #expect(collector.wait { collector.all.count == number + 1 })
      usleep(3000)
    }
    resolver.shutdown()
  }

  /// A lookup that hangs does not hold shutdown back, and its result reaches nobody.
  @Test func shutsDownWhileBusy() {
    let collector = Collector()
    collector.closeGate()
    let resolver = collector.resolver(threads: 2)
    for number in 0..<5 { #expect(resolver.lookup(host: "h\(number).test", token: UInt64(number)) == nil) }
    #expect(collector.wait { collector.lookups.load(ordering: .sequentiallyConsistent) == 2 })
    let begin = monotonicNow()
    resolver.shutdown()
    #expect(monotonicNow() - begin < 5_000_000_000)
    collector.openGate()
    usleep(50_000)
    #expect(collector.all.isEmpty)
    #expect(collector.lookups.load(ordering: .sequentiallyConsistent) == 2)
    guard case .failed? = resolver.lookup(host: "late.test", token: 9)?.outcome else {
      Issue.record("a lookup after shutdown must fail")
      return
    }
  }

  @Test func shutsDownAtAnyTime() {
    for round in 0..<100 {
      let collector = Collector()
      let resolver = collector.resolver()
      for number in 0..<(round % 7) { _ = resolver.lookup(host: "h\(number).test", token: UInt64(number)) }
      resolver.shutdown()
      let count = collector.all.count
      resolver.shutdown()
      #expect(collector.all.count == count)
    }
  }
}
