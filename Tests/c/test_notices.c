/*
 * test_notices.c - what a pool tells of itself: notices to a queue that watches, metrics as text, and wakes that are
 * put off (coalesce_us).
 */
#include "harness.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#define ALL                                                                                                            \
  (LLMPOOL_NOTICE_UTILIZATION_HIGH | LLMPOOL_NOTICE_UTILIZATION_NORMAL | LLMPOOL_NOTICE_CONNECTION_OPENED |            \
   LLMPOOL_NOTICE_CONNECTION_CLOSED | LLMPOOL_NOTICE_RETRY)

static server_t *server;
static llmpool_queue_t *queue; /* of requests */
static llmpool_queue_t *notices;

static void check_field(const llmpool_event_t *event, const char *name, const char *expected) {
  size_t size = 0;
  const char *value = llmpool_event_header(event, name, &size);
  if (!value || size != strlen(expected) || memcmp(value, expected, size) != 0)
    check_failed(__FILE__, __LINE__, "%s in \"%s\", expected %s", name, event->headers, expected);
}

/* The next notice is of that kind; it is to be released. */
static llmpool_event_t notice(uint32_t kind) {
  llmpool_event_t event = harness_next(notices);
  CHECK_EQ(event.kind, LLMPOOL_EVENT_NOTICE);
  CHECK_EQ(event.notice, kind);
  CHECK_EQ(event.user_data, 99);
  size_t size;
  CHECK_EQ(event.request_id != 0, llmpool_event_header(&event, "request", &size) != NULL);
  CHECK(event.message != NULL && strlen(event.message) > 10);
  CHECK_EQ(strlen(event.headers), event.headers_size);
  return event;
}

static void expect(uint32_t kind, const char *field, const char *value) {
  llmpool_event_t event = notice(kind);
  check_field(&event, field, value);
  harness_release(&event);
}

static void expect_none(void) {
  llmpool_event_t event;
  CHECK_EQ(llmpool_queue_drain(notices, &event, sizeof event, 1, 50), 0);
}

static void ends_with(llmpool_status_t status) {
  llmpool_event_t event = harness_next(queue);
  CHECK_EQ(event.kind, LLMPOOL_EVENT_DONE);
  CHECK_STATUS(event.status, status);
  harness_release(&event);
}

/* ---- notices ---- */

static void test_connections(void) {
  llmpool_t *pool = harness_pool(NULL);
  CHECK_OK(llmpool_watch(pool, notices, ALL, 99));
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  llmpool_event_t done = harness_perform(pool, &request);
  llmpool_event_t event = notice(LLMPOOL_NOTICE_CONNECTION_OPENED);
  check_field(&event, "origin", server_url(server, ""));
  check_field(&event, "peer", done.peer);
  check_field(&event, "version", "HTTP/1.1");
  CHECK_EQ(event.connection_id, done.connection_id);
  harness_release(&event);
  request.url = server_url(server, "/close/5");
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_OK);
  event = notice(LLMPOOL_NOTICE_CONNECTION_CLOSED);
  CHECK_EQ(event.connection_id, done.connection_id);
  check_field(&event, "origin", server_url(server, ""));
  check_field(&event, "reason", "not-reusable");
  harness_release(&event);
  harness_release(&done);
  expect_none();
  CHECK_OK(llmpool_close(pool, 0));
}

static void test_reasons(void) {
  llmpool_options_t options = harness_options();
  options.keepalive_expiry_ms = 50;
  llmpool_t *pool = harness_pool(&options);
  CHECK_OK(llmpool_watch(pool, notices, LLMPOOL_NOTICE_CONNECTION_CLOSED, 99));
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_OK);
  expect(LLMPOOL_NOTICE_CONNECTION_CLOSED, "reason", "expired");
  request.url = server_url(server, "/never");
  uint64_t id = harness_submit(pool, &request, queue);
  CHECK_SOON(harness_stats(pool).active == 1);
  CHECK_OK(llmpool_cancel(pool, id));
  ends_with(LLMPOOL_E_CANCELLED);
  expect(LLMPOOL_NOTICE_CONNECTION_CLOSED, "reason", "aborted");
  request.url = server_url(server, "/truncated");
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_E_READ);
  expect(LLMPOOL_NOTICE_CONNECTION_CLOSED, "reason", "error");
  options.keepalive_expiry_ms = 60000;
  CHECK_OK(llmpool_configure(pool, &options));
  request.url = server_url(server, "/echo");
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_OK);
  CHECK_OK(llmpool_close(pool, 0)); /* what happens until the end is told */
  expect(LLMPOOL_NOTICE_CONNECTION_CLOSED, "reason", "pool-closed");
  expect_none();
}

static void test_utilization(void) {
  llmpool_options_t options = harness_options();
  options.max_connections = 10;
  llmpool_t *pool = harness_pool(&options);
  uint64_t ids[12];
  CHECK_OK(llmpool_watch(pool, notices, LLMPOOL_NOTICE_UTILIZATION_HIGH | LLMPOOL_NOTICE_UTILIZATION_NORMAL, 99));
  llmpool_request_t request = harness_request(server_url(server, "/never"));
  for (int i = 0; i < 8; i++)
    ids[i] = harness_submit(pool, &request, queue);
  CHECK_SOON(harness_stats(pool).in_use == 8);
  expect_none(); /* at the level, not above */
  for (int i = 8; i < 12; i++)
    ids[i] = harness_submit(pool, &request, queue);
  llmpool_event_t event = notice(LLMPOOL_NOTICE_UTILIZATION_HIGH);
  check_field(&event, "used", "9");
  check_field(&event, "limit", "10");
  size_t size;
  CHECK(llmpool_event_header(&event, "waiting", &size) && llmpool_event_header(&event, "longest-wait-ms", &size));
  CHECK(strstr(event.message, "9/10 (90 %)") && strstr(event.message, "max_connections"));
  harness_release(&event);
  CHECK_SOON(harness_stats(pool).in_use == 10);
  for (int i = 11; i >= 8; i--) { /* back to the level, which is not yet below it */
    CHECK_OK(llmpool_cancel(pool, ids[i]));
    ends_with(LLMPOOL_E_CANCELLED);
  }
  CHECK_SOON(harness_stats(pool).in_use == 8);
  ids[8] = harness_submit(pool, &request, queue);
  CHECK_SOON(harness_stats(pool).in_use == 9);
  expect_none();
  for (int i = 8; i >= 7; i--) {
    CHECK_OK(llmpool_cancel(pool, ids[i]));
    ends_with(LLMPOOL_E_CANCELLED);
  }
  expect(LLMPOOL_NOTICE_UTILIZATION_NORMAL, "used", "7");
  expect_none();
  CHECK_OK(llmpool_watch(pool, notices, 0, 0));
  CHECK_OK(llmpool_close(pool, 0));
  for (int i = 0; i < 7; i++)
    ends_with(LLMPOOL_E_CLOSED);
}

static void test_retry(void) {
  const char *plan[] = {"429 X\nretry-after-ms: 20\nrequest-id: req_1", "500 X\nx-request-id: req\t2", "", NULL};
  llmpool_options_t options = harness_options();
  options.max_retries = 3;
  llmpool_t *pool = harness_pool(&options);
  CHECK_OK(llmpool_watch(pool, notices, LLMPOOL_NOTICE_RETRY, 99));
  server_plan(server, plan);
  llmpool_request_t request = harness_request(server_url(server, "/plan"));
  request.headers = "authorization: Bearer sk-secret\r\n";
  request.headers_size = strlen(request.headers);
  request.flags = LLMPOOL_REQUEST_RETRY_STATUS | LLMPOOL_REQUEST_RETRY_SENT;
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_OK);
  llmpool_event_t event = notice(LLMPOOL_NOTICE_RETRY);
  check_field(&event, "origin", server_url(server, ""));
  check_field(&event, "reason", "status 429");
  check_field(&event, "delay-ms", "20");
  check_field(&event, "attempt", "1");
  check_field(&event, "request-id", "req_1");
  CHECK(strstr(event.message, "status 429 (request id req_1)"));
  CHECK(!strstr(event.message, "sk-secret") && !strstr(event.headers, "sk-secret"));
  char id[24];
  snprintf(id, sizeof id, "%llu", (unsigned long long)event.request_id);
  check_field(&event, "request", id);
  CHECK(event.request_id > 0 && event.connection_id > 0 && event.user_data == 99);
  CHECK(event.timings && event.timings->admitted > 0 && event.timings->done >= event.timings->first_byte);
  harness_release(&event);
  event = notice(LLMPOOL_NOTICE_RETRY);
  check_field(&event, "reason", "status 500");
  size_t size; /* one that could forge a line is left out */
  CHECK(!llmpool_event_header(&event, "request-id", &size));
  harness_release(&event);
  event = notice(LLMPOOL_NOTICE_RETRY);
  check_field(&event, "reason", "read");
  check_field(&event, "attempt", "3");
  CHECK(!llmpool_event_header(&event, "request-id", &size) && event.timings->done > 0);
  harness_release(&event);
  CHECK_OK(llmpool_close(pool, 0));
}

static void test_the_mask_can_be_changed(void) {
  llmpool_t *pool = harness_pool(NULL);
  CHECK_REFUSED(llmpool_watch(pool, notices, 1u << 31, 1), LLMPOOL_E_UNSUPPORTED, "notices");
  CHECK_OK(llmpool_watch(pool, notices, LLMPOOL_NOTICE_RETRY, 99));
  CHECK_OK(llmpool_watch(pool, notices, LLMPOOL_NOTICE_CONNECTION_OPENED, 99)); /* in its place, not beside it */
  llmpool_request_t request = harness_request(server_url(server, "/close/5"));
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_OK);
  expect(LLMPOOL_NOTICE_CONNECTION_OPENED, "version", "HTTP/1.1");
  expect_none();
  CHECK_OK(llmpool_watch(pool, notices, 0, 99));
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_OK);
  expect_none();
  CHECK_OK(llmpool_close(pool, 0));
}

static void test_a_closed_queue_watches_no_more(void) {
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *other = harness_queue();
  CHECK_OK(llmpool_watch(pool, other, ALL, 1));
  CHECK_OK(llmpool_watch(pool, notices, LLMPOOL_NOTICE_CONNECTION_OPENED, 99));
  CHECK_OK(llmpool_queue_close(other));
  llmpool_request_t request = harness_request(server_url(server, "/close/5"));
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_OK);
  expect(LLMPOOL_NOTICE_CONNECTION_OPENED, "version", "HTTP/1.1");
  CHECK_STATUS(llmpool_watch(pool, other, ALL, 1), LLMPOOL_E_CLOSED);
  CHECK_OK(llmpool_close(pool, 0));
}

static void test_a_queue_that_nobody_drains_loses_the_oldest(void) {
  enum { COUNT = 700, KEPT = 1024 };
  llmpool_t *pool = harness_pool(NULL);
  CHECK_OK(llmpool_watch(pool, notices, LLMPOOL_NOTICE_CONNECTION_OPENED | LLMPOOL_NOTICE_CONNECTION_CLOSED, 99));
  llmpool_request_t request = harness_request(server_url(server, "/close/5"));
  uint64_t last = 0;
  for (int i = 0; i < COUNT; i++) {
    llmpool_event_t done = harness_perform(pool, &request);
    CHECK_STATUS(done.status, LLMPOOL_OK);
    last = done.connection_id;
    harness_release(&done);
  }
  harness_submit(pool, &request, notices); /* a DONE among them is never lost */
  CHECK_SOON(harness_stats(pool).succeeded == COUNT + 1);
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_OK); /* a turn tells what it counted before the next begins */
  static llmpool_event_t events[2 * COUNT];
  int32_t count = llmpool_queue_drain(notices, events, sizeof *events, 2 * COUNT, 0);
  CHECK_EQ(count, KEPT + 1);
  int done = 0;
  for (int32_t i = 0; i < count; i++)
    done += events[i].kind == LLMPOOL_EVENT_DONE;
  CHECK_EQ(done, 1);
  CHECK(events[count - 1].connection_id == last + ((uint64_t)1 << 32) || events[count - 1].connection_id != 0);
  CHECK(strstr(events[0].headers, "reason") || strstr(events[0].headers, "peer"));
  llmpool_events_release(events, sizeof *events, (uint32_t)count);
  CHECK_OK(llmpool_close(pool, 0));
  while (llmpool_queue_drain(notices, events, sizeof *events, 1, 0) == 1)
    harness_release(events);
}

/* ---- metrics ---- */

static char *metrics_of(llmpool_t *pool, uint32_t format) {
  int64_t size = llmpool_metrics(pool, format, NULL, 0);
  CHECK(size > 0);
  char *text = malloc((size_t)size + 4096);
  CHECK(llmpool_metrics(pool, format, text, (size_t)size + 4096) > 0);
  return text;
}

/* The sum over the origins of a metric. */
static double metric(const char *text, const char *name) {
  char key[100];
  double sum = 0;
  int found = 0;
  snprintf(key, sizeof key, "\nllmpool_%s{", name);
  for (const char *at = text; (at = strstr(at, key)) != NULL; found++) {
    at = strstr(at, "} ");
    CHECK(at != NULL);
    sum += atof(at + 2);
  }
  if (!found) check_failed(__FILE__, __LINE__, "no metric %s", name);
  return sum;
}

/* Every line is a comment of a family or a sample of the one that was announced last. */
static void check_format(const char *text) {
  char family[100] = "", line[400], name[100];
  for (const char *next; *text; text = next) {
    const char *end = strchr(text, '\n');
    CHECK(end != NULL); /* the last line has an end, too */
    next = end + 1;
    snprintf(line, sizeof line, "%.*s", (int)(end - text), text);
    if (sscanf(line, "# TYPE %99s", family) == 1 || strncmp(line, "# HELP ", 7) == 0) continue;
    CHECK(sscanf(line, "%99[a-z_]", name) == 1);
    CHECK(strncmp(name, family, strlen(family)) == 0);
    char *value = strrchr(line, ' '), *rest;
    CHECK(value != NULL);
    strtod(value + 1, &rest);
    CHECK(*rest == 0 && rest > value + 1);
  }
}

static void check_with_promtool(const char *text) {
  if (access("/usr/bin/promtool", X_OK) != 0) return;
  FILE *tool = popen("/usr/bin/promtool check metrics", "w");
  CHECK(tool != NULL);
  CHECK(fputs(text, tool) >= 0);
  CHECK_EQ(pclose(tool), 0);
}

static void test_metrics(void) {
  llmpool_t *pool = harness_pool(NULL);
  char *empty = metrics_of(pool, LLMPOOL_METRICS_PROMETHEUS); /* without an origin */
  check_format(empty);
  free(empty);
  server_t *second = server_start();
  const char *urls[] = {server_url(server, "/size/1000"), server_url(second, "/truncated"),
                        server_url(second, "/echo")};
  for (int i = 0; i < 3; i++) {
    llmpool_request_t request = harness_request(urls[i]);
    harness_outcome(pool, &request);
  }
  llmpool_stats_t stats = harness_stats(pool);
  char *text = metrics_of(pool, LLMPOOL_METRICS_PROMETHEUS);
  check_format(text);
  check_with_promtool(text);
  CHECK_EQ(metric(text, "requests_submitted_total"), stats.submitted);
  CHECK_EQ(metric(text, "requests_succeeded_total"), stats.succeeded);
  CHECK_EQ(metric(text, "requests_failed_total"), stats.failed);
  CHECK_EQ(metric(text, "connections_opened_total"), stats.opened);
  CHECK_EQ(metric(text, "connections_closed_total"), stats.closed);
  CHECK_EQ(metric(text, "connections_idle"), stats.idle);
  CHECK_EQ(metric(text, "sent_bytes_total"), stats.bytes_sent);
  CHECK_EQ(metric(text, "received_bytes_total"), stats.bytes_received);
  CHECK_EQ(metric(text, "request_duration_seconds_count"), 3);
  CHECK(metric(text, "request_duration_seconds_sum") > 0);
  CHECK_EQ(stats.submitted, 3);
  CHECK(strstr(text, "le=\"+Inf\"") && strstr(text, "llmpool_utilization_ratio "));
  memset(text, 'z', 10); /* cut, as snprintf() does */
  CHECK_EQ(llmpool_metrics(pool, LLMPOOL_METRICS_PROMETHEUS, text, 5), strlen(text + 10) + 10);
  CHECK(text[4] == 0 && text[5] == 'z');
  free(text);
  CHECK_REFUSED((llmpool_status_t)llmpool_metrics(pool, 3, NULL, 0), LLMPOOL_E_INVALID_ARGUMENT, "format");
  char *open = metrics_of(pool, LLMPOOL_METRICS_OPENMETRICS);
  CHECK(strstr(open, "# TYPE llmpool_requests_submitted counter\n"));
  CHECK(strstr(open, "# UNIT llmpool_sent_bytes bytes\n"));
  CHECK_EQ(metric(open, "requests_submitted_total"), stats.submitted);
  CHECK(strcmp(open + strlen(open) - 6, "# EOF\n") == 0);
  free(open);
  CHECK_OK(llmpool_close(pool, 0));
  server_stop(second);
}

/* ---- wakes that are put off ---- */

static llmpool_queue_t *coalescing(uint32_t microseconds) {
  llmpool_queue_options_t options = {.size = sizeof options, .coalesce_us = microseconds};
  llmpool_queue_t *opened = NULL;
  CHECK_OK(llmpool_queue_open(&options, &opened));
  return opened;
}

static int readable(int fd, int timeout_ms) {
  struct pollfd item = {fd, POLLIN, 0};
  return poll(&item, 1, timeout_ms);
}

static void drain_kinds(llmpool_queue_t *from, int *heads, int *bytes) {
  llmpool_event_t events[64];
  int32_t more = llmpool_queue_drain(from, events, sizeof *events, 64, 0);
  CHECK(more >= 0);
  for (int32_t i = 0; i < more; i++)
    *(events[i].kind == LLMPOOL_EVENT_HEAD ? heads : bytes) += 1;
  llmpool_events_release(events, sizeof *events, (uint32_t)more);
}

static void drain_all(llmpool_queue_t *from, int *count) { drain_kinds(from, count, count); }

/* The time is long and the bounds are wide, so that a busy machine does not matter. */
static void test_the_first_wake_comes_at_once(void) {
  enum { SPELL_MS = 4000, AT_ONCE_MS = 3000, PUT_OFF_MS = 500 };
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *slow = coalescing(SPELL_MS * 1000);
  int fd = llmpool_queue_fd(slow), count = 0;
  llmpool_request_t request = harness_request(server_url(server, "/never"));
  harness_submit(pool, &request, slow); /* others are in flight all the time */
  harness_submit(pool, &request, slow);
  request.url = server_url(server, "/echo");
  int64_t start = check_now_ms();
  harness_submit(pool, &request, slow);
  CHECK_EQ(readable(fd, 10000), 1);
  CHECK(check_now_ms() - start < AT_ONCE_MS * check_slower());
  drain_all(slow, &count);
  start = check_now_ms();
  harness_submit(pool, &request, slow); /* the next within the time is put off */
  CHECK_EQ(readable(fd, 10000), 1);
  if (check_slower() == 1) CHECK(check_now_ms() - start > PUT_OFF_MS);
  drain_all(slow, &count);
  CHECK_EQ(count, 2);
  check_sleep_ms(SPELL_MS + 50);
  start = check_now_ms();
  harness_submit(pool, &request, slow); /* after a quiet spell it comes at once again */
  CHECK_EQ(readable(fd, 10000), 1);
  CHECK(check_now_ms() - start < AT_ONCE_MS * check_slower());
  CHECK_OK(llmpool_queue_close(slow));
  CHECK_OK(llmpool_close(pool, 0));
}

static void test_a_lone_request_is_not_put_off(void) {
  enum { CALLS = 50 };
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *slow = coalescing(1000 * 1000);
  int fd = llmpool_queue_fd(slow), count = 0;
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  int64_t start = check_now_ms();
  for (int i = 0; i < CALLS; i++) {
    harness_submit(pool, &request, slow);
    CHECK_EQ(readable(fd, 10000), 1);
    drain_all(slow, &count);
  }
  CHECK_EQ(count, CALLS);
  CHECK(check_now_ms() - start < CALLS * 500 * check_slower());
  CHECK_OK(llmpool_queue_close(slow));
  CHECK_OK(llmpool_close(pool, 0));
}

/* Pieces of streams may wait longer than what else comes. */
static void test_streams_are_put_off_longer(void) {
  enum { LONG_MS = 20000 };
  llmpool_queue_options_t options = {
      .size = sizeof options, .coalesce_us = 1000, .stream_coalesce_us = LONG_MS * 1000};
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *slow = NULL;
  CHECK_OK(llmpool_queue_open(&options, &slow));
  int fd = llmpool_queue_fd(slow), count = 0;
  llmpool_request_t request = harness_request(server_url(server, "/trickle/250"));
  request.flags = LLMPOOL_REQUEST_STREAM;
  int64_t start = check_now_ms();
  harness_submit(pool, &request, slow);
  harness_submit(pool, &request, slow);
  int heads = 0, bytes = 0; /* of each stream the head and a byte are told at once */
  CHECK_SOON((drain_kinds(slow, &heads, &bytes), heads == 2 && bytes >= 2));
  while (readable(fd, 0) == 1)
    drain_all(slow, &count);
  CHECK_EQ(readable(fd, 300), 0); /* bytes come, and nobody is waked for them */
  request = harness_request(server_url(server, "/echo"));
  harness_submit(pool, &request, slow); /* its answer is told, and they with it */
  CHECK_EQ(readable(fd, 10000 * check_slower()), 1);
  if (check_slower() == 1) CHECK(check_now_ms() - start < LONG_MS);
  drain_all(slow, &count);
  CHECK(count > 2);
  CHECK_OK(llmpool_queue_close(slow));
  CHECK_OK(llmpool_close(pool, 0));
}

static void test_at_most_one_wake_in_the_time(void) {
  enum { SPELL_MS = 50 };
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *slow = coalescing(SPELL_MS * 1000);
  int fd = llmpool_queue_fd(slow), wakes = 0, count = 0;
  llmpool_request_t request = harness_request(server_url(server, "/never"));
  harness_submit(pool, &request, slow); /* others are in flight all the time */
  harness_submit(pool, &request, slow);
  request.url = server_url(server, "/chunked/2000");
  int64_t start = check_now_ms();
  for (int sent = 0, done = 0; done < 200; done = count) {
    for (int i = 0; i < 4 && sent < 200; i++, sent++)
      harness_submit(pool, &request, slow);
    if (readable(fd, 5) == 1) wakes++, drain_all(slow, &count);
    CHECK(check_now_ms() - start < 20000);
  }
  CHECK_EQ(count, 200);
  CHECK(wakes <= (check_now_ms() - start) / SPELL_MS + 2);
  CHECK_OK(llmpool_queue_close(slow));
  CHECK_OK(llmpool_close(pool, 0));
}

static void *drain_one(void *argument) {
  llmpool_event_t event;
  int64_t start = check_now_ms();
  CHECK_EQ(llmpool_queue_drain(argument, &event, sizeof event, 1, 60000), 1);
  CHECK_STATUS(event.status, LLMPOOL_OK);
  harness_release(&event);
  CHECK(check_now_ms() - start < 30000);
  return NULL;
}

/* A wake that was put off comes with the end of the pool, as nobody is left to bring it later. */
static void test_closing_the_pool_wakes(void) {
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *slow = coalescing(3600u * 1000 * 1000);
  int count = 0;
  llmpool_request_t request = harness_request(server_url(server, "/never"));
  harness_submit(pool, &request, slow);
  harness_submit(pool, &request, slow);
  request.url = server_url(server, "/echo");
  harness_submit(pool, &request, slow);
  CHECK_SOON((drain_all(slow, &count), count == 1));
  pthread_t waiting;
  CHECK(pthread_create(&waiting, NULL, drain_one, slow) == 0);
  check_sleep_ms(50);
  harness_submit(pool, &request, slow);
  CHECK_SOON(harness_stats(pool).succeeded == 2);
  CHECK_OK(llmpool_close(pool, 0));
  pthread_join(waiting, NULL);
  CHECK_OK(llmpool_queue_close(slow));
}

/* ---- main ---- */

static void set_up(void) {
  server = server_start();
  queue = harness_queue();
  notices = harness_queue();
}

static void tear_down(void) {
  llmpool_event_t event;
  CHECK_EQ(llmpool_queue_drain(queue, &event, sizeof event, 1, 0), 0);
  CHECK_EQ(llmpool_queue_drain(notices, &event, sizeof event, 1, 0), 0);
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_queue_close(notices));
  server_stop(server);
}

int main(void) {
  RUN(set_up);
  if (!notices) return check_report();
  RUN(test_connections);
  RUN(test_reasons);
  RUN(test_utilization);
  RUN(test_retry);
  RUN(test_the_mask_can_be_changed);
  RUN(test_a_closed_queue_watches_no_more);
  RUN(test_a_queue_that_nobody_drains_loses_the_oldest);
  RUN(test_metrics);
  RUN(test_the_first_wake_comes_at_once);
  RUN(test_a_lone_request_is_not_put_off);
  RUN(test_streams_are_put_off_longer);
  RUN(test_at_most_one_wake_in_the_time);
  RUN(test_closing_the_pool_wakes);
  RUN(tear_down);
  return check_report();
}
