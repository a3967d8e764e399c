import CLLMPool
import Glibc
import LLMPoolCore
import LLMPoolEngine

/// The entrance to the library: every function that does anything runs its body here. What the body throws becomes the
/// status and the thread's last error.
func status(_ body: () throws(Fault) -> Void) -> llmpool_status_t {
  do throws(Fault) {
    try Gate.call(body)
    return 0
  } catch {
    LastError.set(error.message)
    return error.failure.rawValue
  }
}

/// The same for what closes or releases: at the end of the process nothing is left to do, and that is no failure.
func statusOfClosing(_ body: () throws(Fault) -> Void) -> llmpool_status_t {
  let result = status(body)
  return result < 0 && Gate.isEnded ? 0 : result
}

/// Every handle that was ever given out: a handle lives as long as the process, and a leak checker finds it here.
enum Handles {
  private static let lock = Lock()
  private nonisolated(unsafe) static var all: [UnsafeRawPointer] = []

  static func give(_ object: AnyObject) -> OpaquePointer {
    let pointer = Unmanaged.passRetained(object).toOpaque()
    lock.lock()
    all.append(UnsafeRawPointer(pointer))
    lock.unlock()
    return OpaquePointer(pointer)
  }
  nonisolated(unsafe) static let sharedPool: OpaquePointer = give(PoolHandle.shared)
}

private func handle<Handle>(_ pointer: OpaquePointer?, _ name: StaticString) throws(Fault) -> Unmanaged<Handle> {
  guard let pointer else { throw Fault(.invalidArgument, "\(name): it is NULL") }
  return Unmanaged.fromOpaque(UnsafeRawPointer(pointer))
}

func pool(_ pointer: OpaquePointer?) throws(Fault) -> PoolHandle { try handle(pointer, "pool").takeUnretainedValue() }

func queue(_ pointer: OpaquePointer?) throws(Fault) -> QueueHandle {
  try handle(pointer, "queue").takeUnretainedValue()
}

/// The engine and the queue to call. Not counted: handles live as long as the process.
func engine(_ pointer: OpaquePointer?) throws(Fault) -> Engine {
  let pool: Unmanaged<PoolHandle> = try handle(pointer, "pool")
  return try pool._withUnsafeGuaranteedRef { pool in Result { () throws(Fault) in try pool.open() } }.get()
}

func openQueue(_ pointer: OpaquePointer?) throws(Fault) -> CompletionQueue {
  let queue: Unmanaged<QueueHandle> = try handle(pointer, "queue")
  return try queue._withUnsafeGuaranteedRef { queue in Result { () throws(Fault) in try queue.open() } }.get()
}

func required<Pointee>(_ pointer: UnsafeMutablePointer<Pointee>?, _ name: String) throws(Fault)
  -> UnsafeMutablePointer<Pointee>
{
  guard let pointer else { throw Fault(.invalidArgument, "\(name): it is NULL") }
  return pointer
}

func text(_ pointer: UnsafePointer<CChar>?) -> String? { pointer.map { String(cString: $0) } }

/// Bytes that are counted, or end with a NUL where the count is 0.
func bytes(_ pointer: UnsafePointer<CChar>?, _ count: Int = 0) -> UnsafeRawBufferPointer {
  guard let pointer else { return UnsafeRawBufferPointer(start: nil, count: 0) }
  return UnsafeRawBufferPointer(start: pointer, count: count > 0 ? count : strlen(pointer))
}
