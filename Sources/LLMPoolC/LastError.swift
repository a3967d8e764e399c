import Glibc
import LLMPoolEngine

/// What was wrong with the thread's last failed call, as `llmpool_last_error` lends it out.
enum LastError {
  private static let key: pthread_key_t = {
    var key = pthread_key_t()
    pthread_key_create(&key) { free($0) }
    return key
  }()
  private nonisolated(unsafe) static let none = strdup("")!

  static func set(_ message: String) {
    Gate.enter()  // so that nobody forks while the key is made
    defer { Gate.leave() }
    free(pthread_getspecific(key))
    pthread_setspecific(key, strdup(message))
  }

  static var current: UnsafePointer<CChar> {
    Gate.enter()
    defer { Gate.leave() }
    guard let text = pthread_getspecific(key) else { return UnsafePointer(none) }
    return UnsafePointer(text.assumingMemoryBound(to: CChar.self))
  }
}
