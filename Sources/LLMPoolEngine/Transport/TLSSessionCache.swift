import CLLMPoolSystem
import Glibc

/// What a session may be resumed for. The name belongs to it: a resumed handshake checks no certificate, so a session
/// must never serve another name than the one that was verified.
struct TLSSessionKey: Hashable {
  let origin: UInt64
  let serverName: String
}

/// Sessions to resume, a few per key, bounded in all. Owns a reference to each.
struct TLSSessionCache {
  /// A server gives two tickets per TLS 1.3 handshake as a rule, and each serves once.
  static let capacityPerKey = 4
  /// A session holds the peer's certificates: some 5 KiB.
  static let capacity = 512

  private struct Entry {
    var sessions: [OpaquePointer] = []
    var lastStored: UInt64 = 0
  }

  private var entries: [TLSSessionKey: Entry] = [:]
  private(set) var count = 0
  private var stores: UInt64 = 0

  /// Takes over the caller's reference if it returns true.
  mutating func store(_ session: OpaquePointer, for key: TLSSessionKey) -> Bool {
    guard SSL_SESSION_is_resumable(session) == 1 else { return false }
    stores += 1
    var entry = entries[key] ?? Entry()
    if entry.sessions.count == Self.capacityPerKey {
      SSL_SESSION_free(entry.sessions.removeFirst())
      count -= 1
    }
    entry.sessions.append(session)
    entry.lastStored = stores
    entries[key] = entry
    count += 1
    if count > Self.capacity { removeOldestKey(except: key) }
    return true
  }

  /// The newest session for the key; the caller frees it. A TLS 1.3 ticket is used once (RFC 8446, appendix C.4), a
  /// TLS 1.2 session stays.
  mutating func take(for key: TLSSessionKey) -> OpaquePointer? {
    guard var entry = entries[key] else { return nil }
    let now = Int(time(nil))
    var found: OpaquePointer?
    while found == nil, let session = entry.sessions.popLast() {
      count -= 1
      let age = now - Int(SSL_SESSION_get_time(session))
      if age < 0 || age >= Int(SSL_SESSION_get_timeout(session)) {
        SSL_SESSION_free(session)
      } else {
        found = session
      }
    }
    if let session = found, SSL_SESSION_get_protocol_version(session) < TLS1_3_VERSION {
      SSL_SESSION_up_ref(session)
      entry.sessions.append(session)
      count += 1
    }
    entries[key] = entry.sessions.isEmpty ? nil : entry
    return found
  }

  /// After a failed handshake: the next one starts afresh.
  mutating func remove(for key: TLSSessionKey) {
    guard let entry = entries.removeValue(forKey: key) else { return }
    count -= entry.sessions.count
    for session in entry.sessions { SSL_SESSION_free(session) }
  }

  mutating func removeAll() {
    for entry in entries.values {
      for session in entry.sessions { SSL_SESSION_free(session) }
    }
    entries = [:]
    count = 0
  }

  /// A walk over at most `capacity` keys, only when the cache is full and a handshake has just cost far more.
  private mutating func removeOldestKey(except kept: TLSSessionKey) {
    let oldest = entries.lazy.filter { $0.key != kept }.min { $0.value.lastStored < $1.value.lastStored }
    if let oldest { remove(for: oldest.key) }
  }
}
