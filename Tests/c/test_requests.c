/*
 * test_requests.c - requests over HTTP/1.1 from the outside: methods, framing, streams, timeouts, limits, cancel,
 * statistics. After every test the identities of the statistics hold.
 */
#include "harness.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

static server_t *server;
static llmpool_t *pool;
static llmpool_queue_t *queue;

static llmpool_request_t request_to(const char *path) {
  return harness_request(server_url(server, path));
}

static llmpool_event_t perform(const char *path) {
  llmpool_request_t request = request_to(path);
  return harness_perform(pool, &request);
}

static llmpool_status_t outcome(const char *path) {
  llmpool_request_t request = request_to(path);
  return harness_outcome(pool, &request);
}

static void check_header(const llmpool_event_t *event, const char *name, const char *expected) {
  size_t size = 4711;
  const char *value = llmpool_event_header(event, name, &size);
  CHECK(value != NULL);
  CHECK_EQ(size, strlen(expected));
  CHECK(memcmp(value, expected, size) == 0);
}

static void check_filled(const llmpool_event_t *event, size_t size) {
  CHECK_EQ(event->data_size, size);
  for (size_t i = 0; i < size; i++)
    CHECK_EQ(event->data[i], 'x');
  CHECK_EQ(event->data[size], 0); /* not counted, but there */
}

/* ---- methods and framing ---- */

static void test_get(void) {
  llmpool_request_t request = request_to("/echo");
  request.user_data = 42;
  llmpool_event_t done = harness_perform(pool, &request);
  CHECK_STATUS(done.status, LLMPOOL_OK);
  CHECK_EQ(done.http_status, 200);
  CHECK_EQ(done.http_version, LLMPOOL_HTTP_1_1);
  CHECK_EQ(done.user_data, 42);
  CHECK_EQ(done.attempts, 1);
  CHECK_EQ(done.data_size, 0);
  CHECK_STR(done.reason, "OK");
  CHECK(done.connection_id != 0);
  CHECK(strncmp(done.peer, "127.0.0.1:", 10) == 0 && atoi(done.peer + 10) == server_port(server));
  check_header(&done, "X-Method", "GET");
  harness_release(&done);
}

static void test_post(void) {
  llmpool_request_t request = request_to("/echo");
  request.body = "{\"nonce\": \"post-1\"}";
  request.body_size = strlen(request.body);
  request.headers = "content-type: application/json\r\nx-test: a b\r\n";
  request.headers_size = strlen(request.headers);
  llmpool_event_t done = harness_perform(pool, &request);
  CHECK_STATUS(done.status, LLMPOOL_OK);
  CHECK_STR(done.data, request.body);
  CHECK_EQ(done.data_size, request.body_size);
  check_header(&done, "x-method", "POST");
  check_header(&done, "x-seen", "a b");
  CHECK_EQ(server_bodies_with(server, "post-1"), 1);
  harness_release(&done);
}

static void test_methods(void) {
  const char *methods[] = {"PUT", "DELETE", "PATCH", "OPTIONS"};
  for (int i = 0; i < 4; i++) {
    llmpool_request_t request = request_to("/echo");
    request.method = methods[i];
    llmpool_event_t done = harness_perform(pool, &request);
    check_header(&done, "x-method", methods[i]);
    harness_release(&done);
  }
}

static void test_head(void) {
  llmpool_request_t request = request_to("/size/5000");
  request.method = "HEAD";
  for (int i = 0; i < 2; i++) { /* the second shows that the connection is in step */
    llmpool_event_t done = harness_perform(pool, &request);
    CHECK_STATUS(done.status, LLMPOOL_OK);
    CHECK_EQ(done.data_size, 0);
    check_header(&done, "content-length", "5000");
    harness_release(&done);
  }
}

static void test_large_body_both_ways(void) {
  enum { SIZE = 3 * 1000 * 1000 };
  char *body = malloc(SIZE);
  for (int i = 0; i < SIZE; i++)
    body[i] = (char)(i * 31 % 251);
  llmpool_request_t request = request_to("/echo");
  request.body = body;
  request.body_size = SIZE;
  llmpool_event_t done = harness_perform(pool, &request);
  CHECK_STATUS(done.status, LLMPOOL_OK);
  CHECK_EQ(done.data_size, SIZE);
  CHECK(memcmp(done.data, body, SIZE) == 0);
  harness_release(&done);
  free(body);
}

static void test_chunked(void) {
  llmpool_event_t done = perform("/chunked/123456");
  CHECK_STATUS(done.status, LLMPOOL_OK);
  check_filled(&done, 123456);
  harness_release(&done);
}

static void test_until_close(void) {
  llmpool_event_t done = perform("/close/500");
  CHECK_STATUS(done.status, LLMPOOL_OK);
  check_filled(&done, 500);
  harness_release(&done);
}

static void test_error_statuses_are_results(void) {
  llmpool_event_t done = perform("/status/429");
  CHECK_STATUS(done.status, LLMPOOL_OK);
  CHECK_EQ(done.http_status, 429);
  CHECK_STR(done.reason, "Said So");
  harness_release(&done);
  done = perform("/status/503");
  CHECK_STATUS(done.status, LLMPOOL_OK);
  CHECK_EQ(done.http_status, 503);
  harness_release(&done);
}

static void test_event_header(void) {
  llmpool_event_t done = perform("/echo");
  size_t size = 4711;
  check_header(&done, "x-twice", "one");
  check_header(&done, "X-EMPTY", "");
  CHECK(llmpool_event_header(&done, "x-twic", &size) == NULL);
  CHECK(llmpool_event_header(&done, "x-twice:", &size) == NULL);
  CHECK(llmpool_event_header(&done, "", &size) == NULL);
  harness_release(&done);
}

static void test_a_connection_is_reused(void) {
  llmpool_event_t first = perform("/echo"), second = perform("/echo");
  CHECK(second.flags & LLMPOOL_EVENT_REUSED);
  CHECK_EQ(second.connection_id, first.connection_id);
  CHECK(second.request_id != first.request_id);
  harness_release(&first);
  harness_release(&second);
}

static void test_timings_are_in_order(void) {
  llmpool_options_t options = harness_options();
  llmpool_t *fresh = harness_pool(&options);
  llmpool_request_t request = request_to("/delay/30");
  llmpool_event_t done = harness_perform(fresh, &request);
  const llmpool_timings_t *times = done.timings;
  CHECK(times != NULL && times->size >= sizeof *times);
  CHECK(times->connected >= 1);
  CHECK_EQ(times->secured, 0); /* plain */
  CHECK(times->admitted >= 1 && times->admitted <= times->sent);
  CHECK(times->connected <= times->sent && times->sent <= times->first_byte);
  CHECK(times->first_byte <= times->first_data && times->first_data <= times->done);
  CHECK(times->first_byte >= 25000 && times->done < 5000000);
  harness_release(&done);
  done = harness_perform(fresh, &request);
  CHECK_EQ(done.timings->connected, 0); /* it did not wait for a new one */
  harness_release(&done);
  CHECK_OK(llmpool_close(fresh, 0));
}

/* ---- streams ---- */

static void test_stream(void) {
  llmpool_request_t request = request_to("/chunked/200000");
  request.flags = LLMPOOL_REQUEST_STREAM;
  request.user_data = 7;
  uint64_t id = harness_submit(pool, &request, queue);
  llmpool_event_t event = harness_next(queue);
  CHECK_EQ(event.kind, LLMPOOL_EVENT_HEAD);
  CHECK_EQ(event.http_status, 200);
  check_header(&event, "transfer-encoding", "chunked");
  harness_release(&event);
  size_t size = 0;
  for (event = harness_next(queue); event.kind == LLMPOOL_EVENT_DATA; event = harness_next(queue)) {
    CHECK_EQ(event.request_id, id);
    CHECK_EQ(event.user_data, 7);
    CHECK(event.data_size > 0 && event.data_size <= 65536);
    check_filled(&event, event.data_size);
    CHECK(event.credit >= event.data_size);
    size += event.data_size;
    harness_release(&event);
  }
  CHECK_EQ(event.kind, LLMPOOL_EVENT_DONE);
  CHECK_STATUS(event.status, LLMPOOL_OK);
  CHECK_EQ(event.data_size, 0);
  CHECK_EQ(size, 200000);
  harness_release(&event);
}

/* Drains without releasing until nothing comes for a while, and there is `least`, which it waits for; the bytes. */
static size_t hold(llmpool_event_t *events, uint32_t capacity, uint32_t *count, size_t least) {
  size_t held = 0;
  int32_t more;
  while ((more = llmpool_queue_drain(queue, events + *count, sizeof *events, capacity - *count,
                                     held < least ? 10000 : 150 * check_slower())) > 0)
    for (int32_t i = 0; i < more; i++)
      held += events[(*count)++].data_size;
  CHECK_EQ(more, 0);
  return held;
}

static void test_an_unreleased_stream_holds_itself_back_alone(void) {
  enum { SIZE = 8 * 1000 * 1000, CAPACITY = 8192 };
  llmpool_options_t options = harness_options();
  options.stream_window_bytes = 65536;
  llmpool_t *narrow = harness_pool(&options);
  llmpool_event_t *events = calloc(CAPACITY, sizeof *events);
  uint32_t count = 0;
  llmpool_request_t request = request_to("/size/8000000");
  request.flags = LLMPOOL_REQUEST_STREAM;
  harness_submit(narrow, &request, queue);
  size_t held = hold(events, CAPACITY, &count, 1);
  CHECK(held > 0 && held <= 2 * 65536);
  llmpool_request_t other = request_to("/size/100000");
  CHECK_STATUS(harness_outcome(narrow, &other), LLMPOOL_OK);
  llmpool_events_release(events, sizeof *events, count);
  llmpool_event_t event = harness_next(queue);
  for (; event.kind != LLMPOOL_EVENT_DONE; event = harness_next(queue)) {
    held += event.data_size;
    harness_release(&event);
  }
  CHECK_STATUS(event.status, LLMPOOL_OK);
  CHECK_EQ(held, SIZE);
  harness_release(&event);
  free(events);
  CHECK_OK(llmpool_close(narrow, 0));
}

static void test_manual_credit(void) {
  enum { SIZE = 400000, CAPACITY = 4096 };
  llmpool_options_t options = harness_options();
  options.stream_window_bytes = 65536;
  llmpool_t *narrow = harness_pool(&options);
  static llmpool_event_t events[CAPACITY];
  uint32_t count = 0;
  llmpool_request_t request = request_to("/size/400000");
  request.flags = LLMPOOL_REQUEST_STREAM | LLMPOOL_REQUEST_MANUAL_CREDIT;
  uint64_t id = harness_submit(narrow, &request, queue);
  size_t received = hold(events, CAPACITY, &count, 1);
  llmpool_events_release(events, sizeof *events, count);
  count = 0;
  for (size_t more; (more = hold(events, CAPACITY, &count, 0)) > 0; count = 0) { /* of the first window, late */
    received += more;
    llmpool_events_release(events, sizeof *events, count);
  }
  CHECK(received <= 2 * 65536); /* release gives no credit */
  for (size_t consumed = received, step = received; received < SIZE; consumed = step) {
    CHECK_OK(llmpool_credit(narrow, id, consumed));
    step = hold(events, CAPACITY, &count, 1);
    CHECK(step > 0 && step <= consumed + 65536);
    received += step;
  }
  CHECK_EQ(received, SIZE);
  CHECK_EQ(events[count - 1].kind, LLMPOOL_EVENT_DONE);
  CHECK_STATUS(events[count - 1].status, LLMPOOL_OK);
  llmpool_events_release(events, sizeof *events, count);
  CHECK_OK(llmpool_close(narrow, 0));
}

/* ---- records ---- */

static void test_records(void) {
  enum { COUNT = 5 };
  llmpool_record_t records[16];
  static _Alignas(8) char bytes[65536];
  int seen = 0;
  llmpool_request_t request = request_to("/size/1000");
  for (int i = 0; i < COUNT; i++)
    request.user_data = (uint64_t)i + 100, harness_submit(pool, &request, queue);
  while (seen < COUNT) {
    int32_t count = llmpool_queue_read(queue, records, sizeof *records, 16, bytes, sizeof bytes);
    CHECK(count >= 0);
    for (int32_t i = 0; i < count; i++) {
      const llmpool_record_t *record = &records[i];
      CHECK_EQ(record->kind, LLMPOOL_EVENT_DONE);
      CHECK_STATUS(record->status, LLMPOOL_OK);
      CHECK_EQ(record->http_status, 200);
      CHECK(record->user_data >= 100 && record->user_data < 100 + COUNT);
      CHECK_EQ(record->data_end - record->begin, 1000);
      CHECK_EQ(bytes[record->begin], 'x');
      CHECK(memmem(bytes + record->data_end, record->headers_end - record->data_end, "1000\r\n", 6) != NULL);
      CHECK(record->headers_end <= record->sse_event_end && record->sse_id_end <= record->text_end);
      CHECK_STR(bytes + record->sse_id_end, "OK"); /* the reason */
      uint64_t times[9];
      CHECK_EQ((record->timings_end - sizeof times) % 8, 0);
      memcpy(times, bytes + record->timings_end - sizeof times, sizeof times);
      CHECK(times[7] >= times[4] && times[4] > 0);
    }
    seen += count;
    if (count == 0) check_sleep_ms(2);
  }
}

static void test_a_record_too_large_is_drained(void) {
  llmpool_record_t record;
  char bytes[1024];
  llmpool_request_t request = request_to("/size/5000");
  harness_submit(pool, &request, queue);
  int32_t count;
  while ((count = llmpool_queue_read(queue, &record, sizeof record, 1, bytes, sizeof bytes)) == 0)
    check_sleep_ms(2);
  CHECK_STATUS(count, LLMPOOL_E_TOO_LARGE);
  llmpool_event_t event = harness_next(queue);
  check_filled(&event, 5000);
  harness_release(&event);
}

/* ---- what goes wrong ---- */

static void test_truncated_answers_are_never_success(void) {
  CHECK_STATUS(outcome("/truncated"), LLMPOOL_E_READ);
  llmpool_status_t status = outcome("/badchunk");
  CHECK(status == LLMPOOL_E_READ || status == LLMPOOL_E_PROTOCOL);
  CHECK_STATUS(outcome("/garbage"), LLMPOOL_E_PROTOCOL);
}

static void test_a_post_is_never_sent_twice(void) {
  const char *paths[] = {"/readclose", "/readreset"};
  const char *nonces[] = {"nonce-close", "nonce-reset"};
  for (int i = 0; i < 2; i++) {
    CHECK_STATUS(outcome("/echo"), LLMPOOL_OK); /* an idle connection to reuse */
    llmpool_request_t request = request_to(paths[i]);
    request.body = nonces[i];
    request.body_size = strlen(nonces[i]);
    llmpool_event_t done = harness_perform(pool, &request);
    CHECK(done.flags & LLMPOOL_EVENT_REUSED);
    CHECK(done.status == LLMPOOL_E_READ || done.status == LLMPOOL_E_WRITE);
    CHECK(!(done.flags & LLMPOOL_EVENT_UNSEEN));
    harness_release(&done);
    check_sleep_ms(50);
    CHECK_EQ(server_bodies_with(server, nonces[i]), 1);
  }
}

/* A port on which nobody listens, held until the test ends. */
static int bound_port(int *fd_out, int listening) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  *fd_out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(bind(*fd_out, (struct sockaddr *)&address, sizeof address) == 0);
  CHECK(getsockname(*fd_out, (struct sockaddr *)&address, &size) == 0);
  if (listening) CHECK(listen(*fd_out, 0) == 0);
  return ntohs(address.sin_port);
}

static void test_connection_refused(void) {
  int fd;
  char url[64];
  snprintf(url, sizeof url, "http://127.0.0.1:%d/", bound_port(&fd, 0));
  llmpool_request_t request = harness_request(url);
  llmpool_event_t done = harness_perform(pool, &request);
  CHECK_STATUS(done.status, LLMPOOL_E_CONNECT);
  CHECK(done.flags & LLMPOOL_EVENT_UNSEEN);
  CHECK_EQ(done.http_status, 0);
  harness_release(&done);
  close(fd);
}

static void test_a_name_that_does_not_resolve(void) {
  llmpool_request_t request = harness_request("http://does-not-exist.invalid/");
  request.connect_timeout_ms = 10000;
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_E_RESOLVE);
}

static void test_max_response_bytes(void) {
  llmpool_request_t request = request_to("/size/10001");
  request.max_response_bytes = 10000;
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_E_TOO_LARGE);
  request.url = server_url(server, "/chunked/10001");
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_E_TOO_LARGE);
  request.url = server_url(server, "/size/10000");
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_OK);
}

/* C18: what is announced is too large before a byte of it has come. */
static void check_announced(llmpool_t *to, const char *url, const char *length) {
  llmpool_request_t request = harness_request(url);
  request.max_response_bytes = 10000;
  llmpool_event_t done = harness_perform(to, &request);
  CHECK_STATUS(done.status, LLMPOOL_E_TOO_LARGE);
  CHECK(strstr(done.message, length) != NULL);
  harness_release(&done);
  request.method = "HEAD"; /* announces what it does not have */
  CHECK_STATUS(harness_outcome(to, &request), LLMPOOL_OK);
}

static void test_an_announced_body_is_too_large(void) {
  llmpool_request_t request = request_to("/stall/0");
  request.max_response_bytes = 999999;
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_E_TOO_LARGE);
  check_announced(pool, server_url(server, "/size/1000000"), "1000000");
  nghttpd_t *nghttpd = nghttpd_start();
  if (!nghttpd) return;
  char *bytes = calloc(1, 1000000);
  nghttpd_file(nghttpd, "large", bytes, 1000000);
  free(bytes);
  llmpool_t *h2 = harness_pool_h2(harness_options());
  check_announced(h2, nghttpd_url(nghttpd, "/large"), "1000000");
  CHECK_OK(llmpool_close(h2, 0));
  nghttpd_stop(nghttpd);
}

/* ---- timeouts ---- */

static void check_ends(llmpool_request_t request, llmpool_status_t expected, int after_ms) {
  int64_t start = check_now_ms();
  CHECK_STATUS(harness_outcome(pool, &request), expected);
  int64_t taken = check_now_ms() - start;
  CHECK(taken >= after_ms - 20);
  CHECK(taken <= after_ms + 4000 * check_slower());
}

static void test_connect_timeout(void) {
  int listener, fillers[8];
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int port = bound_port(&listener, 1);
  address.sin_port = htons((uint16_t)port);
  for (int i = 0; i < 8; i++) { /* the queue of the listener fills up, further SYNs are dropped */
    fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    connect(fillers[i], (struct sockaddr *)&address, sizeof address);
  }
  char url[64];
  snprintf(url, sizeof url, "http://127.0.0.1:%d/", port);
  llmpool_request_t request = harness_request(url);
  request.connect_timeout_ms = 200;
  check_ends(request, LLMPOOL_E_CONNECT_TIMEOUT, 200);
  for (int i = 0; i < 8; i++)
    close(fillers[i]);
  close(listener);
}

static void test_first_byte_timeout(void) {
  llmpool_request_t request = request_to("/never");
  request.first_byte_timeout_ms = 200;
  request.read_timeout_ms = 50; /* does not run yet */
  check_ends(request, LLMPOOL_E_FIRST_BYTE_TIMEOUT, 200);
}

static void test_read_timeout(void) {
  llmpool_request_t request = request_to("/stall/10");
  request.read_timeout_ms = 200;
  check_ends(request, LLMPOOL_E_READ_TIMEOUT, 200);
  request.url = server_url(server, "/never"); /* without a first-byte timeout it runs there too */
  check_ends(request, LLMPOOL_E_READ_TIMEOUT, 200);
}

static void test_total_timeout(void) {
  llmpool_request_t request = request_to("/trickle/20");
  request.total_timeout_ms = 1500;
  request.read_timeout_ms = 1000; /* each byte starts it anew */
  check_ends(request, LLMPOOL_E_TOTAL_TIMEOUT, 1500);
}

static void test_write_timeout(void) {
  enum { SIZE = 32 * 1024 * 1024 };
  llmpool_request_t request = request_to("/noread");
  char *body = calloc(1, SIZE);
  request.body = body;
  request.body_size = SIZE;
  request.write_timeout_ms = 300;
  int64_t start = check_now_ms();
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_E_WRITE_TIMEOUT);
  CHECK(check_now_ms() - start >= 280 && check_now_ms() - start < 4000);
  free(body);
}

static void test_pool_timeout(void) {
  llmpool_options_t options = harness_options();
  options.max_connections = 1;
  options.pool_timeout_ms = 200;
  llmpool_t *tiny = harness_pool(&options);
  llmpool_request_t request = request_to("/never");
  uint64_t id = harness_submit(tiny, &request, queue);
  CHECK_SOON(harness_stats(tiny).active == 1);
  request.url = server_url(server, "/echo");
  llmpool_event_t done = harness_perform(tiny, &request);
  CHECK_STATUS(done.status, LLMPOOL_E_POOL_TIMEOUT);
  CHECK(done.flags & LLMPOOL_EVENT_UNSEEN);
  harness_release(&done);
  CHECK_OK(llmpool_cancel(tiny, id));
  done = harness_next(queue);
  CHECK_STATUS(done.status, LLMPOOL_E_CANCELLED);
  harness_release(&done);
  CHECK_STATUS(harness_outcome(tiny, &request), LLMPOOL_OK); /* the slot is free again */
  CHECK_OK(llmpool_close(tiny, 0));
}

static void test_no_timeout_overrides_the_pool(void) {
  llmpool_options_t options = harness_options();
  options.read_timeout_ms = 100;
  llmpool_t *hasty = harness_pool(&options);
  llmpool_request_t request = request_to("/never");
  CHECK_STATUS(harness_outcome(hasty, &request), LLMPOOL_E_READ_TIMEOUT);
  request.url = server_url(server, "/delay/400");
  request.read_timeout_ms = LLMPOOL_NO_TIMEOUT;
  CHECK_STATUS(harness_outcome(hasty, &request), LLMPOOL_OK);
  request.read_timeout_ms = 30000;
  CHECK_STATUS(harness_outcome(hasty, &request), LLMPOOL_OK);
  CHECK_OK(llmpool_close(hasty, 0));
}

/* ---- limits ---- */

static void test_queue_full(void) {
  llmpool_options_t options = harness_options();
  options.max_connections = 1;
  options.max_pending_requests = 2;
  llmpool_t *tiny = harness_pool(&options);
  llmpool_request_t request = request_to("/never");
  harness_submit(tiny, &request, queue);
  CHECK_SOON(harness_stats(tiny).active == 1);
  for (int i = 0; i < 2; i++)
    harness_submit(tiny, &request, queue);
  CHECK_SOON(harness_stats(tiny).pending == 2);
  llmpool_event_t done;
  llmpool_status_t status = llmpool_perform(tiny, &request, &done, sizeof done, NULL);
  if (status == LLMPOOL_OK) status = done.status, harness_release(&done);
  CHECK_STATUS(status, LLMPOOL_E_QUEUE_FULL);
  CHECK_OK(llmpool_close(tiny, 0));
  for (int i = 0; i < 3; i++) {
    done = harness_next(queue);
    CHECK_STATUS(done.status, LLMPOOL_E_CLOSED);
    harness_release(&done);
  }
}

static void test_max_connections(void) {
  enum { COUNT = 100 };
  server_t *own = server_start();
  llmpool_options_t options = harness_options();
  options.max_connections = 4;
  llmpool_t *small = harness_pool(&options);
  llmpool_request_t request = harness_request(server_url(own, "/delay/3"));
  for (int i = 0; i < COUNT; i++)
    harness_submit(small, &request, queue);
  for (int i = 0; i < COUNT; i++) {
    llmpool_event_t done = harness_next(queue);
    CHECK_STATUS(done.status, LLMPOOL_OK);
    harness_release(&done);
    CHECK(harness_stats(small).in_use <= 4);
  }
  CHECK_EQ(server_connections_open_max(own), 4);
  CHECK_EQ(server_connections_accepted(own), 4);
  CHECK_OK(llmpool_close(small, 0));
  server_stop(own);
}

static void test_first_come_first_served(void) {
  enum { COUNT = 20 };
  llmpool_options_t options = harness_options();
  options.max_connections = 1;
  llmpool_t *tiny = harness_pool(&options);
  llmpool_request_t request = request_to("/delay/2");
  for (int i = 0; i < COUNT; i++)
    request.user_data = (uint64_t)i, harness_submit(tiny, &request, queue);
  for (int i = 0; i < COUNT; i++) {
    llmpool_event_t done = harness_next(queue);
    CHECK_EQ(done.user_data, i);
    harness_release(&done);
  }
  CHECK_OK(llmpool_close(tiny, 0));
}

static void test_limits_can_be_changed_in_use(void) {
  llmpool_options_t options = harness_options();
  options.max_connections = 1;
  llmpool_t *tiny = harness_pool(&options);
  llmpool_request_t request = request_to("/never");
  for (int i = 0; i < 3; i++)
    harness_submit(tiny, &request, queue);
  CHECK_SOON(harness_stats(tiny).active == 1 && harness_stats(tiny).pending == 2);
  options.max_connections = 3;
  CHECK_OK(llmpool_configure(tiny, &options));
  CHECK_SOON(harness_stats(tiny).active == 3 && harness_stats(tiny).pending == 0);
  CHECK_OK(llmpool_close(tiny, 0));
  for (int i = 0; i < 3; i++) {
    llmpool_event_t done = harness_next(queue);
    harness_release(&done);
  }
}

/* ---- cancel ---- */

static void test_cancel(void) {
  server_t *own = server_start();
  llmpool_request_t request = harness_request(server_url(own, "/never"));
  uint64_t id = harness_submit(pool, &request, queue);
  CHECK_SOON(server_requests(own) == 1);
  CHECK_OK(llmpool_cancel(pool, id));
  llmpool_event_t done = harness_next(queue);
  CHECK_EQ(done.request_id, id);
  CHECK_STATUS(done.status, LLMPOOL_E_CANCELLED);
  harness_release(&done);
  CHECK_STATUS(llmpool_cancel(pool, id), LLMPOOL_E_NOT_FOUND);
  CHECK_SOON(server_connections_open(own) == 0);
  server_stop(own);
}

static void test_cancel_mid_stream(void) {
  llmpool_request_t request = request_to("/stall/10");
  request.flags = LLMPOOL_REQUEST_STREAM;
  uint64_t id = harness_submit(pool, &request, queue);
  llmpool_event_t event = harness_next(queue);
  CHECK_EQ(event.kind, LLMPOOL_EVENT_HEAD);
  harness_release(&event);
  CHECK_OK(llmpool_cancel(pool, id));
  do {
    event = harness_next(queue);
    if (event.kind == LLMPOOL_EVENT_DONE) CHECK_STATUS(event.status, LLMPOOL_E_CANCELLED);
    harness_release(&event);
  } while (event.kind != LLMPOOL_EVENT_DONE);
}

/* ---- statistics ---- */

static void test_stats(void) {
  llmpool_t *fresh = harness_pool(NULL);
  llmpool_request_t request = request_to("/size/1000");
  for (int i = 0; i < 4; i++)
    CHECK_STATUS(harness_outcome(fresh, &request), LLMPOOL_OK);
  request.url = server_url(server, "/truncated");
  CHECK_STATUS(harness_outcome(fresh, &request), LLMPOOL_E_READ);
  llmpool_stats_t stats = harness_stats(fresh);
  CHECK_EQ(stats.submitted, 5);
  CHECK_EQ(stats.succeeded, 4);
  CHECK_EQ(stats.failed, 1);
  CHECK_EQ(stats.cancelled, 0);
  CHECK_EQ(stats.opened, 1);
  CHECK_EQ(stats.closed, 1);
  CHECK_EQ(stats.reused, 4);
  CHECK_EQ(stats.tls_handshakes, 0);
  CHECK(stats.bytes_received > 4000 && stats.bytes_sent > 100);
  CHECK(stats.utilization == 0.0);
  llmpool_stats_t of_origin = {.size = sizeof of_origin};
  CHECK_OK(llmpool_stats(fresh, server_url(server, ""), &of_origin));
  CHECK_EQ(of_origin.submitted, 5);
  CHECK_EQ(of_origin.opened, 1);
  request.url = server_url(server, "/never");
  harness_submit(fresh, &request, queue);
  CHECK_SOON(harness_stats(fresh).active == 1);
  CHECK(harness_stats(fresh).utilization > 0.009 && harness_stats(fresh).utilization < 0.011);
  CHECK_OK(llmpool_close(fresh, 0));
  llmpool_event_t done = harness_next(queue);
  harness_release(&done);
}

/* ---- main ---- */

static void set_up(void) {
  harness_set_up(&server, &pool, &queue);
}

static void tear_down(void) {
  harness_tear_down(server, pool, queue);
}

static void run_basics(void) {
  RUN(test_get);
  RUN(test_post);
  RUN(test_methods);
  RUN(test_head);
  RUN(test_large_body_both_ways);
  RUN(test_chunked);
  RUN(test_until_close);
  RUN(test_error_statuses_are_results);
  RUN(test_event_header);
  RUN(test_a_connection_is_reused);
  RUN(test_timings_are_in_order);
  RUN(test_stream);
  RUN(test_an_unreleased_stream_holds_itself_back_alone);
  RUN(test_manual_credit);
  RUN(test_records);
  RUN(test_a_record_too_large_is_drained);
}

static void run_failures(void) {
  RUN(test_truncated_answers_are_never_success);
  RUN(test_a_post_is_never_sent_twice);
  RUN(test_connection_refused);
  RUN(test_a_name_that_does_not_resolve);
  RUN(test_max_response_bytes);
  RUN(test_an_announced_body_is_too_large);
  RUN(test_connect_timeout);
  RUN(test_first_byte_timeout);
  RUN(test_read_timeout);
  RUN(test_total_timeout);
  RUN(test_write_timeout);
  RUN(test_pool_timeout);
  RUN(test_no_timeout_overrides_the_pool);
  RUN(test_queue_full);
}

int main(void) {
  RUN(set_up);
  if (!queue) return check_report();
  run_basics();
  run_failures();
  RUN(test_max_connections);
  RUN(test_first_come_first_served);
  RUN(test_limits_can_be_changed_in_use);
  RUN(test_cancel);
  RUN(test_cancel_mid_stream);
  RUN(test_stats);
  RUN(tear_down);
  return check_report();
}
