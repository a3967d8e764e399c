import LLMPoolTestSupport
import LLMPoolWire
import Testing

struct URLPartsTests {
  struct Accepted: Sendable {
    let url: String
    let origin: String
    let authority: String
    let target: String
    var slash = false
    var literal = false
    var ipv6 = false
    var explicitPort = false
  }

  static let accepted: [Accepted] = [
    Accepted(
      url: "https://api.openai.com/v1/chat", origin: "https://api.openai.com:443", authority: "api.openai.com",
      target: "/v1/chat"),
    Accepted(url: "http://h", origin: "http://h:80", authority: "h", target: "", slash: true),
    Accepted(url: "http://h/", origin: "http://h:80", authority: "h", target: "/"),
    Accepted(
      url: "HtTpS://ExAmPle.COM:443/A?B=c", origin: "https://example.com:443", authority: "example.com",
      target: "/A?B=c", explicitPort: true),
    Accepted(url: "http://h?x=1", origin: "http://h:80", authority: "h", target: "?x=1", slash: true),
    Accepted(url: "http://h#frag", origin: "http://h:80", authority: "h", target: "", slash: true),
    Accepted(url: "http://h/a?b#c?d/e", origin: "http://h:80", authority: "h", target: "/a?b"),
    Accepted(url: "http://h/a#b#c", origin: "http://h:80", authority: "h", target: "/a"),
    Accepted(url: "http://h:/a", origin: "http://h:80", authority: "h", target: "/a"),
    Accepted(url: "https://h:", origin: "https://h:443", authority: "h", target: "", slash: true),
    Accepted(url: "http://h:8080/a", origin: "http://h:8080", authority: "h:8080", target: "/a", explicitPort: true),
    Accepted(
      url: "http://h:443", origin: "http://h:443", authority: "h:443", target: "", slash: true,
      explicitPort: true),
    Accepted(url: "http://h:00080", origin: "http://h:80", authority: "h", target: "", slash: true, explicitPort: true),
    Accepted(url: "http://h:65535/", origin: "http://h:65535", authority: "h:65535", target: "/", explicitPort: true),
    Accepted(
      url: "http://127.0.0.1:8000/", origin: "http://127.0.0.1:8000", authority: "127.0.0.1:8000", target: "/",
      literal: true, explicitPort: true),
    Accepted(
      url: "http://255.255.255.255", origin: "http://255.255.255.255:80", authority: "255.255.255.255",
      target: "", slash: true, literal: true),
    Accepted(
      url: "http://[::1]/", origin: "http://[::1]:80", authority: "[::1]", target: "/", literal: true,
      ipv6: true),
    Accepted(
      url: "https://[2001:DB8::A]:8443?q", origin: "https://[2001:db8::a]:8443", authority: "[2001:db8::a]:8443",
      target: "?q", slash: true, literal: true, ipv6: true, explicitPort: true),
    Accepted(url: "http://[::]:/", origin: "http://[::]:80", authority: "[::]", target: "/", literal: true, ipv6: true),
    Accepted(
      url: "http://[1:2:3:4:5:6:7:8]", origin: "http://[1:2:3:4:5:6:7:8]:80", authority: "[1:2:3:4:5:6:7:8]",
      target: "", slash: true, literal: true, ipv6: true),
    Accepted(
      url: "http://[1:2:3:4:5:6:7::]", origin: "http://[1:2:3:4:5:6:7::]:80", authority: "[1:2:3:4:5:6:7::]",
      target: "", slash: true, literal: true, ipv6: true),
    Accepted(
      url: "http://[::ffff:192.0.2.1]", origin: "http://[::ffff:192.0.2.1]:80", authority: "[::ffff:192.0.2.1]",
      target: "", slash: true, literal: true, ipv6: true),
    Accepted(
      url: "http://[1:2:3:4:5:6:1.2.3.4]", origin: "http://[1:2:3:4:5:6:1.2.3.4]:80",
      authority: "[1:2:3:4:5:6:1.2.3.4]", target: "", slash: true, literal: true, ipv6: true),
    Accepted(
      url: "http://my_service-1.local./x", origin: "http://my_service-1.local.:80",
      authority: "my_service-1.local.", target: "/x"),
    Accepted(url: "http://1a.2b/", origin: "http://1a.2b:80", authority: "1a.2b", target: "/"),
    Accepted(url: "http://1.2.3.4.com/", origin: "http://1.2.3.4.com:80", authority: "1.2.3.4.com", target: "/"),
    Accepted(url: "http://h/@user:pw", origin: "http://h:80", authority: "h", target: "/@user:pw"),
    Accepted(url: "http://h?@", origin: "http://h:80", authority: "h", target: "?@", slash: true),
    Accepted(url: "http://h/{a}|\"b\"\\^`~", origin: "http://h:80", authority: "h", target: "/{a}|\"b\"\\^`~"),
  ]

  @Test(arguments: accepted)
  func accepts(_ expected: Accepted) throws {
    try withBytes(expected.url) { url in
      Result { () throws(WireError) in
        let parts = try URLParts.parse(url)
        var authority = ByteBuffer()
        parts.appendAuthority(of: url, to: &authority)
        var origin = ByteBuffer()
        parts.appendOrigin(of: url, to: &origin)
        #expect(authority.count <= parts.authorityRoom && origin.count <= parts.originRoom)
        #expect(string(authority) == expected.authority)
        #expect(string(origin) == expected.origin)
        #expect(string(url[parts.targetRange]) == expected.target)
        #expect(parts.targetNeedsSlash == expected.slash)
        #expect(parts.hostIsIPLiteral == expected.literal)
        #expect(parts.hostIsIPv6 == expected.ipv6)
        #expect(parts.hasExplicitPort == expected.explicitPort)
        #expect(parts.isTLS == expected.origin.hasPrefix("https"))
        #expect(!string(url[parts.hostRange]).contains("["))
      }
    }.get()
  }

  static let refused: [(String, String)] = [
    ("", "empty"),
    ("/v1/chat", "does not begin with http"),
    ("ftp://h/", "does not begin with http"),
    ("http:/h", "does not begin with http"),
    ("httpx://h", "does not begin with http"),
    (" http://h", "does not begin with http"),
    ("unix:/run/x", "does not begin with http"),
    ("http://", "no host"),
    ("http:///path", "no host"),
    ("http://?q", "no host"),
    ("https://#f", "no host"),
    ("http://:80/", "no host"),
    ("http://[]/", "no host"),
    ("http://user@h/", "credentials"),
    ("http://user:secret@h/", "credentials"),
    ("http://@h/", "credentials"),
    ("http://h/a b", "percent-encode"),
    ("http://h/a\tb", "percent-encode"),
    ("http://h/a\r\nX: y", "percent-encode"),
    ("http://h/\0", "percent-encode"),
    ("http://h/\u{7F}", "percent-encode"),
    ("http://h/#a b", "percent-encode"),
    ("http://bücher.de/", "IDNA-encode"),
    ("http://h/\u{e9}", "IDNA-encode"),
    ("http://h:0/", "bad port"),
    ("http://h:65536/", "bad port"),
    ("http://h:99999999999999999999999/", "bad port"),
    ("http://h:80a/", "bad port"),
    ("http://h:-1/", "bad port"),
    ("http://h:+1/", "bad port"),
    ("http://h:80:80/", "bad port"),
    ("http://::1/", "no host"),
    ("http://2001:db8::1/", "ends in a number"),
    ("http://h%41/", "bad character"),
    ("http://h!/", "bad character"),
    ("http://h,i/", "bad character"),
    ("http://h\\i/", "bad character"),
    ("http://h\\@i/", "credentials"),
    ("http://h]/", "bad character"),
    ("http://a..b/", "empty label"),
    ("http://.a/", "empty label"),
    ("http://a../", "empty label"),
    ("http://./", "empty label"),
    ("http://" + String(repeating: "a", count: 64) + "/", "at most 63"),
    ("http://" + String(repeating: "a.", count: 127) + "b/", "at most 253"),
    ("http://127.1/", "ends in a number"),
    ("http://2130706433/", "ends in a number"),
    ("http://0x7f000001/", "ends in a number"),
    ("http://a.0X/", "ends in a number"),
    ("http://010.0.0.1/", "ends in a number"),
    ("http://256.0.0.1/", "ends in a number"),
    ("http://1.2.3.4./", "ends in a number"),
    ("http://1.2.3.4.5/", "ends in a number"),
    ("http://1.2.3.0004/", "ends in a number"),
    ("http://[::1/", "closing bracket"),
    ("http://[::1]x/", "after the IPv6"),
    ("http://[::1%25eth0]/", "zone"),
    ("http://[fe80::1%eth0]/", "zone"),
    ("http://[v1.x]/", "malformed IPv6"),
    ("http://[1]/", "malformed IPv6"),
    ("http://[:1::2]/", "malformed IPv6"),
    ("http://[:::]/", "malformed IPv6"),
    ("http://[1::2::3]/", "malformed IPv6"),
    ("http://[1:2:3:4:5:6:7:8:9]/", "malformed IPv6"),
    ("http://[1:2:3:4:5:6:7:8::]/", "malformed IPv6"),
    ("http://[1:2:3:4:5:6:7]/", "malformed IPv6"),
    ("http://[1:2:3:4:5:6:7:]/", "malformed IPv6"),
    ("http://[12345::]/", "malformed IPv6"),
    ("http://[g::]/", "malformed IPv6"),
    ("http://[::1.2.3]/", "malformed IPv6"),
    ("http://[::1.2.3.256]/", "malformed IPv6"),
    ("http://[::1.2.3.4:5]/", "malformed IPv6"),
    ("http://[1:2:3:4:5:6:7:1.2.3.4]/", "malformed IPv6"),
    ("http://[192.0.2.1]/", "malformed IPv6"),
    ("http://h/" + String(repeating: "a", count: 65_536), "at most 65536"),
  ]

  @Test(arguments: refused)
  func refuses(_ url: String, because reason: String) {
    withBytes(url) { bytes in
      do throws(WireError) {
        _ = try URLParts.parse(bytes)
        Issue.record("accepted \(url)")
      } catch {
        #expect(error.field == .url)
        #expect(error.message.contains(reason), "\(error.message)")
        #expect(!error.message.contains("secret"))
      }
    }
  }

  @Test func acceptsTheLongest() throws {
    let label = String(repeating: "a", count: 63)
    let host = "\(label).\(label).\(label).\(String(repeating: "b", count: 61))"
    let url = "https://\(host).:65535/"
    let text = url + String(repeating: "c", count: URLParts.maximumBytes - url.utf8.count)
    #expect(host.utf8.count == 253)
    withBytes(text) { bytes in
      var origin = ByteBuffer()
      (try? URLParts.parse(bytes))?.appendOrigin(of: bytes, to: &origin)
      #expect(string(origin) == "https://\(host).:65535")
    }
  }

  @Test func garbageNeverTraps() {
    var random = Random(1)
    let seeds = URLPartsTests.accepted.map { Array($0.url.utf8) }
    for _ in 0..<20_000 {
      withBytes(mutated(seeds[random.below(seeds.count)], &random)) { bytes in
        guard let parts = try? URLParts.parse(bytes) else { return }
        var origin = ByteBuffer()
        parts.appendOrigin(of: bytes, to: &origin)
        // What was accepted has one reading: its origin, written out, is an origin again and the same one.
        withBytes(string(origin)) { again in
          let second = try? URLParts.parse(again)
          #expect(second?.port == parts.port && second?.hostIsIPLiteral == parts.hostIsIPLiteral)
        }
      }
    }
  }
}
