import Glibc
import LLMPoolCore
import LLMPoolWire

/// The kinds of `llmpool_event_t`, with its values.
package enum EventKind: UInt32 {
  case head = 1
  case data = 2
  case sse = 3
  case done = 4
  case notice = 5
  case writable = 6
}

/// The flags of `llmpool_event_t`, with its values.
package struct EventFlags: OptionSet, Sendable {
  package var rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }
  package static let reused = EventFlags(rawValue: 1 << 0)
  package static let unseen = EventFlags(rawValue: 1 << 1)
}

/// When each step of a request happened, in microseconds since its submission; 0: it did not. Laid out as
/// `llmpool_timings_t`, whose size comes first.
package struct TimingsRecord {
  package var size = MemoryLayout<TimingsRecord>.size
  package var admitted: UInt64 = 0
  package var resolved: UInt64 = 0
  package var connected: UInt64 = 0
  package var secured: UInt64 = 0
  package var sent: UInt64 = 0
  package var firstByte: UInt64 = 0
  package var firstData: UInt64 = 0
  package var done: UInt64 = 0
  package var budgeted: UInt64 = 0
  package init() {}
}

/// A run of bytes that an event points to. `base` is never NULL and a NUL follows the last byte.
package struct EventBytes {
  package var base: UnsafePointer<CChar>
  package var count: Int
}

/// One event, as it waits in a queue and until it is released. It lies in an `EventChunk`, which it keeps alive.
package struct EventRecord {
  package var requestID: UInt64 = 0
  package var userData: UInt64 = 0
  package var kind = EventKind.done
  package var flags: EventFlags = []
  package var status: Int32 = 0
  package var httpStatus: UInt32 = 0
  package var httpVersion: UInt32 = 0
  package var attempts: UInt32 = 0
  package var credit: UInt32 = 0
  package var notice: UInt32 = 0
  package var sseRetry = UInt32.max
  package var sseCount: UInt32 = 0
  package var connectionID: UInt64 = 0
  package var data = EventRecord.empty
  package var headers = EventRecord.empty
  package var sseEvent = EventRecord.empty
  package var sseID = EventRecord.empty
  package var reason = EventRecord.empty
  package var message = EventRecord.empty
  package var peer = EventRecord.empty
  package var timings = TimingsRecord()
  package var hasTimings = false
  /// For bindings that keep the last id themselves: it is as in the request's last event.
  package var sseIDIsUnchanged = false
  /// The engine waits to hear of `recordBytes`.
  var isAwaited = false
  /// What keeps the bytes alive.
  var chunk: Unmanaged<EventChunk>
  /// What keeps a body alive that was there before the record.
  var bodyChunk: Unmanaged<EventChunk>?
  /// A body of its own, allocated with malloc.
  var ownedBody: UnsafeMutableRawPointer?
  /// Whom releasing this event gives credit to; nil where it stands for none.
  var creditor: Unmanaged<RequestState>?
  /// Of a DONE: a small request goes with it, on the application's thread, from which its memory came. Freed on another
  /// it would go by the caches that malloc has for each.
  var request: Unmanaged<RequestState>?
  /// Memory of this and earlier records of the request that is given back with it, beside the bytes of the stream.
  var recordBytes: UInt32 = 0

  /// A notice that only tells. One of LEASE_WANTED is said once, until it is acted on: one a budget may wait.
  var mayBeLost: Bool { kind == .notice && notice != NoticeMask.leaseWanted.rawValue }

  /// "" for everything that an event has not.
  private nonisolated(unsafe) static let nul = UnsafePointer<CChar>(
    UnsafeMutablePointer<CChar>.allocate(capacity: 1).initialized(to: 0))
  package static var empty: EventBytes { EventBytes(base: nul, count: 0) }

  /// Gives the event's memory back, and its credit where the request wants it from here.
  package static func release(_ record: UnsafeMutablePointer<EventRecord>, crediting: Bool = true) {
    if let body = record.pointee.ownedBody { free(body) }
    if let creditor = record.pointee.creditor {
      if crediting {
        creditor._withUnsafeGuaranteedRef {
          $0.released(
            credit: record.pointee.credit, records: Int(record.pointee.recordBytes),
            isAwaited: record.pointee.isAwaited)
        }
      }
      creditor.release()
    }
    record.pointee.request?.release()
    record.pointee.bodyChunk?.release()
    record.pointee.chunk.release()
  }
}

extension UnsafeMutablePointer {
  fileprivate func initialized(to value: Pointee) -> Self {
    initialize(to: value)
    return self
  }
}

extension UnsafeMutablePointer<EventRecord> {
  /// Puts bytes behind the record. Its chunk, which it keeps, is not counted for it: the application's threads change
  /// that count at the same time.
  func copy(_ bytes: UnsafeRawBufferPointer) -> EventBytes {
    pointee.chunk._withUnsafeGuaranteedRef { $0.copy(bytes) }
  }
}

extension EventRecord {
  /// By which the provider knows the answer whose headers the event has.
  package var providerRequestID: String? {
    ProviderRequestID.text(in: UnsafeRawBufferPointer(start: headers.base, count: headers.count))
  }
}

/// The value of the first header of that name in an event's block, names compared without regard to case.
package func headerValue(
  _ name: UnsafeRawBufferPointer, in block: UnsafeRawBufferPointer
) -> UnsafeRawBufferPointer? {
  HeaderBlock.value(of: name, in: block)
}
