/*
 * test_arguments.c - every function with every bad argument: a status and a message that names the field, never a
 * crash; and the rules by which structs grow.
 */
#include "harness.h"

#include <stddef.h>

#define INVALID LLMPOOL_E_INVALID_ARGUMENT
#define UNSUPPORTED LLMPOOL_E_UNSUPPORTED

static llmpool_t *pool;
static llmpool_queue_t *queue;
static server_t *server;

/* What a later release may have appended. */
#define GROWN(type)                                                                                                    \
  struct {                                                                                                             \
    type known;                                                                                                        \
    unsigned char tail[64];                                                                                            \
  }

/* ---- options ---- */

static void test_options_init(void) {
  llmpool_options_t options;
  CHECK_REFUSED(llmpool_options_init(NULL, sizeof options), INVALID, "options");
  CHECK_REFUSED(llmpool_options_init(&options, 0), INVALID, "size");
  CHECK_REFUSED(llmpool_options_init(&options, 4), INVALID, "size");
  memset(&options, 0xff, sizeof options);
  CHECK_OK(llmpool_options_init(&options, sizeof options));
  CHECK_EQ(options.size, sizeof options);
  CHECK_EQ(options.max_connections, 100);
  CHECK_EQ(options.max_connections_per_origin, 0);
  CHECK_EQ(options.max_keepalive_connections, 20);
  CHECK_EQ(options.keepalive_expiry_ms, 30000);
  CHECK_EQ(options.max_connection_age_ms, 0);
  CHECK_EQ(options.max_streams_per_connection, 100);
  CHECK_EQ(options.max_pending_requests, 10000);
  CHECK_EQ(options.connect_timeout_ms, 5000);
  CHECK_EQ(options.read_timeout_ms, 60000);
  CHECK_EQ(options.write_timeout_ms, 10000);
  CHECK_EQ(options.pool_timeout_ms, 10000);
  CHECK_EQ(options.first_byte_timeout_ms, 0);
  CHECK_EQ(options.total_timeout_ms, 0);
  CHECK_EQ(options.http_versions, LLMPOOL_HTTP_AUTO);
  CHECK_EQ(options.dns_cache_ttl_ms, 300000);
  CHECK_EQ(options.tcp_keepalive_ms, 15000);
  CHECK_EQ(options.ping_interval_ms, 30000);
  CHECK_EQ(options.stream_window_bytes, 1048576);
  CHECK_EQ(options.max_retries, 2);
  CHECK_EQ(options.retry_backoff_ms, 500);
  CHECK_EQ(options.retry_backoff_max_ms, 8000);
  CHECK_EQ(options.retry_after_max_ms, 60000);
  CHECK_EQ(options.utilization_warning_percent, 80);
  CHECK_EQ(options.tls_insecure, 0);
  CHECK(!options.ca_file && !options.ca_path && !options.ca_pem);
  CHECK(!options.client_cert_file && !options.client_key_file);
  CHECK(!options.proxy && !options.no_proxy);
}

static llmpool_status_t open_and_close(const llmpool_options_t *options) {
  llmpool_t *opened = NULL;
  llmpool_status_t status = llmpool_open(options, &opened);
  CHECK((status == LLMPOOL_OK) == (opened != NULL));
  if (opened) CHECK_OK(llmpool_close(opened, 0));
  return status;
}

static void test_options_not_filled_in(void) {
  llmpool_options_t options;
  memset(&options, 0, sizeof options);
  CHECK_REFUSED(open_and_close(&options), INVALID, "size");
  options.size = sizeof options;
  CHECK_REFUSED(open_and_close(&options), INVALID, "llmpool_options_init");
  CHECK_REFUSED(llmpool_configure(pool, &options), INVALID, "llmpool_options_init");
  options = harness_options();
  options.size = 8;
  CHECK_REFUSED(open_and_close(&options), INVALID, "size");
}

static void test_options_of_a_later_release(void) {
  GROWN(llmpool_options_t) grown;
  memset(&grown, 0xff, sizeof grown);
  CHECK_OK(llmpool_options_init(&grown.known, sizeof grown));
  grown.known.size = sizeof grown;
  CHECK_OK(open_and_close(&grown.known));
  grown.tail[63] = 1;
  CHECK_REFUSED(open_and_close(&grown.known), UNSUPPORTED, "options");
  CHECK_REFUSED(llmpool_configure(pool, &grown.known), UNSUPPORTED, "options");
}

static void test_option_values(void) {
  llmpool_options_t options = harness_options();
  options.http_versions = 77;
  CHECK_REFUSED(open_and_close(&options), INVALID, "http_versions");
  options = harness_options();
  options.stream_window_bytes = 65535;
  CHECK_REFUSED(open_and_close(&options), INVALID, "stream_window_bytes");
  options = harness_options();
  options.ca_file = "/nonexistent/ca.pem";
  CHECK_REFUSED(open_and_close(&options), INVALID, "ca_file");
  options = harness_options();
  options.ca_path = "/nonexistent";
  CHECK_REFUSED(open_and_close(&options), INVALID, "ca_path");
  options = harness_options();
  options.ca_pem = "no certificate";
  CHECK_REFUSED(open_and_close(&options), INVALID, "ca_pem");
  options = harness_options();
  options.client_cert_file = "/nonexistent/cert.pem";
  options.client_key_file = "/nonexistent/key.pem";
  CHECK_REFUSED(open_and_close(&options), INVALID, "client_cert_file");
  options = harness_options();
  options.proxy = "https://proxy.invalid:3128";
  CHECK(open_and_close(&options) == UNSUPPORTED); /* for now */
  options.proxy = "nonsense proxy";
  CHECK_REFUSED(open_and_close(&options), INVALID, "proxy");
}

static void test_options_get(void) {
  llmpool_options_t options = harness_options();
  CHECK_REFUSED(llmpool_options_get(NULL, &options, sizeof options), INVALID, "pool");
  CHECK_REFUSED(llmpool_options_get(pool, NULL, sizeof options), INVALID, "options");
  CHECK_REFUSED(llmpool_options_get(pool, &options, 4), INVALID, "size");
  options.max_connections = 7;
  llmpool_t *other = harness_pool(&options);
  llmpool_options_t got;
  memset(&got, 0xff, sizeof got);
  CHECK_OK(llmpool_options_get(other, &got, sizeof got));
  CHECK_EQ(got.max_connections, 7);
  CHECK_STR(got.proxy, "");
  got.max_connections = 8;
  CHECK_OK(llmpool_configure(other, &got));
  CHECK_OK(llmpool_options_get(other, &options, sizeof options));
  CHECK_EQ(options.max_connections, 8);
  CHECK_OK(llmpool_close(other, 0));
}

/* ---- pool ---- */

static void test_pool_handles(void) {
  llmpool_options_t options = harness_options();
  llmpool_t *shared = NULL;
  CHECK_REFUSED(llmpool_shared(NULL), INVALID, "pool_out");
  CHECK_REFUSED(llmpool_open(&options, NULL), INVALID, "pool_out");
  CHECK_REFUSED(llmpool_configure(NULL, &options), INVALID, "pool");
  CHECK_REFUSED(llmpool_configure(pool, NULL), INVALID, "options");
  CHECK_REFUSED(llmpool_close(NULL, 0), INVALID, "pool");
  CHECK_OK(llmpool_shared(&shared));
  CHECK_REFUSED(llmpool_close(shared, 0), INVALID, "shared");
  CHECK_OK(llmpool_configure(shared, &options)); /* it is still open */
}

static void test_warm(void) {
  CHECK_REFUSED(llmpool_warm(NULL, "http://127.0.0.1:1/", 1), INVALID, "pool");
  CHECK_REFUSED(llmpool_warm(pool, NULL, 1), INVALID, "url");
  CHECK_REFUSED(llmpool_warm(pool, "nonsense", 1), INVALID, "url");
}

/* ---- request ---- */

/* Refused alike by submit and perform; nothing reaches the queue. */
static void check_request_refused(const llmpool_request_t *request, llmpool_status_t status, const char *field) {
  uint64_t id = 4711;
  llmpool_event_t event;
  CHECK_REFUSED(llmpool_submit(pool, request, queue, &id), status, field);
  CHECK_REFUSED(llmpool_perform(pool, request, &event, sizeof event, NULL), status, field);
  CHECK_EQ(llmpool_queue_drain(queue, &event, sizeof event, 1, 0), 0);
}

static void test_submit_handles(void) {
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  uint64_t id;
  CHECK_REFUSED(llmpool_submit(NULL, &request, queue, &id), INVALID, "pool");
  CHECK_REFUSED(llmpool_submit(pool, NULL, queue, &id), INVALID, "request");
  CHECK_REFUSED(llmpool_submit(pool, &request, NULL, &id), INVALID, "queue");
}

static void test_perform_handles(void) {
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  llmpool_event_t done;
  CHECK_REFUSED(llmpool_perform(NULL, &request, &done, sizeof done, NULL), INVALID, "pool");
  CHECK_REFUSED(llmpool_perform(pool, NULL, &done, sizeof done, NULL), INVALID, "request");
  CHECK_REFUSED(llmpool_perform(pool, &request, NULL, sizeof done, NULL), INVALID, "done_out");
  CHECK_REFUSED(llmpool_perform(pool, &request, &done, 0, NULL), INVALID, "event_size");
  CHECK_REFUSED(llmpool_perform(pool, &request, &done, sizeof done - 8, NULL), INVALID, "event_size");
}

static void test_request_sizes(void) {
  GROWN(llmpool_request_t) grown;
  memset(&grown, 0, sizeof grown);
  grown.known = harness_request(server_url(server, "/echo"));
  grown.known.size = sizeof grown;
  CHECK_STATUS(harness_outcome(pool, &grown.known), LLMPOOL_OK);
  grown.tail[0] = 1;
  check_request_refused(&grown.known, UNSUPPORTED, "request");
  const size_t too_small[] = {0, 4, 8, 16, offsetof(llmpool_request_t, url)};
  for (size_t i = 0; i < sizeof too_small / sizeof *too_small; i++) {
    grown.known.size = too_small[i];
    check_request_refused(&grown.known, INVALID, "size");
  }
}

static void test_request_urls(void) {
  const char *bad[] = {
      "",
      "nonsense",
      "//127.0.0.1/",
      "ftp://127.0.0.1/",
      "http://",
      "http:///path",
      "http://a b",
      "http://h:99999/",
      "http://h:port/",
      "http://h/a b",
      "http://h/\x01",
      "http://h/\x7f",
      "http://[::1",
      "http://u:p@h/",
      "https://u@h/",
      "http://h/\r\nX: y",
      "http://h\n.org/",
      "file:///etc/hosts",
  };
  llmpool_request_t request = harness_request(NULL);
  check_request_refused(&request, INVALID, "url");
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    request.url = bad[i];
    check_request_refused(&request, INVALID, "url");
  }
  request.url = "http://h/a\0b";
  request.url_size = 12;
  check_request_refused(&request, INVALID, "url");
}

static void test_url_size_ends_the_url(void) {
  char url[300];
  snprintf(url, sizeof url, "%s(not part of it)", server_url(server, "/echo"));
  llmpool_request_t request = harness_request(url);
  request.url_size = strlen(server_url(server, "/echo"));
  llmpool_event_t done = harness_perform(pool, &request);
  CHECK_STATUS(done.status, LLMPOOL_OK);
  CHECK_EQ(done.http_status, 200);
  harness_release(&done);
}

static void test_request_methods(void) {
  const char *bad[] = {"", "GE T", "GET\r\n", "G:T", "\x01", "GET/"};
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    request.method = bad[i];
    check_request_refused(&request, INVALID, "method");
  }
}

static void test_request_headers(void) {
#define TEXT(text)                                                                                                     \
  { text, sizeof(text) - 1 }
  const struct {
    const char *text;
    size_t size;
  } bad[] = {
      TEXT("nothing"),         TEXT(": value\r\n"),    TEXT("na me: v\r\n"), TEXT("a: b\nc: d\r\n"),
      TEXT("a: b\rc\r\n"),     TEXT("a: b\0c\r\n"),    TEXT("a\0b: c\r\n"),  TEXT("a: b\r\n\r\nc: d\r\n"),
      TEXT(" a: b\r\n"),       TEXT("a: b\r\n c\r\n"), TEXT("a : b\r\n"),    TEXT("\x80: b\r\n"),
      TEXT("a: b\r\nbad\r\n"),
  };
#undef TEXT
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    request.headers = bad[i].text;
    request.headers_size = bad[i].size;
    check_request_refused(&request, INVALID, "header");
  }
  request.headers = NULL;
  request.headers_size = 5;
  check_request_refused(&request, INVALID, "headers");
}

static void test_last_header_line_may_lack_its_end(void) {
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  request.headers = "accept: */*\r\nx-test: seen";
  request.headers_size = strlen(request.headers);
  llmpool_event_t done = harness_perform(pool, &request);
  size_t size = 0;
  const char *value = llmpool_event_header(&done, "X-SEEN", &size);
  CHECK(value != NULL && size == 4 && memcmp(value, "seen", 4) == 0);
  harness_release(&done);
}

static void test_request_body_and_flags(void) {
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  request.body_size = 1;
  check_request_refused(&request, INVALID, "body");
  request = harness_request(server_url(server, "/echo"));
  request.flags = 1u << 31;
  check_request_refused(&request, UNSUPPORTED, "flags");
  request.flags = LLMPOOL_REQUEST_COST_ESTIMATED << 1;
  check_request_refused(&request, UNSUPPORTED, "flags");
  llmpool_event_t done;
  request.flags = LLMPOOL_REQUEST_STREAM; /* perform gives one event only */
  CHECK_REFUSED(llmpool_perform(pool, &request, &done, sizeof done, NULL), INVALID, "flags");
}

static void test_no_secret_in_the_last_error(void) {
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  request.headers = "authorization: Bearer sk-very\nsecret\r\n";
  request.headers_size = strlen(request.headers);
  check_request_refused(&request, INVALID, "header");
  CHECK(strstr(llmpool_last_error(), "sk-very") == NULL && strstr(llmpool_last_error(), "secret") == NULL);
  request = harness_request("https://me:sk-hidden@example.org/");
  check_request_refused(&request, INVALID, "url");
  CHECK(strstr(llmpool_last_error(), "sk-hidden") == NULL);
}

static void test_calls_on_requests(void) {
  CHECK_REFUSED(llmpool_cancel(NULL, 1), INVALID, "pool");
  CHECK_STATUS(llmpool_cancel(pool, 0), LLMPOOL_E_NOT_FOUND);
  CHECK_STATUS(llmpool_cancel(pool, UINT64_MAX), LLMPOOL_E_NOT_FOUND);
  CHECK_REFUSED(llmpool_credit(NULL, 1, 1), INVALID, "pool");
  CHECK_STATUS(llmpool_credit(pool, UINT64_MAX, 1), LLMPOOL_E_NOT_FOUND);
  CHECK_REFUSED(llmpool_write(NULL, 1, "x", 1, 0), INVALID, "pool");
  CHECK_STATUS(llmpool_write(pool, UINT64_MAX, "x", 1, 0), LLMPOOL_E_NOT_FOUND);
  CHECK_REFUSED(llmpool_write(pool, UINT64_MAX, NULL, 1, 0), INVALID, "data");
}

/* ---- queue ---- */

static void test_queue_open(void) {
  llmpool_queue_options_t options = {.size = sizeof options};
  llmpool_queue_t *opened = NULL;
  CHECK_REFUSED(llmpool_queue_open(&options, NULL), INVALID, "queue_out");
  options.size = 0;
  CHECK_REFUSED(llmpool_queue_open(&options, &opened), INVALID, "size");
  options = (llmpool_queue_options_t){.size = sizeof options, .flags = 1u << 31};
  CHECK_REFUSED(llmpool_queue_open(&options, &opened), UNSUPPORTED, "flags");
  GROWN(llmpool_queue_options_t) grown;
  memset(&grown, 0, sizeof grown);
  grown.known.size = sizeof grown;
  CHECK_OK(llmpool_queue_open(&grown.known, &opened));
  CHECK_OK(llmpool_queue_close(opened));
  grown.tail[9] = 1;
  CHECK_REFUSED(llmpool_queue_open(&grown.known, &opened), UNSUPPORTED, "options");
}

static void test_queue_drain(void) {
  llmpool_event_t event;
  CHECK_REFUSED(llmpool_queue_drain(NULL, &event, sizeof event, 1, 0), INVALID, "queue");
  CHECK_REFUSED(llmpool_queue_drain(queue, NULL, sizeof event, 1, 0), INVALID, "events");
  CHECK_REFUSED(llmpool_queue_drain(queue, &event, 0, 1, 0), INVALID, "event_size");
  CHECK_REFUSED(llmpool_queue_drain(queue, &event, sizeof event - 1, 1, 0), INVALID, "event_size");
  CHECK_EQ(llmpool_queue_drain(queue, &event, sizeof event, 1, 0), 0);
  CHECK_EQ(llmpool_queue_drain(queue, &event, sizeof event, 1, 20), 0);
}

static void test_events_of_a_later_release(void) {
  GROWN(llmpool_event_t) grown[2];
  memset(grown, 0xff, sizeof grown);
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  harness_submit(pool, &request, queue);
  CHECK_EQ(llmpool_queue_drain(queue, &grown[0].known, sizeof grown[0], 2, 5000), 1);
  for (size_t i = 0; i < sizeof grown[0].tail; i++)
    CHECK_EQ(grown[0].tail[i], 0);
  CHECK_EQ(grown[1].tail[0], 0xff); /* what was not filled is not touched */
  CHECK_EQ(grown[0].known.kind, LLMPOOL_EVENT_DONE);
  llmpool_events_release(&grown[0].known, sizeof grown[0], 1);
  CHECK(grown[0].known.opaque == NULL);
}

static void test_queue_others(void) {
  llmpool_event_t event;
  memset(&event, 0, sizeof event);
  CHECK_STATUS(llmpool_queue_fd(NULL), INVALID);
  CHECK(llmpool_queue_fd(queue) >= 0);
  CHECK_REFUSED(llmpool_queue_close(NULL), INVALID, "queue");
  llmpool_events_release(NULL, sizeof event, 1);
  llmpool_events_release(&event, 0, 1);
  llmpool_events_release(&event, sizeof event, 0);
  llmpool_events_release(&event, sizeof event, 1); /* an event that never was */
}

static void test_queue_read(void) {
  llmpool_record_t record;
  char bytes[256];
  CHECK_REFUSED(llmpool_queue_read(NULL, &record, sizeof record, 1, bytes, sizeof bytes), INVALID, "queue");
  CHECK_REFUSED(llmpool_queue_read(queue, NULL, sizeof record, 1, bytes, sizeof bytes), INVALID, "records");
  CHECK_REFUSED(llmpool_queue_read(queue, &record, 8, 1, bytes, sizeof bytes), INVALID, "record_size");
  CHECK_REFUSED(llmpool_queue_read(queue, &record, sizeof record, 1, NULL, 5), INVALID, "bytes");
  CHECK_EQ(llmpool_queue_read(queue, &record, sizeof record, 1, bytes, sizeof bytes), 0);
}

static void test_event_header(void) {
  llmpool_event_t event;
  size_t size = 99;
  memset(&event, 0, sizeof event);
  CHECK(llmpool_event_header(NULL, "a", &size) == NULL);
  CHECK(llmpool_event_header(&event, NULL, &size) == NULL);
  CHECK(llmpool_event_header(&event, "a", &size) == NULL);
  CHECK(llmpool_event_header(&event, "a", NULL) == NULL);
}

/* ---- looking at a pool ---- */

static void test_stats(void) {
  llmpool_stats_t stats = {.size = sizeof stats};
  CHECK_REFUSED(llmpool_stats(NULL, NULL, &stats), INVALID, "pool");
  CHECK_REFUSED(llmpool_stats(pool, NULL, NULL), INVALID, "stats_out");
  stats.size = 0;
  CHECK_REFUSED(llmpool_stats(pool, NULL, &stats), INVALID, "size");
  stats.size = sizeof stats;
  CHECK_REFUSED(llmpool_stats(pool, "https://unknown.example:443", &stats), LLMPOOL_E_NOT_FOUND, "origin");
  llmpool_status_t status = llmpool_stats(pool, "nonsense", &stats);
  CHECK(status == INVALID || status == LLMPOOL_E_NOT_FOUND);
  GROWN(llmpool_stats_t) grown;
  memset(&grown, 0, sizeof grown);
  grown.known.size = sizeof grown;
  CHECK_OK(llmpool_stats(pool, NULL, &grown.known));
  CHECK_EQ(grown.known.size, sizeof grown);
}

static void test_texts(void) {
  char text[512];
  CHECK_STATUS((llmpool_status_t)llmpool_origins(NULL, text, sizeof text), INVALID);
  CHECK_STATUS((llmpool_status_t)llmpool_origins(pool, NULL, 5), INVALID);
  int64_t length = llmpool_origins(pool, NULL, 0);
  CHECK(length > 0);
  CHECK_EQ(llmpool_origins(pool, text, sizeof text), length);
  CHECK_EQ(strlen(text), length);
  CHECK(strstr(text, "http://127.0.0.1:") != NULL);
  memset(text, 'z', sizeof text);
  CHECK_EQ(llmpool_origins(pool, text, 5), length);
  CHECK(text[4] == 0 && text[5] == 'z');
  length = llmpool_metrics(pool, LLMPOOL_METRICS_PROMETHEUS, text, sizeof text);
  CHECK(length > 0);
  CHECK_STATUS((llmpool_status_t)llmpool_metrics(pool, LLMPOOL_METRICS_PROMETHEUS, NULL, 5), INVALID);
  CHECK(llmpool_metrics(NULL, LLMPOOL_METRICS_PROMETHEUS, text, sizeof text) < 0);
}

static void test_watch(void) {
  CHECK_REFUSED(llmpool_watch(NULL, queue, 1, 1), INVALID, "pool");
  CHECK_REFUSED(llmpool_watch(pool, NULL, 1, 1), INVALID, "queue");
  CHECK_REFUSED(llmpool_watch(pool, queue, 1u << 31, 1), UNSUPPORTED, "notices");
}

static void run_request_tests(void) {
  RUN(test_submit_handles);
  RUN(test_perform_handles);
  RUN(test_request_sizes);
  RUN(test_request_urls);
  RUN(test_url_size_ends_the_url);
  RUN(test_request_methods);
  RUN(test_request_headers);
  RUN(test_last_header_line_may_lack_its_end);
  RUN(test_request_body_and_flags);
  RUN(test_no_secret_in_the_last_error);
  RUN(test_calls_on_requests);
}

static void set_up(void) {
  server = server_start();
  pool = harness_pool(NULL);
  queue = harness_queue();
}

/* A9: a size that memory cannot have is the caller's error, whatever it is added to. */
static void test_sizes_beyond_memory(void) {
  static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 100, (size_t)1 << 63};
  uint64_t id;
  char text[8];
  llmpool_record_t record;
  for (int i = 0; i < 3; i++) {
    llmpool_request_t request = harness_request("http://127.0.0.1:1/");
    request.body = text;
    request.body_size = sizes[i];
    CHECK_REFUSED(llmpool_submit(pool, &request, queue, &id), INVALID, "body_size");
    request.body_size = 0;
    request.headers = text;
    request.headers_size = sizes[i];
    CHECK_REFUSED(llmpool_submit(pool, &request, queue, &id), INVALID, "headers_size");
    request.headers_size = 0;
    request.headers = NULL;
    request.url_size = sizes[i];
    CHECK_REFUSED(llmpool_submit(pool, &request, queue, &id), INVALID, "url_size");
    CHECK_REFUSED(llmpool_write(pool, 1, text, sizes[i], 0), INVALID, "size");
    CHECK_REFUSED(llmpool_queue_read(queue, &record, sizeof record, 1, text, sizes[i]), INVALID, "bytes_size");
    CHECK_STATUS(llmpool_origins(pool, text, sizes[i]), INVALID);
    CHECK_STATUS(llmpool_metrics(pool, LLMPOOL_METRICS_PROMETHEUS, text, sizes[i]), INVALID);
    llmpool_event_t event = {.opaque = text};
    llmpool_events_release(&event, sizes[i], 1); /* of no release's size: nothing is touched */
    CHECK(event.opaque == text);
  }
}

int main(void) {
  RUN(set_up);
  if (!queue) return check_report();
  RUN(test_options_init);
  RUN(test_options_not_filled_in);
  RUN(test_options_of_a_later_release);
  RUN(test_option_values);
  RUN(test_options_get);
  RUN(test_pool_handles);
  RUN(test_warm);
  run_request_tests();
  RUN(test_queue_open);
  RUN(test_queue_drain);
  RUN(test_events_of_a_later_release);
  RUN(test_queue_others);
  RUN(test_queue_read);
  RUN(test_sizes_beyond_memory);
  RUN(test_event_header);
  RUN(test_stats);
  RUN(test_texts);
  RUN(test_watch);
  return check_report();
}
