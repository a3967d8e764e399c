import PoolCore
import PoolEngine

// What the C interface needs of the engine, by the names that it has there.
package typealias CallError = PoolEngine.CallError
package typealias CompletionQueue = PoolEngine.CompletionQueue
package typealias EventRecord = PoolEngine.EventRecord
package typealias Failure = PoolCore.Failure
package typealias HTTPVersions = PoolCore.HTTPVersions
package typealias PoolSettings = PoolEngine.PoolSettings
package typealias RequestFlags = PoolEngine.RequestFlags
package typealias RequestInput = PoolEngine.RequestInput
package typealias Statistics = PoolEngine.Statistics
package typealias TimingsRecord = PoolEngine.TimingsRecord
package typealias EventBytes = PoolEngine.EventBytes
package typealias Lock = PoolEngine.Lock

/// The value of the first header of that name in an event's block.
package func headerValue(
  _ name: UnsafeRawBufferPointer, in block: UnsafeRawBufferPointer
) -> UnsafeRawBufferPointer? {
  PoolEngine.headerValue(name, in: block)
}
