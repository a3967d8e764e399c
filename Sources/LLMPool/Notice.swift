import LLMPoolCore
import LLMPoolEngine

/// What a notice may be about; a set of them.
public typealias NoticeKinds = LLMPoolCore.NoticeMask

/// Something that happened in the pool.
public struct Notice: Sendable {
  /// One.
  public let kind: NoticeKinds
  /// For people.
  public let message: String
  /// For programs; which a kind has is in docs/monitoring.md: "origin", "reason", "delay-ms".
  public let fields: Headers
  /// Of which it tells; nil: of none.
  public let requestID: UInt64?
  /// Of which it tells; nil: of none.
  public let connectionID: UInt64?
}

extension Pool {
  /// What happens in the pool from now on, as it happens: for a log. Ends when the pool is closed, or its reader leaves
  /// it. Of those that wait for their reader the last 1,024 are kept.
  ///
  /// - Parameter kinds: default: all but `leaseWanted`, which is a connector's business.
  /// - Throws: `PoolError`, where the pool is closed.
  public func notices(_ kinds: NoticeKinds = .all.subtracting(.leaseWanted)) throws -> AsyncStream<Notice> {
    try watch(kinds, keeping: .bufferingNewest(1_024), Notice.init)
  }

  func watch<Element: Sendable>(
    _ kinds: NoticeKinds, keeping policy: AsyncStream<Element>.Continuation.BufferingPolicy,
    _ make: @escaping @Sendable (EventRecord) -> Element
  ) throws -> AsyncStream<Element> {
    let (stream, reader) = AsyncStream.makeStream(of: Element.self, bufferingPolicy: policy)
    let queue = CompletionQueue { queue in
      var records: [UnsafeMutablePointer<EventRecord>] = []
      _ = queue.take(.max) { record in
        records.append(record)
        return true
      }
      for record in records {
        reader.yield(make(record.pointee))
        EventRecord.release(record)
      }
    }
    // Before the pool is asked for: it may be closed at any moment.
    let number = watches.add { reader.finish() }
    reader.onTermination = { [watches] _ in
      watches.remove(number)
      _ = queue.close()
    }
    do { try handle.open().watch(queue, kinds.rawValue, userData: 0) } catch {
      reader.finish()
      throw PoolError(error)
    }
    return stream
  }
}

extension Notice {
  init(_ record: EventRecord) {
    kind = NoticeKinds(rawValue: record.notice)
    message = String(cString: record.message.base)
    fields = Headers(record.headers)
    requestID = record.requestID == 0 ? nil : record.requestID
    connectionID = record.connectionID == 0 ? nil : record.connectionID
  }
}
