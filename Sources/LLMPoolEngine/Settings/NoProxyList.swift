import Glibc
import LLMPoolCore

/// Hosts that are reached directly: a list as curl documents it (CURLOPT_NOPROXY), and ports, which other programs
/// take. An entry is a name, which stands for itself and for all below it, also as ".example.com" and "*.example.com";
/// an address; a block of addresses like 10.0.0.0/8; or "*", everything. Commas or spaces separate.
struct NoProxyList: Equatable, Sendable {
  private enum Pattern: Equatable, Sendable {
    case everything
    case name(String)
    case block(SocketAddress, bits: Int)
  }
  private struct Entry: Equatable, Sendable {
    let pattern: Pattern
    /// Nil: any.
    var port: UInt16?
  }
  private let entries: [Entry]

  init(_ text: String) {
    entries = text.split { $0 == "," || $0 == " " || $0 == "\t" }.compactMap(Self.entry)
  }

  func contains(host: String, port: UInt16) -> Bool {
    if entries.isEmpty { return false }
    let address = SocketAddress(literal: host, port: 0)
    let name = Self.plain(host)
    return entries.contains { entry in
      guard entry.port == nil || entry.port == port else { return false }
      switch entry.pattern {
      case .everything: return true
      case .name(let suffix): return address == nil && (name == suffix || name.hasSuffix("." + suffix))
      case .block(let block, let bits): return address.map { $0.isWithin(block, bits: bits) } ?? false
      }
    }
  }

  private static func entry(_ text: Substring) -> Entry? {
    if text == "*" { return Entry(pattern: .everything) }
    if let pattern = addresses(text) { return Entry(pattern: pattern) }
    var (name, port) = (text, UInt16?.none)
    if let colon = text.lastIndex(of: ":") {
      // What is neither address nor port is no name either, and would match nothing.
      guard let number = UInt16(text[text.index(after: colon)...]) else { return nil }
      (name, port) = (text[..<colon], number)
      if let pattern = addresses(name) { return Entry(pattern: pattern, port: port) }
    }
    let plain = plain(String(name))
    return plain.isEmpty ? nil : Entry(pattern: .name(plain), port: port)
  }

  /// "192.0.2.1", "[::1]", "2001:db8::/32"
  private static func addresses(_ text: Substring) -> Pattern? {
    let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
    guard let address = parts.first.flatMap({ SocketAddress(literal: String($0), port: 0) }) else { return nil }
    let width = address.isIPv6 ? 128 : 32
    guard parts.count == 2 else { return .block(address, bits: width) }
    guard let bits = Int(parts[1]), (0...width).contains(bits) else { return nil }
    return .block(address, bits: bits)
  }

  /// Lower case, without the dots around it: ".example.com", "*.example.com", "example.com" and "example.com." say the
  /// same.
  private static func plain(_ name: String) -> String {
    var rest = name.lowercased()[...]
    if rest.hasPrefix("*.") { rest = rest.dropFirst() }
    while rest.hasPrefix(".") { rest = rest.dropFirst() }
    if rest.hasSuffix(".") { rest = rest.dropLast() }
    return String(rest)
  }
}
