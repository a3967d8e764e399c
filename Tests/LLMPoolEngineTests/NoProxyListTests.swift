import Testing

@testable import LLMPoolEngine

@Suite struct NoProxyListTests {
  @Test(arguments: ["example.com", ".example.com", "*.example.com", "*.EXAMPLE.com.", "a, *.example.com b"])
  func aNameStandsForAllBelowIt(text: String) {
    let list = NoProxyList(text)
    for host in ["example.com", "api.example.com", "a.b.example.com", "API.Example.COM."] {
      #expect(list.contains(host: host, port: 443), "\(host) in \(text)")
    }
    for host in ["notexample.com", "example.com.org", "com", "192.0.2.1"] {
      #expect(!list.contains(host: host, port: 443), "\(host) in \(text)")
    }
  }

  @Test func portsAndStars() {
    let list = NoProxyList("*.example.com:8443")
    #expect(list.contains(host: "api.example.com", port: 8443))
    #expect(!list.contains(host: "api.example.com", port: 443))
    #expect(NoProxyList("*").contains(host: "any.example", port: 1))
    // A star elsewhere is no pattern, and "*." names nothing.
    for text in ["*.", "*..", "api.*.com", "*example.com"] {
      #expect(!NoProxyList(text).contains(host: "api.example.com", port: 443), "\(text)")
    }
  }
}
