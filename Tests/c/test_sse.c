/*
 * test_sse.c - server-sent events as events: the format of the HTML standard split in every way, credit, limits, what
 * is no event stream, records; over HTTP/1.1 and HTTP/2.
 */
#include "harness.h"

#define SSE_TYPE "Content-Type: text/event-stream; charset=utf-8\r\n"
#define WINDOW 65536

static server_t *server;
static llmpool_t *pool;
static llmpool_queue_t *queue;

static uint64_t submit(llmpool_t *to, const char *url, uint32_t flags) {
  llmpool_request_t request = harness_request(url);
  request.flags = LLMPOOL_REQUEST_SSE | flags;
  request.user_data = 77;
  return harness_submit(to, &request, queue);
}

static void expect_head(void) {
  llmpool_event_t event = harness_next(queue);
  CHECK_EQ(event.kind, LLMPOOL_EVENT_HEAD);
  CHECK_EQ(event.http_status, 200);
  harness_release(&event);
}

static void expect_done(llmpool_status_t expected) {
  llmpool_event_t event = harness_next(queue);
  CHECK_EQ(event.kind, LLMPOOL_EVENT_DONE);
  CHECK_STATUS(event.status, expected);
  harness_release(&event);
}

/* The events of an answer, written as text: "type|id|retry|data;" each; -1 for no retry. */
static void transcript(char *text, size_t size) {
  size_t used = 0;
  text[0] = 0;
  expect_head();
  for (;;) {
    llmpool_event_t event = harness_next(queue);
    if (event.kind == LLMPOOL_EVENT_DONE) {
      CHECK_STATUS(event.status, LLMPOOL_OK);
      harness_release(&event);
      return;
    }
    CHECK_EQ(event.kind, LLMPOOL_EVENT_SSE);
    CHECK_EQ(event.user_data, 77);
    CHECK_EQ(strlen(event.data), event.data_size);
    CHECK_EQ(strlen(event.sse_event), event.sse_event_size);
    CHECK_EQ(strlen(event.sse_id), event.sse_id_size);
    CHECK(event.credit > 0); /* parts that came before were credited */
    uint32_t count = 0;
    for (const char *data = event.data; data != NULL; count++) { /* joined: separated by CR */
      const char *end = strchr(data, '\r');
      int length = end ? (int)(end - data) : (int)strlen(data);
      used += (size_t)snprintf(text + used, size - used, "%s|%s|%d|%.*s;", event.sse_event, event.sse_id,
                               (int)event.sse_retry_ms, length, data);
      CHECK(used < size);
      data = end ? end + 1 : NULL;
    }
    CHECK_EQ(count, event.sse_count);
    harness_release(&event);
  }
}

static void check_said(int split, uint32_t flags, const char *expected) {
  char path[32], text[1024];
  snprintf(path, sizeof path, "/said/%d", split);
  submit(pool, server_url(server, path), flags);
  transcript(text, sizeof text);
  if (strcmp(text, expected) != 0) fprintf(stderr, "split %d\n", split);
  CHECK_STR(text, expected);
}

/* Everything that the format knows; the last event lacks its blank line and is dropped. */
#define LF_STREAM                                                                                                      \
  "\xef\xbb\xbf"                                                                                                       \
  ": hello\n\ndata: one\n\nevent: add\nid: 7\nretry: 250\ndata:two\ndata\ndata:  lines\n:x\n\n"                        \
  "id: 8\n\nunknown: x\nretry: 1x\ndata: \xc3\xa9\n\nid: nul?\nid\ndata\n\nevent: no data\n\ndata: [DONE]\n\ndata: "   \
  "cut"
#define EXPECTED "message||-1|one;add|7|250|two\n\n lines;message|8|-1|\xc3\xa9;message||-1|;message||-1|[DONE];"

static size_t with_line_end(char *target, const char *text, const char *line_end) {
  char *end = target;
  for (; *text; text++)
    end = *text == '\n' ? stpcpy(end, line_end) : (*end = *text, end + 1);
  return (size_t)(end - target);
}

static void check_every_split(const char *line_end) {
  char stream[600];
  size_t size = with_line_end(stream, LF_STREAM, line_end);
  server_say(server, SSE_TYPE, stream, size);
  for (int split = -1; split < (int)size; split++) {
    check_said(split, 0, EXPECTED);
    check_said(split, LLMPOOL_REQUEST_SSE_JOIN, EXPECTED);
  }
}

static void test_every_split_with_lf(void) {
  check_every_split("\n");
}
static void test_every_split_with_crlf(void) {
  check_every_split("\r\n");
}
static void test_every_split_with_cr(void) {
  check_every_split("\r");
}

static void expect_joined(uint32_t count, const char *data, const char *id) {
  llmpool_event_t event = harness_next(queue);
  CHECK_EQ(event.kind, LLMPOOL_EVENT_SSE);
  CHECK_EQ(event.sse_count, count);
  CHECK_STR(event.data, data);
  CHECK_STR(event.sse_event, "message");
  CHECK_STR(event.sse_id, id);
  harness_release(&event);
}

static void test_events_that_come_together_are_joined(void) {
  static const char text[] = "data: a\n\ndata\n\ndata: b\ndata: c\n\nid: 1\ndata: d\n\ndata: e\n\ndata: f\n\nid: 2\n";
  server_say(server, SSE_TYPE, text, sizeof text - 1);
  submit(pool, server_url(server, "/said/0"), LLMPOOL_REQUEST_SSE_JOIN);
  expect_head();
  expect_joined(3, "a\r\rb\nc", "");
  expect_joined(1, "d", "1"); /* with an id of its own */
  expect_joined(2, "e\rf", "1");
  expect_done(LLMPOOL_OK);
}

/* ---- credit ---- */

static llmpool_t *narrow_pool(void) {
  llmpool_options_t options = harness_options();
  options.stream_window_bytes = WINDOW;
  return harness_pool(&options);
}

static char *filled(size_t size, const char *begin, const char *end) {
  char *text = malloc(size + 1);
  memset(text, 'x', size);
  memcpy(text, begin, strlen(begin));
  memcpy(text + size - strlen(end), end, strlen(end));
  text[size] = 0;
  return text;
}

/* Comments of 16 windows, and not an event among them that anybody could release. */
static void check_comments_go_on(llmpool_t *narrow, const char *url) {
  submit(narrow, url, 0);
  expect_head();
  llmpool_event_t event = harness_next(queue);
  CHECK_EQ(event.kind, LLMPOOL_EVENT_SSE);
  CHECK_STR(event.data, "end");
  harness_release(&event);
  expect_done(LLMPOOL_OK);
}

static char *comments(size_t *size_out) {
  enum { LINE = 100, COUNT = 16 * WINDOW / LINE };
  char *text = malloc(LINE * COUNT + 20), *end = text;
  for (int i = 0; i < COUNT; i++, end += LINE) {
    memset(end, 'c', LINE);
    end[0] = ':';
    end[LINE - 1] = '\n';
  }
  *size_out = (size_t)(stpcpy(end, "data: end\n\n") - text);
  return text;
}

static void test_comments_are_credited(void) {
  size_t size;
  char *text = comments(&size);
  llmpool_t *narrow = narrow_pool();
  server_say(server, SSE_TYPE, text, size);
  check_comments_go_on(narrow, server_url(server, "/said/0"));
  CHECK_OK(llmpool_close(narrow, 0));
  free(text);
}

/* One event as large as the window and one of nearly 1 MiB: the parts that came are credited. */
static void check_large_event(llmpool_t *narrow, const char *url, size_t size) {
  submit(narrow, url, 0);
  expect_head();
  llmpool_event_t event = harness_next(queue);
  CHECK_EQ(event.kind, LLMPOOL_EVENT_SSE);
  CHECK_EQ(event.data_size, size - strlen("data:\n\n"));
  CHECK(event.data[0] == 'x' && event.data[event.data_size - 1] == 'x');
  harness_release(&event);
  expect_done(LLMPOOL_OK);
}

static const size_t large_sizes[] = {WINDOW, WINDOW + 1, 1 << 20};

static void test_events_as_large_as_the_window_end(void) {
  llmpool_t *narrow = narrow_pool();
  for (int i = 0; i < 3; i++) {
    char *text = filled(large_sizes[i], "data:", "\n\n");
    server_say(server, SSE_TYPE, text, large_sizes[i]);
    check_large_event(narrow, server_url(server, "/said/0"), large_sizes[i]);
    free(text);
  }
  CHECK_OK(llmpool_close(narrow, 0));
}

/* What came before the event that is too large is delivered. */
static void check_too_large(llmpool_t *to, const char *url) {
  submit(to, url, 0);
  expect_head();
  llmpool_event_t event = harness_next(queue);
  CHECK_EQ(event.kind, LLMPOOL_EVENT_SSE);
  CHECK_STR(event.data, "small");
  harness_release(&event);
  event = harness_next(queue);
  CHECK_EQ(event.kind, LLMPOOL_EVENT_DONE);
  CHECK_STATUS(event.status, LLMPOOL_E_TOO_LARGE);
  CHECK(strstr(event.message, "1048576") != NULL);
  harness_release(&event);
  CHECK_EQ(harness_stats(to).active, 0);
}

static void test_an_event_beyond_the_limit(void) {
  enum { SIZE = (1 << 20) + 100 };
  llmpool_options_t options = harness_options();
  options.max_event_bytes = 1 << 20;
  llmpool_t *strict = harness_pool(&options);
  char *text = filled(SIZE, "data: small\n\ndata:", "\n\n");
  server_say(server, SSE_TYPE, text, SIZE);
  check_too_large(strict, server_url(server, "/said/0"));
  CHECK_STATUS(harness_outcome(
                   strict, &(llmpool_request_t){.size = sizeof(llmpool_request_t), .url = server_url(server, "/echo")}),
               LLMPOOL_OK);
  CHECK_OK(llmpool_close(strict, 0));
  free(text);
}

static void expect_event_of(size_t size, size_t request_limit, llmpool_status_t expected) {
  char *text = filled(size, "data:", "\n\n");
  server_say(server, SSE_TYPE, text, size);
  llmpool_request_t request = harness_request(server_url(server, "/said/0"));
  request.flags = LLMPOOL_REQUEST_SSE;
  request.max_event_bytes = request_limit;
  harness_submit(pool, &request, queue);
  expect_head();
  if (expected == LLMPOOL_OK) {
    llmpool_event_t event = harness_next(queue);
    CHECK_EQ(event.kind, LLMPOOL_EVENT_SSE);
    CHECK_EQ(event.data_size, size - strlen("data:\n\n"));
    harness_release(&event);
  }
  expect_done(expected);
  free(text);
}

/* Images and tool results come as one event. */
static void test_events_up_to_the_limit(void) {
  expect_event_of(2 << 20, 0, LLMPOOL_OK);
  expect_event_of((16 << 20) + 2, 0, LLMPOOL_OK); /* without its two line ends it is 16 MiB */
  expect_event_of((16 << 20) + 3, 0, LLMPOOL_E_TOO_LARGE);
  expect_event_of((16 << 20) + 3, 17 << 20, LLMPOOL_OK);
  expect_event_of(1026, 1024, LLMPOOL_OK);
  expect_event_of(1027, 1024, LLMPOOL_E_TOO_LARGE);
}

static void test_max_event_bytes_is_checked(void) {
  static const size_t wrong[] = {1, 1023, ((size_t)1 << 30) + 1, SIZE_MAX};
  llmpool_options_t options = harness_options();
  llmpool_request_t request = harness_request("http://127.0.0.1/");
  llmpool_t *refused;
  uint64_t id;
  for (int i = 0; i < 4; i++) {
    request.max_event_bytes = wrong[i];
    CHECK_REFUSED(llmpool_submit(pool, &request, queue, &id), LLMPOOL_E_INVALID_ARGUMENT, "max_event_bytes");
    options.max_event_bytes = (uint32_t)wrong[i];
    CHECK_REFUSED(llmpool_open(&options, &refused), LLMPOOL_E_INVALID_ARGUMENT, "max_event_bytes");
  }
}

/* Many small events that nobody releases hold back their own answer; released, all arrive. */
static char *many_events(size_t *size_out, int count) {
  char *text = malloc((size_t)count * 112 + 1), *end = text;
  for (int i = 0; i < count; i++)
    end += sprintf(end, "data: %0100d\n\n", i);
  *size_out = (size_t)(end - text);
  return text;
}

static void check_held_back(llmpool_t *narrow, const char *url, int total) {
  enum { CAPACITY = 16384 };
  llmpool_event_t *events = calloc(CAPACITY, sizeof *events);
  size_t held = 0;
  uint32_t count = 0;
  int32_t more;
  submit(narrow, url, 0);
  while ((more = llmpool_queue_drain(queue, events + count, sizeof *events, CAPACITY - count, count > 1 ? 300 : 5000)) >
         0)
    for (int32_t i = 0; i < more; i++)
      held += events[count++].credit;
  CHECK(count > 1 && held <= 2 * WINDOW);
  llmpool_events_release(events, sizeof *events, count);
  for (int next = (int)count - 1; next < total; next++) { /* one of them was the head */
    llmpool_event_t event = harness_next(queue);
    CHECK_EQ(event.kind, LLMPOOL_EVENT_SSE);
    CHECK_EQ(atoi(event.data), next);
    harness_release(&event);
  }
  expect_done(LLMPOOL_OK);
  free(events);
}

static void test_unreleased_events_hold_the_answer_back(void) {
  size_t size;
  char *text = many_events(&size, 10000);
  llmpool_t *narrow = narrow_pool();
  server_say(server, SSE_TYPE, text, size);
  check_held_back(narrow, server_url(server, "/said/0"), 10000);
  CHECK_OK(llmpool_close(narrow, 0));
  free(text);
}

/* ---- no event stream ---- */

static void check_is_data(const char *headers) {
  static const char text[] = "data: one\n\n";
  server_say(server, headers, text, sizeof text - 1);
  submit(pool, server_url(server, "/said/0"), 0);
  expect_head();
  llmpool_event_t event = harness_next(queue);
  CHECK_EQ(event.kind, LLMPOOL_EVENT_DATA);
  CHECK_STR(event.data, text);
  CHECK_EQ(event.credit, sizeof text - 1);
  harness_release(&event);
  event = harness_next(queue);
  CHECK_EQ(event.kind, LLMPOOL_EVENT_DONE);
  CHECK_STATUS(event.status, LLMPOOL_OK);
  CHECK(event.timings->first_data >= event.timings->first_byte);
  harness_release(&event);
}

static void test_other_answers_come_as_data(void) {
  check_is_data("");
  check_is_data("Content-Type: application/json\r\n");
  check_is_data("Content-Type: text/event-streams\r\n");
  check_is_data(SSE_TYPE "Content-Encoding: gzip\r\n");
}

/* D3: an error that is typed as a stream is for people to read, not to be parsed away. */
static void test_only_a_200_is_a_stream(void) {
  static const char *const answers[] = {"429 Too Many\nContent-Type: text/event-stream",
                                        "500 No\nContent-Type: text/event-stream",
                                        "201 Created\nContent-Type: text/event-stream", NULL};
  static const uint32_t statuses[] = {429, 500, 201};
  server_plan(server, answers);
  for (int i = 0; i < 3; i++) {
    submit(pool, server_url(server, "/plan"), 0);
    llmpool_event_t event = harness_next(queue);
    CHECK_EQ(event.http_status, statuses[i]);
    harness_release(&event);
    event = harness_next(queue);
    CHECK_EQ(event.kind, LLMPOOL_EVENT_DATA);
    CHECK_STR(event.data, "busy");
    harness_release(&event);
    expect_done(LLMPOOL_OK);
  }
}

static void test_identity_is_no_encoding(void) {
  server_say(server, "content-encoding: Identity\r\nCONTENT-TYPE: Text/Event-Stream;a=b\r\n", "data: one\n\n", 11);
  check_said(0, 0, "message||-1|one;");
}

/* The first event counts, not the comment that came long before it. */
static void test_first_data_is_the_first_event(void) {
  server_say(server, SSE_TYPE, ": wait\n\ndata: one\n\n", 19);
  submit(pool, server_url(server, "/late/1000"), 0);
  expect_head();
  llmpool_event_t event = harness_next(queue);
  CHECK_EQ(event.kind, LLMPOOL_EVENT_SSE);
  harness_release(&event);
  event = harness_next(queue);
  CHECK_EQ(event.kind, LLMPOOL_EVENT_DONE);
  CHECK(event.timings->first_data >= event.timings->first_byte + 200000);
  CHECK(event.timings->first_data <= event.timings->done);
  harness_release(&event);
}

static void test_a_stream_without_events_has_no_first_data(void) {
  server_say(server, SSE_TYPE, ": nothing\n\n", 11);
  submit(pool, server_url(server, "/said/0"), 0);
  expect_head();
  llmpool_event_t event = harness_next(queue);
  CHECK_EQ(event.kind, LLMPOOL_EVENT_DONE);
  CHECK(event.timings->first_byte > 0);
  CHECK_EQ(event.timings->first_data, 0);
  harness_release(&event);
}

/* ---- the event clock ---- */

/* A comment, and an event much later; 0: soon. */
static void check_event_clock(uint32_t flags, const char *headers, int pause_ms, llmpool_status_t expected) {
  server_say(server, headers, ": wait\n\ndata: one\n\n", 19);
  char path[32];
  snprintf(path, sizeof path, "/late/%d", pause_ms);
  llmpool_request_t request = harness_request(server_url(server, path));
  request.flags = flags;
  request.event_timeout_ms = 800;
  harness_submit(pool, &request, queue);
  llmpool_event_t event = harness_next(queue);
  for (; event.kind != LLMPOOL_EVENT_DONE; event = harness_next(queue))
    harness_release(&event);
  CHECK_STATUS(event.status, expected);
  if (expected != LLMPOOL_OK) {
    CHECK(strstr(event.message, "no event that says something came for 800 ms, its event timeout: the last ") != NULL);
    CHECK(strstr(event.message, " ago, none has come yet; ") != NULL);
  }
  harness_release(&event);
}

/* The same whether the answer is parsed, passed on or collected. */
static void test_a_stream_that_says_nothing(void) {
  static const uint32_t flags[] = {LLMPOOL_REQUEST_SSE, LLMPOOL_REQUEST_STREAM, 0};
  for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
    check_event_clock(flags[i], SSE_TYPE, 3000, LLMPOOL_E_EVENT_TIMEOUT);
}

/* Counted where somebody reads the answer as a stream, and told once for each reason. */
static void test_no_event_clock_without_events(void) {
  llmpool_queue_t *notices = harness_queue();
  CHECK_OK(llmpool_watch(pool, notices, LLMPOOL_NOTICE_UNWATCHED_STREAM, 0));
  uint64_t before = harness_stats(pool).unwatched_streams;
  check_event_clock(LLMPOOL_REQUEST_STREAM, "Content-Type: text/plain\r\n", 1200, LLMPOOL_OK);
  check_event_clock(LLMPOOL_REQUEST_SSE, SSE_TYPE "Content-Encoding: br\r\n", 1200, LLMPOOL_OK);
  check_event_clock(0, "Content-Type: text/plain\r\n", 1200, LLMPOOL_OK);
  check_event_clock(LLMPOOL_REQUEST_STREAM, "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", 0,
                    LLMPOOL_OK); /* a document, whoever reads it as a stream */
  check_event_clock(LLMPOOL_REQUEST_STREAM, "Content-Type: text/plain\r\n", 0, LLMPOOL_OK);
  CHECK_EQ(harness_stats(pool).unwatched_streams, before + 3);
  static const char *const reasons[] = {"reason: no-event-stream\r\n", "reason: encoded\r\n"};
  llmpool_event_t notice;
  for (int i = 0; i < 2; i++) {
    notice = harness_next(notices);
    CHECK_EQ(notice.notice, LLMPOOL_NOTICE_UNWATCHED_STREAM);
    CHECK(strstr(notice.headers, reasons[i]) != NULL);
    harness_release(&notice);
  }
  CHECK_EQ(llmpool_queue_drain(notices, &notice, sizeof notice, 1, 0), 0);
  CHECK_OK(llmpool_queue_close(notices));
}

/* ---- records and manual credit ---- */

static int read_all(llmpool_record_t *records, int capacity, char *bytes, uint32_t size) {
  int count = 0;
  uint32_t used = 0;
  for (int64_t end = check_now_ms() + 5000 * check_slower(); check_now_ms() < end; check_sleep_ms(1)) {
    int32_t more = llmpool_queue_read(queue, records + count, sizeof *records, (uint32_t)(capacity - count),
                                      bytes + used, size - used);
    CHECK(more >= 0);
    for (int32_t i = 0; i < more; i++) { /* offsets are into the bytes of one call */
      llmpool_record_t *record = &records[count + i];
      record->begin += used, record->data_end += used, record->headers_end += used, record->sse_event_end += used;
      record->sse_id_end += used, record->text_end += used, record->timings_end += used;
    }
    count += more;
    if (more > 0) used = (records[count - 1].timings_end + 7) & ~7u;
    if (more > 0 && records[count - 1].kind == LLMPOOL_EVENT_DONE) return count;
  }
  check_failed(__FILE__, __LINE__, "no DONE among the records");
}

static int part_is(const char *bytes, uint32_t begin, uint32_t end, const char *expected) {
  return end - begin == strlen(expected) && memcmp(bytes + begin, expected, end - begin) == 0;
}

static void test_records(void) {
  static const char text[] = "data: a\n\nevent: message\ndata: b\n\nid: 1\nevent: add\ndata: c\n\ndata: d\n\nid: 2\n"
                             "retry: 5\ndata: e\n\nid\ndata: f\n\ndata: g\n\nid: 3\n\nid:\n\ndata: h\n\n";
  static const char *expected[][3] = {{"a", "", ""}, {"b", "", ""}, {"c", "add", "1"}, {"d", "", ""}, {"e", "", "2"},
                                       {"f", "", ""},  {"g", "", ""}, {"h", "", ""}};
  llmpool_record_t records[16];
  static _Alignas(8) char bytes[8192];
  server_say(server, SSE_TYPE, text, sizeof text - 1);
  submit(pool, server_url(server, "/said/0"), 0);
  CHECK_EQ(read_all(records, 16, bytes, sizeof bytes), 10);
  CHECK_EQ(records[0].kind, LLMPOOL_EVENT_HEAD);
  for (int i = 0; i < 8; i++) {
    const llmpool_record_t *record = &records[1 + i];
    CHECK_EQ(record->kind, LLMPOOL_EVENT_SSE);
    CHECK_EQ(record->user_data, 77);
    CHECK(part_is(bytes, record->begin, record->data_end, expected[i][0]));
    CHECK_EQ(record->headers_end, record->data_end);
    CHECK(part_is(bytes, record->headers_end, record->sse_event_end, expected[i][1]));
    CHECK(part_is(bytes, record->sse_event_end, record->sse_id_end, expected[i][2]));
    CHECK_EQ(record->flags & LLMPOOL_EVENT_ID_RESET, i == 5 || i == 7 ? LLMPOOL_EVENT_ID_RESET : 0);
    CHECK_EQ(record->sse_retry_ms, i == 4 ? 5 : UINT32_MAX);
    CHECK(record->credit > 0);
  }
}

/* One that does not fit says how much room it wants, and stays. */
static void test_a_record_that_does_not_fit(void) {
  static _Alignas(8) char bytes[8192];
  static const uint32_t kinds[] = {LLMPOOL_EVENT_HEAD, LLMPOOL_EVENT_SSE, LLMPOOL_EVENT_DONE};
  llmpool_record_t record;
  server_say(server, SSE_TYPE, "event: add\ndata: a\n\n", 20);
  submit(pool, server_url(server, "/said/0"), 0);
  for (int i = 0; i < 3; i++) {
    int32_t count;
    while ((count = llmpool_queue_read(queue, &record, sizeof record, 1, bytes, 1)) == 0)
      check_sleep_ms(1);
    CHECK_STATUS(count, LLMPOOL_E_TOO_LARGE);
    CHECK_EQ(record.kind, kinds[i]);
    CHECK_EQ(record.user_data, 77);
    uint32_t wanted = record.timings_end;
    CHECK(wanted > 1 && wanted <= sizeof bytes);
    CHECK_STATUS(llmpool_queue_read(queue, &record, sizeof record, 1, bytes, wanted - 1), LLMPOOL_E_TOO_LARGE);
    CHECK_EQ(llmpool_queue_read(queue, &record, sizeof record, 1, bytes, wanted), 1);
    CHECK_EQ(record.kind, kinds[i]);
    CHECK_EQ(record.timings_end, wanted);
  }
}

/* Without a word of credit a window of events comes; with it the rest. */
static void test_manual_credit(void) {
  enum { CAPACITY = 16384, TOTAL = 10000 };
  static llmpool_record_t records[CAPACITY];
  static _Alignas(8) char bytes[4 << 20];
  size_t size;
  char *text = many_events(&size, TOTAL);
  llmpool_t *narrow = narrow_pool();
  server_say(server, SSE_TYPE, text, size);
  uint64_t id = submit(narrow, server_url(server, "/said/0"), LLMPOOL_REQUEST_MANUAL_CREDIT);
  int32_t first = 0;
  int quiet = 0;
  /* Copied, the memory of records holds nothing back. */
  for (int waits = 0; quiet < 2 && waits < 100 * check_slower(); waits++) {
    int32_t more = llmpool_queue_read(queue, records, sizeof *records, CAPACITY, bytes, sizeof bytes);
    CHECK(more >= 0);
    first += more;
    quiet = more == 0 && first > 1 ? quiet + 1 : 0;
    check_sleep_ms(100);
  }
  CHECK(first > 1 && first < 2 * WINDOW / 100);
  CHECK_OK(llmpool_credit(narrow, id, size));
  CHECK_EQ(read_all(records, CAPACITY, bytes, sizeof bytes), TOTAL + 1 - (first - 1));
  CHECK_OK(llmpool_close(narrow, 0));
  free(text);
}

/* Credit given before the request is on a connection counts. */
static void test_credit_ahead_of_the_connection(void) {
  enum { CAPACITY = 16384, TOTAL = 10000 };
  static llmpool_record_t records[CAPACITY];
  static _Alignas(8) char bytes[4 << 20];
  size_t size;
  char *text = many_events(&size, TOTAL);
  llmpool_options_t options = harness_options();
  options.stream_window_bytes = WINDOW;
  options.max_connections = 1;
  llmpool_t *narrow = harness_pool(&options);
  llmpool_queue_t *other = harness_queue();
  llmpool_request_t first = harness_request(server_url(server, "/delay/100"));
  harness_submit(narrow, &first, other);
  server_say(server, SSE_TYPE, text, size);
  uint64_t id = submit(narrow, server_url(server, "/said/0"), LLMPOOL_REQUEST_MANUAL_CREDIT);
  CHECK_OK(llmpool_credit(narrow, id, size));
  CHECK_OK(llmpool_queue_close(other));
  CHECK_EQ(read_all(records, CAPACITY, bytes, sizeof bytes), TOTAL + 2);
  CHECK_OK(llmpool_close(narrow, 0));
  free(text);
}

/* ---- HTTP/2 ---- */

static void test_over_http2(void) {
  nghttpd_t *nghttpd = nghttpd_start();
  if (!nghttpd) return;
  char text[1024], *large;
  size_t size;
  nghttpd_file(nghttpd, "all.sse", LF_STREAM, strlen(LF_STREAM));
  large = comments(&size);
  nghttpd_file(nghttpd, "comments.sse", large, size);
  free(large);
  large = filled((1 << 20) + 100, "data: small\n\ndata:", "\n\n");
  nghttpd_file(nghttpd, "toolarge.sse", large, (1 << 20) + 100);
  free(large);
  large = many_events(&size, 10000);
  nghttpd_file(nghttpd, "many.sse", large, size);
  free(large);
  llmpool_options_t options = harness_options();
  options.stream_window_bytes = WINDOW;
  options.max_event_bytes = 1 << 20;
  llmpool_t *h2 = harness_pool_h2(options);
  submit(h2, nghttpd_url(nghttpd, "/all.sse"), 0);
  transcript(text, sizeof text);
  CHECK_STR(text, EXPECTED);
  check_comments_go_on(h2, nghttpd_url(nghttpd, "/comments.sse"));
  for (int i = 0; i < 3; i++) {
    char name[] = "/large0.sse"; /* nghttpd keeps files open */
    name[6] = (char)('0' + i);
    large = filled(large_sizes[i], "data:", "\n\n");
    nghttpd_file(nghttpd, name, large, large_sizes[i]);
    check_large_event(h2, nghttpd_url(nghttpd, name), large_sizes[i]);
    free(large);
  }
  check_too_large(h2, nghttpd_url(nghttpd, "/toolarge.sse"));
  check_held_back(h2, nghttpd_url(nghttpd, "/many.sse"), 10000);
  CHECK_EQ(harness_stats(h2).opened, 1);
  CHECK_OK(llmpool_close(h2, 0));
  nghttpd_stop(nghttpd);
}

/* ---- main ---- */

static void set_up(void) {
  harness_set_up(&server, &pool, &queue);
}

static void tear_down(void) {
  harness_tear_down(server, pool, queue);
}

int main(void) {
  RUN(set_up);
  if (!queue) return check_report();
  RUN(test_every_split_with_lf);
  RUN(test_every_split_with_crlf);
  RUN(test_every_split_with_cr);
  RUN(test_events_that_come_together_are_joined);
  RUN(test_comments_are_credited);
  RUN(test_events_as_large_as_the_window_end);
  RUN(test_an_event_beyond_the_limit);
  RUN(test_unreleased_events_hold_the_answer_back);
  RUN(test_events_up_to_the_limit);
  RUN(test_max_event_bytes_is_checked);
  RUN(test_other_answers_come_as_data);
  RUN(test_only_a_200_is_a_stream);
  RUN(test_identity_is_no_encoding);
  RUN(test_first_data_is_the_first_event);
  RUN(test_a_stream_without_events_has_no_first_data);
  RUN(test_a_stream_that_says_nothing);
  RUN(test_no_event_clock_without_events);
  RUN(test_records);
  RUN(test_a_record_that_does_not_fit);
  RUN(test_manual_credit);
  RUN(test_credit_ahead_of_the_connection);
  RUN(test_over_http2);
  RUN(tear_down);
  return check_report();
}
