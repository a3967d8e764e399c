/*
 * test_hedging.c - a second attempt where the first is silent: which answer is taken, what becomes of the other, and
 * how many there are.
 */
#include "harness.h"

static server_t *server;
static llmpool_t *pool; /* of the test that runs */
static llmpool_queue_t *queue;

#define SLOW "~60000 200 Slow"
#define FIRST_MS 100 /* until the second is sent */

static void open_pool(uint32_t percent, uint32_t connections) {
  llmpool_options_t options = harness_options();
  options.hedge_percent = percent;
  options.max_connections = connections;
  options.retry_backoff_ms = 1;
  pool = harness_pool(&options);
}

static void close_pool(void) {
  llmpool_stats_t stats = harness_stats(pool);
  CHECK_EQ(stats.pending + stats.active + stats.backing_off + stats.in_use, 0);
  CHECK_OK(llmpool_close(pool, 0));
}

static llmpool_request_t hedged(const char *path, uint32_t after_ms) {
  llmpool_request_t request = harness_request(server_url(server, path));
  request.flags = LLMPOOL_REQUEST_RETRY_SENT;
  request.hedge_after_ms = after_ms;
  return request;
}

/* On a server of its own: each attempt has a connection, and the answer that the plan has for it. */
static void plan_anew(const char *const *plan) {
  server_stop(server);
  server = server_start();
  server_plan(server, plan);
}

/* The answer to a POST that is hedged; both attempts came to the server. */
static void check_planned(const char *const *plan, uint32_t flags, uint32_t status, const char *body, uint64_t won) {
  open_pool(5, 100);
  plan_anew(plan);
  llmpool_request_t request = hedged("/planned", FIRST_MS);
  request.body = "paid for twice";
  request.body_size = strlen(request.body);
  request.flags |= flags;
  llmpool_event_t done = harness_perform(pool, &request);
  CHECK_STATUS(done.status, LLMPOOL_OK);
  CHECK_EQ(done.http_status, status);
  CHECK_STR(done.data, body);
  CHECK_EQ(done.attempts, 2);
  harness_release(&done);
  CHECK_EQ(server_requests(server), 2);
  llmpool_stats_t stats = harness_stats(pool);
  CHECK_EQ(stats.hedges, 1);
  CHECK_EQ(stats.hedges_won, won);
  CHECK_EQ(stats.retries, 0);
  close_pool();
}

static void test_the_second_is_quicker(void) {
  const char *plan[] = {SLOW, NULL};
  check_planned(plan, 0, 200, "ok", 1);
}

static void test_the_first_is_quicker(void) {
  const char *plan[] = {"^404 First", SLOW, NULL};
  check_planned(plan, 0, 404, "busy", 0);
}

/* Of two that run a refusal is no answer. */
static void test_a_refusal_is_dropped(void) {
  const char *of_first[] = {"^503 Busy", "^~1000 200 Late", NULL};
  check_planned(of_first, 0, 200, "busy", 1);
  const char *of_second[] = {"^~1000 404 Late", "429 Busy\nretry-after: 1", NULL};
  check_planned(of_second, LLMPOOL_REQUEST_RETRY_STATUS, 404, "busy", 0);
}

static void test_the_first_is_lost(void) {
  const char *plan[] = {"^", "^~1000 404 Second", NULL};
  check_planned(plan, 0, 404, "busy", 1);
}

static void test_a_streamed_answer(void) {
  const char *plan[] = {SLOW, NULL};
  open_pool(5, 100);
  plan_anew(plan);
  llmpool_request_t request = hedged("/planned", FIRST_MS);
  request.flags |= LLMPOOL_REQUEST_STREAM;
  request.user_data = 7;
  uint64_t id = harness_submit(pool, &request, queue);
  const uint32_t kinds[] = {LLMPOOL_EVENT_HEAD, LLMPOOL_EVENT_DATA, LLMPOOL_EVENT_DONE};
  for (int i = 0; i < 3; i++) {
    llmpool_event_t event = harness_next(queue);
    CHECK_EQ(event.kind, kinds[i]);
    CHECK_EQ(event.request_id, id);
    CHECK_EQ(event.user_data, 7);
    if (i == 0) CHECK_EQ(event.http_status, 200);
    if (i == 1) CHECK_STR(event.data, "ok");
    if (i == 2) CHECK_EQ(event.attempts, 2);
    harness_release(&event);
  }
  close_pool();
}

static void test_a_request_that_is_cancelled(void) {
  const char *plan[] = {SLOW, SLOW, NULL};
  open_pool(5, 100);
  plan_anew(plan);
  llmpool_request_t request = hedged("/planned", 20);
  uint64_t id = harness_submit(pool, &request, queue);
  CHECK_SOON(harness_stats(pool).hedges == 1 && !server_is_planned(server));
  CHECK_EQ(harness_stats(pool).active, 1);
  CHECK_EQ(harness_stats(pool).in_use, 2);
  CHECK_OK(llmpool_cancel(pool, id));
  llmpool_event_t done = harness_next(queue);
  CHECK_STATUS(done.status, LLMPOOL_E_CANCELLED);
  CHECK_EQ(done.attempts, 2);
  harness_release(&done);
  close_pool();
}

/* Never at another's expense, nor beyond its share. */
static void test_where_there_is_none(void) {
  open_pool(5, 1);
  llmpool_request_t request = hedged("/delay/300", 20);
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_OK);
  CHECK_EQ(harness_stats(pool).hedges, 0);
  close_pool();
  open_pool(0, 100);
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_OK);
  CHECK_EQ(harness_stats(pool).hedges, 0);
  close_pool();
  open_pool(5, 100);
  request.hedge_after_ms = LLMPOOL_NO_TIMEOUT;
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_OK);
  for (int i = 0; i < 30; i++) {
    request.hedge_after_ms = 20;
    harness_submit(pool, &request, queue);
  }
  for (int i = 0; i < 30; i++) {
    llmpool_event_t done = harness_next(queue);
    CHECK_STATUS(done.status, LLMPOOL_OK);
    harness_release(&done);
  }
  llmpool_stats_t stats = harness_stats(pool);
  CHECK(stats.hedges > 0 && stats.hedges <= 11); /* ten, and one for twenty that asked */
  close_pool();
}

static void test_a_notice(void) {
  const char *plan[] = {SLOW, NULL};
  open_pool(5, 100);
  CHECK_OK(llmpool_watch(pool, queue, LLMPOOL_NOTICE_HEDGE, 99));
  plan_anew(plan);
  llmpool_request_t request = hedged("/planned", FIRST_MS);
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_OK);
  llmpool_event_t event = harness_next(queue);
  CHECK_EQ(event.kind, LLMPOOL_EVENT_NOTICE);
  CHECK_EQ(event.notice, LLMPOOL_NOTICE_HEDGE);
  CHECK_EQ(event.user_data, 99);
  size_t size;
  const char *value = llmpool_event_header(&event, "after-ms", &size);
  CHECK(value && atoi(value) >= (int)FIRST_MS);
  value = llmpool_event_header(&event, "origin", &size);
  CHECK(value && strncmp(value, server_url(server, ""), size) == 0);
  CHECK(strstr(event.message, "a second time") != NULL);
  harness_release(&event);
  CHECK_OK(llmpool_watch(pool, queue, 0, 0));
  close_pool();
}

static void test_what_is_refused(void) {
  const uint32_t wrong[] = {0, LLMPOOL_REQUEST_RETRY_STATUS, LLMPOOL_REQUEST_RETRY_SENT | LLMPOOL_REQUEST_NO_RETRY,
                            LLMPOOL_REQUEST_RETRY_SENT | LLMPOOL_REQUEST_UPLOAD};
  open_pool(5, 100);
  uint64_t id;
  for (int i = 0; i < 4; i++) {
    llmpool_request_t request = hedged("/echo", 50);
    request.flags = wrong[i];
    CHECK_REFUSED(llmpool_submit(pool, &request, queue, &id), LLMPOOL_E_INVALID_ARGUMENT, "hedge_after_ms");
  }
  close_pool();
  llmpool_options_t options = harness_options();
  CHECK_EQ(options.hedge_percent, 5);
  options.hedge_percent = 101;
  llmpool_t *refused;
  CHECK_REFUSED(llmpool_open(&options, &refused), LLMPOOL_E_INVALID_ARGUMENT, "hedge_percent");
}

/* ---- many ---- */

#define CALLS_MAX 100000
#define AT_ONCE 32

static uint32_t seed = 1;
static uint32_t draw(uint32_t below) {
  seed = seed * 1664525 + 1013904223;
  return (seed >> 8) % below;
}

static uint8_t is_over[CALLS_MAX];
static uint64_t ids[CALLS_MAX];

static void submit_number(int number, uint32_t after_ms) {
  char body[32];
  llmpool_request_t request = hedged("/tail/2", after_ms);
  request.user_data = (uint64_t)number;
  request.body = body;
  request.body_size = (size_t)snprintf(body, sizeof body, "number %d", number);
  if (draw(2) == 0) request.flags |= LLMPOOL_REQUEST_STREAM;
  ids[number] = harness_submit(pool, &request, queue);
}

/* The events of a request whose answer is its own body: nothing comes twice. Returns 1 for its end. */
static int take_event(void) {
  llmpool_event_t event = harness_next(queue);
  int number = (int)event.user_data;
  char body[32];
  snprintf(body, sizeof body, "number %d", number);
  CHECK(!is_over[number]);
  CHECK_EQ(event.request_id, ids[number]);
  if (event.data_size > 0) CHECK_STR(event.data, body);
  int ends = event.kind == LLMPOOL_EVENT_DONE;
  if (ends) {
    is_over[number] = 1;
    CHECK(event.status == LLMPOOL_OK || event.status == LLMPOOL_E_CANCELLED);
  }
  harness_release(&event);
  return ends;
}

/* Each ends once, whatever is cancelled when, and all the places are there afterwards. */
static void test_nothing_is_lost(void) {
  int calls = check_is_long() ? CALLS_MAX : 3000;
  open_pool(100, 2 * AT_ONCE);
  memset(is_over, 0, sizeof is_over);
  int submitted = 0, over = 0;
  while (over < calls) {
    while (submitted < calls && submitted - over < AT_ONCE)
      submit_number(submitted++, 1 + draw(6));
    if (draw(10) == 0) llmpool_cancel(pool, ids[submitted - 1 - (int)draw((uint32_t)(submitted - over))]);
    over += take_event();
  }
  llmpool_stats_t stats = harness_stats(pool);
  CHECK_EQ(stats.succeeded + stats.cancelled, calls);
  CHECK(stats.hedges > 0 && stats.hedges_won <= stats.hedges);
  CHECK_EQ(stats.active + stats.pending + stats.in_use, 0);
  printf("       %d calls, %d hedges of which %d won, %d cancelled\n", calls, (int)stats.hedges, (int)stats.hedges_won,
         (int)stats.cancelled);
  llmpool_request_t request = harness_request(server_url(server, "/never"));
  for (int i = 0; i < 2 * AT_ONCE; i++)
    ids[i] = harness_submit(pool, &request, queue);
  CHECK_SOON(harness_stats(pool).in_use == 2 * AT_ONCE);
  for (int i = 0; i < 2 * AT_ONCE; i++)
    CHECK_OK(llmpool_cancel(pool, ids[i]));
  for (int i = 0; i < 2 * AT_ONCE; i++) {
    llmpool_event_t done = harness_next(queue);
    CHECK_STATUS(done.status, LLMPOOL_E_CANCELLED);
    harness_release(&done);
  }
  close_pool();
}

static int by_size(const void *left, const void *right) {
  uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
  return a < b ? -1 : a > b;
}

/* The 99th percentile of the first byte, in microseconds, of so many calls. */
static uint64_t percentile(int calls, uint32_t after_ms) {
  static uint64_t times[CALLS_MAX];
  open_pool(5, 100);
  for (int submitted = 0, over = 0; over < calls;) {
    llmpool_request_t request = hedged("/tail/200", after_ms);
    while (submitted < calls && submitted - over < AT_ONCE) {
      harness_submit(pool, &request, queue);
      submitted++;
    }
    llmpool_event_t done = harness_next(queue);
    CHECK_STATUS(done.status, LLMPOOL_OK);
    times[over++] = done.timings->first_byte;
    harness_release(&done);
  }
  llmpool_stats_t stats = harness_stats(pool);
  CHECK(stats.hedges * 100 <= (uint64_t)calls * 6);
  qsort(times, (size_t)calls, sizeof times[0], by_size);
  printf("       after %u ms: p50 %d us, p99 %d us, %d hedges of which %d won\n", after_ms, (int)times[calls / 2],
         (int)times[calls * 99 / 100], (int)stats.hedges, (int)stats.hedges_won);
  close_pool();
  return times[calls * 99 / 100];
}

/* Three calls of a hundred take ten times as long. Only where the machine may be taken to have time. */
static void test_the_tail_is_cut(void) {
  if (!check_is_long()) return;
  uint64_t without = percentile(3000, 0), with = percentile(3000, 500);
  CHECK(with * 2 <= without);
}

/* ---- main ---- */

static void set_up(void) {
  server = server_start();
  queue = harness_queue();
}

static void tear_down(void) {
  CHECK_OK(llmpool_queue_close(queue));
  server_stop(server);
}

int main(void) {
  RUN(set_up);
  if (!queue) return check_report();
  RUN(test_the_second_is_quicker);
  RUN(test_the_first_is_quicker);
  RUN(test_a_refusal_is_dropped);
  RUN(test_the_first_is_lost);
  RUN(test_a_streamed_answer);
  RUN(test_a_request_that_is_cancelled);
  RUN(test_where_there_is_none);
  RUN(test_a_notice);
  RUN(test_what_is_refused);
  RUN_LONG(test_nothing_is_lost);
  RUN_LONG(test_the_tail_is_cut);
  RUN(tear_down);
  return check_report();
}
