import LLMPoolCore

/// Names and messages of the statuses, as `LLMPOOL_STATUS_MAP` in `llmpool.h` has them; a test compares the two.
package enum StatusTable {
  package static func name(_ failure: Failure) -> StaticString {
    switch failure {
    case .invalidArgument: "LLMPOOL_E_INVALID_ARGUMENT"
    case .unsupported: "LLMPOOL_E_UNSUPPORTED"
    case .outOfMemory: "LLMPOOL_E_OUT_OF_MEMORY"
    case .closed: "LLMPOOL_E_CLOSED"
    case .forked: "LLMPOOL_E_FORKED"
    case .notFound: "LLMPOOL_E_NOT_FOUND"
    case .again: "LLMPOOL_E_AGAIN"
    case .queueFull: "LLMPOOL_E_QUEUE_FULL"
    case .poolTimeout: "LLMPOOL_E_POOL_TIMEOUT"
    case .cancelled: "LLMPOOL_E_CANCELLED"
    case .connectTimeout: "LLMPOOL_E_CONNECT_TIMEOUT"
    case .writeTimeout: "LLMPOOL_E_WRITE_TIMEOUT"
    case .firstByteTimeout: "LLMPOOL_E_FIRST_BYTE_TIMEOUT"
    case .readTimeout: "LLMPOOL_E_READ_TIMEOUT"
    case .totalTimeout: "LLMPOOL_E_TOTAL_TIMEOUT"
    case .resolve: "LLMPOOL_E_RESOLVE"
    case .connect: "LLMPOOL_E_CONNECT"
    case .proxy: "LLMPOOL_E_PROXY"
    case .tls: "LLMPOOL_E_TLS"
    case .tlsVerify: "LLMPOOL_E_TLS_VERIFY"
    case .write: "LLMPOOL_E_WRITE"
    case .read: "LLMPOOL_E_READ"
    case .protocolViolation: "LLMPOOL_E_PROTOCOL"
    case .tooLarge: "LLMPOOL_E_TOO_LARGE"
    case .refused: "LLMPOOL_E_REFUSED"
    case .internalError: "LLMPOOL_E_INTERNAL"
    }
  }

  package static func message(_ failure: Failure) -> StaticString {
    switch failure {
    case .invalidArgument: "invalid argument"
    case .unsupported: "not supported by this version of the library"
    case .outOfMemory: "out of memory or file descriptors"
    case .closed: "the pool or queue is closed"
    case .forked: "the handle belongs to the parent process"
    case .notFound: "no such request, or it has already finished"
    case .again: "not now; an event says when"
    case .queueFull: "too many requests are waiting for a connection"
    case .poolTimeout: "no connection became free in time"
    case .cancelled: "cancelled by the application"
    case .connectTimeout: "connecting took too long"
    case .writeTimeout: "the server stopped taking the request"
    case .firstByteTimeout: "the server did not begin to answer in time"
    case .readTimeout: "the server fell silent"
    case .totalTimeout: "the request took longer than its total time"
    case .resolve: "the host name could not be resolved"
    case .connect: "connection refused or unreachable"
    case .proxy: "the proxy refused or failed"
    case .tls: "TLS handshake failed"
    case .tlsVerify: "the server's certificate was not accepted"
    case .write: "connection lost while sending"
    case .read: "connection lost before the answer was complete"
    case .protocolViolation: "the server broke the HTTP protocol"
    case .tooLarge: "the answer is larger than the limit"
    case .refused: "the server refused the stream before reading it"
    case .internalError: "a bug in llmpool"
    }
  }
}
