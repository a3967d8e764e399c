/*
 * test_retries.c - what is sent again and what is not, Retry-After, and who goes first: by priority, and over warmed
 * connections.
 */
#include "harness.h"

static server_t *server;
static llmpool_t *pool;
static llmpool_queue_t *queue;

#define RETRY_STATUS LLMPOOL_REQUEST_RETRY_STATUS
#define RETRY_SENT LLMPOOL_REQUEST_RETRY_SENT

/* Performs a POST to /plan; *took_out in milliseconds. */
static llmpool_event_t planned(const char *const *plan, uint32_t flags, int64_t *took_out) {
  llmpool_request_t request = harness_request(server_url(server, "/plan"));
  request.body = "paid for";
  request.body_size = 8;
  request.flags = flags;
  server_plan(server, plan);
  int64_t start = check_now_ms();
  llmpool_event_t done = harness_perform(pool, &request);
  if (took_out) *took_out = check_now_ms() - start;
  return done;
}

static int64_t check_planned(const char *const *plan, uint32_t flags, uint32_t status, uint32_t attempts) {
  int64_t took;
  int before = server_requests(server);
  llmpool_event_t done = planned(plan, flags, &took);
  CHECK_STATUS(done.status, LLMPOOL_OK);
  CHECK_EQ(done.http_status, status);
  CHECK_EQ(done.attempts, attempts);
  CHECK_STR(done.data, status == 200 ? "ok" : "busy"); /* nothing is left of an answer that was dropped */
  harness_release(&done);
  CHECK_EQ(server_requests(server) - before, attempts);
  return took;
}

static void test_statuses_that_are_tried_again(void) {
  const char *plan[] = {"429 X\nretry-after: 0", "500 X\nretry-after-ms: 1", NULL};
  check_planned(plan, RETRY_STATUS, 200, 3);
  const char *statuses[] = {"408", "409", "429", "500", "502", "503", "504", "529"};
  for (int i = 0; i < 8; i++) {
    char line[64];
    snprintf(line, sizeof line, "%s X\nretry-after: 0", statuses[i]);
    const char *once[] = {line, NULL};
    check_planned(once, RETRY_STATUS, 200, 2);
    check_sleep_ms(350); /* the budget of retries is 3 a second */
  }
}

static void test_statuses_that_are_not(void) {
  const char *bad_request[] = {"400 X\nretry-after: 0", NULL}, *busy[] = {"503 X\nretry-after: 0", NULL};
  check_planned(bad_request, RETRY_STATUS, 400, 1);
  check_planned(busy, 0, 503, 1);
  check_planned(busy, RETRY_SENT, 503, 1);
  check_planned(busy, RETRY_STATUS | LLMPOOL_REQUEST_NO_RETRY, 503, 1);
}

static void test_retry_after_is_obeyed(void) {
  const char *seconds[] = {"429 X\nRetry-After: 1", NULL}, *milliseconds[] = {"429 X\nretry-after-ms: 300", NULL};
  int64_t took = check_planned(seconds, RETRY_STATUS, 200, 2);
  CHECK(took >= 1000 && took < 1000 + 5000 * check_slower());
  took = check_planned(milliseconds, RETRY_STATUS, 200, 2);
  CHECK(took >= 300 && took < 300 + 5000 * check_slower());
}

static void test_a_longer_retry_after_gives_the_answer_in_hand(void) {
  const char *plan[] = {"429 X\nretry-after: 61", NULL}, *fitting[] = {"429 X\nretry-after: 50", NULL};
  CHECK(check_planned(plan, RETRY_STATUS, 429, 1) < 5000 * check_slower());
  llmpool_request_t request = harness_request(server_url(server, "/plan"));
  request.flags = RETRY_STATUS;
  request.total_timeout_ms = 30000;
  server_plan(server, fitting);
  llmpool_event_t done = harness_perform(pool, &request); /* it would end before the retry */
  CHECK_STATUS(done.status, LLMPOOL_OK);
  CHECK_EQ(done.http_status, 429);
  harness_release(&done);
}

static void test_x_should_retry(void) {
  const char *no[] = {"503 X\nx-should-retry: false", NULL};
  const char *yes[] = {"400 X\nx-should-retry: true\r\nretry-after: 0", NULL};
  check_planned(no, RETRY_STATUS, 503, 1);
  check_planned(yes, RETRY_STATUS, 200, 2);
}

#define JSON "content-type: application/json\n\n"
#define QUOTA(code) "{\"error\": {\"message\": \"You exceeded your quota\", \"code\": \"" code "\"}}"

/* A quota that is spent is told in the body alone. */
static void test_a_quota_that_is_spent(void) {
  const char *spent[] = {"429 X\nretry-after: 0\r\n" JSON QUOTA("insufficient_quota"), NULL};
  const char *rate[] = {"429 X\nretry-after: 0\r\n" JSON QUOTA("rate_limit_exceeded"), NULL};
  const char *other[] = {"503 X\nretry-after: 0\r\n" JSON QUOTA("insufficient_quota"), NULL};
  const char *told[] = {"429 X\nretry-after: 0\r\nx-should-retry: true\r\n" JSON QUOTA("insufficient_quota"), NULL};
  int64_t took;
  llmpool_event_t done = planned(spent, RETRY_STATUS, &took);
  CHECK_EQ(done.http_status, 429);
  CHECK_EQ(done.attempts, 1);
  CHECK_STR(done.data, QUOTA("insufficient_quota"));
  harness_release(&done);
  check_planned(rate, RETRY_STATUS, 200, 2);
  check_planned(other, RETRY_STATUS, 200, 2);
  check_planned(told, RETRY_STATUS, 200, 2); /* a header's word counts more */
}

static void test_no_more_than_max_retries(void) {
  const char *plan[] = {"503 1\nretry-after: 0", "503 2\nretry-after: 0", "503 3\nretry-after: 0", NULL};
  check_planned(plan, RETRY_STATUS, 503, 3); /* max_retries is 2 */
}

/* A streamed answer that is tried again shows nothing of the first: one HEAD. */
static void test_a_streamed_answer(void) {
  const char *plan[] = {"503 X\nretry-after: 0", NULL};
  server_plan(server, plan);
  llmpool_request_t request = harness_request(server_url(server, "/plan"));
  request.flags = RETRY_STATUS | LLMPOOL_REQUEST_STREAM;
  harness_submit(pool, &request, queue);
  const uint32_t kinds[] = {LLMPOOL_EVENT_HEAD, LLMPOOL_EVENT_DATA, LLMPOOL_EVENT_DONE};
  for (int i = 0; i < 3; i++) {
    llmpool_event_t event = harness_next(queue);
    CHECK_EQ(event.kind, kinds[i]);
    if (i == 0) CHECK_EQ(event.http_status, 200);
    if (i == 1) CHECK_STR(event.data, "ok");
    if (i == 2) CHECK_EQ(event.attempts, 2);
    harness_release(&event);
  }
}

static void test_a_lost_answer(void) {
  const char *lost[] = {"", NULL};
  check_planned(lost, RETRY_SENT, 200, 2);
  const uint32_t others[] = {0, RETRY_STATUS, RETRY_SENT | LLMPOOL_REQUEST_NO_RETRY};
  for (int i = 0; i < 3; i++) {
    int before = server_requests(server);
    llmpool_event_t done = planned(lost, others[i], NULL);
    CHECK_STATUS(done.status, LLMPOOL_E_READ);
    CHECK_EQ(done.attempts, 1);
    CHECK(!(done.flags & LLMPOOL_EVENT_UNSEEN));
    harness_release(&done);
    CHECK_EQ(server_requests(server) - before, 1);
  }
}

/* Its own bounds come before the pool's. */
static void test_bounds_of_a_request(void) {
  const char *plan[] = {"503 X\nretry-after: 0", "503 X\nretry-after: 0", "503 X\nretry-after: 0", NULL};
  const uint32_t counts[] = {1, 3};
  for (int i = 0; i < 2; i++) {
    server_plan(server, plan);
    llmpool_request_t request = harness_request(server_url(server, "/plan"));
    request.flags = RETRY_STATUS;
    request.max_retries = counts[i];
    harness_submit(pool, &request, queue);
    llmpool_event_t done = harness_next(queue);
    CHECK_EQ(done.http_status, i == 0 ? 503 : 200);
    CHECK_EQ(done.attempts, counts[i] + 1);
    harness_release(&done);
  }
  const char *late[] = {"429 X\nretry-after: 1", NULL};
  const uint32_t bounds[] = {500, 2000, LLMPOOL_NO_TIMEOUT};
  for (int i = 0; i < 3; i++) {
    server_plan(server, late);
    llmpool_request_t request = harness_request(server_url(server, "/plan"));
    request.flags = RETRY_STATUS;
    request.retry_after_max_ms = bounds[i];
    harness_submit(pool, &request, queue);
    llmpool_event_t done = harness_next(queue);
    CHECK_EQ(done.http_status, i == 0 ? 429 : 200);
    harness_release(&done);
  }
}

/* A delivered part rules a retry out, whatever the request allows. */
static void test_a_broken_stream_is_not_tried_again(void) {
  int before = server_requests(server);
  llmpool_request_t request = harness_request(server_url(server, "/truncated"));
  request.flags = RETRY_SENT | LLMPOOL_REQUEST_STREAM;
  harness_submit(pool, &request, queue);
  llmpool_event_t event = harness_next(queue);
  CHECK_EQ(event.kind, LLMPOOL_EVENT_HEAD);
  while (event.kind != LLMPOOL_EVENT_DONE)
    harness_release(&event), event = harness_next(queue);
  CHECK_STATUS(event.status, LLMPOOL_E_READ);
  harness_release(&event);
  CHECK_EQ(server_requests(server) - before, 1);
}

static void test_cancel_while_backing_off(void) {
  const char *plan[] = {"429 X\nretry-after: 30", NULL};
  server_plan(server, plan);
  llmpool_request_t request = harness_request(server_url(server, "/plan"));
  request.flags = RETRY_STATUS;
  uint64_t id = harness_submit(pool, &request, queue);
  CHECK_SOON(harness_stats(pool).backing_off == 1);
  CHECK_OK(llmpool_cancel(pool, id));
  llmpool_event_t done = harness_next(queue);
  CHECK_STATUS(done.status, LLMPOOL_E_CANCELLED);
  harness_release(&done);
}

/* ---- priority ---- */

static void test_priority(void) {
  static const int32_t priorities[] = {0, -5, 7, 0, 7, INT32_MIN, INT32_MAX, -5};
  static const uint64_t order[] = {6, 2, 4, 0, 3, 1, 7, 5};
  llmpool_options_t options = harness_options();
  options.max_connections = 1;
  llmpool_t *tiny = harness_pool(&options);
  llmpool_queue_t *other = harness_queue();
  llmpool_request_t request = harness_request(server_url(server, "/never"));
  uint64_t blocker = harness_submit(tiny, &request, other);
  CHECK_SOON(harness_stats(tiny).active == 1);
  request.url = server_url(server, "/delay/2");
  for (uint64_t i = 0; i < 8; i++) {
    request.user_data = i;
    request.priority = priorities[i];
    harness_submit(tiny, &request, queue);
  }
  CHECK_OK(llmpool_cancel(tiny, blocker));
  for (int i = 0; i < 8; i++) {
    llmpool_event_t done = harness_next(queue);
    CHECK_STATUS(done.status, LLMPOOL_OK);
    CHECK_EQ(done.user_data, order[i]);
    harness_release(&done);
  }
  CHECK_OK(llmpool_queue_close(other));
  CHECK_OK(llmpool_close(tiny, 0));
}

/* ---- warm ---- */

static void test_warm(void) {
  server_t *own = server_start();
  llmpool_options_t options = harness_options();
  options.max_connections = 4;
  llmpool_t *warm = harness_pool(&options);
  CHECK_OK(llmpool_warm(warm, server_url(own, "/"), 0));
  check_sleep_ms(50);
  CHECK_EQ(harness_stats(warm).opened, 0);
  CHECK_OK(llmpool_warm(warm, server_url(own, "/"), 3));
  CHECK_SOON(harness_stats(warm).idle == 3);
  CHECK_OK(llmpool_warm(warm, server_url(own, "/any"), 3)); /* they are there */
  llmpool_request_t request = harness_request(server_url(own, "/delay/50"));
  for (int i = 0; i < 3; i++)
    harness_submit(warm, &request, queue);
  for (int i = 0; i < 3; i++) {
    llmpool_event_t done = harness_next(queue);
    CHECK_STATUS(done.status, LLMPOOL_OK);
    CHECK_EQ(done.timings->connected, 0);
    harness_release(&done);
  }
  CHECK_EQ(server_connections_accepted(own), 3);
  CHECK_OK(llmpool_warm(warm, server_url(own, "/"), 100)); /* no more than the limit */
  CHECK_SOON(harness_stats(warm).idle == 4 && server_connections_open_max(own) == 4);
  check_sleep_ms(50);
  CHECK_EQ(server_connections_open_max(own), 4);
  CHECK_EQ(harness_stats(warm).submitted, 3); /* warming is no request */
  CHECK_OK(llmpool_close(warm, 0));
  server_stop(own);
}

static void test_warm_of_a_server_that_is_down(void) {
  server_t *own = server_start();
  char url[64];
  strcpy(url, server_url(own, "/"));
  server_stop(own);
  llmpool_t *warm = harness_pool(NULL);
  CHECK_OK(llmpool_warm(warm, url, 2));
  CHECK_SOON(harness_stats(warm).connect_failures >= 1 && harness_stats(warm).connecting == 0);
  CHECK_OK(llmpool_close(warm, 0));
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
  RUN(test_statuses_that_are_tried_again);
  RUN(test_statuses_that_are_not);
  RUN(test_retry_after_is_obeyed);
  RUN(test_a_longer_retry_after_gives_the_answer_in_hand);
  RUN(test_x_should_retry);
  RUN(test_a_quota_that_is_spent);
  RUN(test_no_more_than_max_retries);
  RUN(test_a_streamed_answer);
  RUN(test_a_lost_answer);
  RUN(test_bounds_of_a_request);
  RUN(test_a_broken_stream_is_not_tried_again);
  RUN(test_cancel_while_backing_off);
  RUN(test_priority);
  RUN(test_warm);
  RUN(test_warm_of_a_server_that_is_down);
  RUN(tear_down);
  return check_report();
}
