/// The version of HTTP that an answer came by, with the values of `llmpool_event_t.http_version`.
enum AnswerVersion: UInt32 {
  case http11 = 1
  case http2 = 2
  case http10 = 3
}
