/*
 * test_budgets.c - budgets: what they let through at which pace, what they refuse and say then, what answers tell them,
 * and what can be seen of them. Which request goes when is tested with the core, without a clock of its own.
 */
#include "harness.h"

static server_t *server;
static llmpool_t *pool;
static llmpool_queue_t *queue;

static llmpool_request_t budgeted(const char *name, const char *path) {
  llmpool_request_t request = harness_request(server_url(server, path));
  request.budget = name;
  return request;
}

static void configure(llmpool_t *pool, const char *name, uint32_t max_concurrent, uint32_t unit, uint64_t amount,
                      uint64_t window_ms) {
  llmpool_budget_t budget = {.size = sizeof budget, .max_concurrent = max_concurrent, .no_learning = 1};
  llmpool_limit_t limit = {.unit = unit, .amount = amount, .window_ms = window_ms};
  CHECK_OK(llmpool_budget_configure(pool, name, &budget, &limit, sizeof limit, amount > 0));
}

static llmpool_budget_t look(llmpool_t *pool, const char *name, llmpool_limit_t *limits, uint32_t *count) {
  llmpool_budget_t budget = {.size = sizeof budget};
  CHECK_OK(llmpool_budget_get(pool, name, &budget, limits, sizeof *limits, limits ? 4 : 0, count));
  return budget;
}

static void test_the_pace_of_a_limit(void) {
  configure(pool, "pace", 0, LLMPOOL_UNIT_REQUESTS, 2, 1000);
  llmpool_request_t request = budgeted("pace", "/echo");
  int64_t start = check_now_ms();
  for (int i = 0; i < 4; i++) {
    llmpool_event_t done = harness_perform(pool, &request);
    CHECK_STATUS(done.status, LLMPOOL_OK);
    CHECK(done.timings->budgeted > 0 && done.timings->budgeted <= done.timings->admitted);
    harness_release(&done);
  }
  CHECK(check_now_ms() - start >= 950);
  llmpool_event_t done = harness_perform(pool, &(llmpool_request_t){.size = sizeof request, .url = request.url});
  CHECK_EQ(done.timings->budgeted, 0); /* it had none */
  harness_release(&done);
}

static void test_what_costs_more_than_allowed(void) {
  configure(pool, "small", 0, LLMPOOL_UNIT_TOKENS, 100, 3600000);
  llmpool_request_t request = budgeted("small", "/echo");
  request.input_cost = 70;
  request.output_cost = 31;
  llmpool_event_t done = harness_perform(pool, &request);
  CHECK_STATUS(done.status, LLMPOOL_E_BUDGET);
  CHECK_EQ(done.flags & LLMPOOL_EVENT_UNSEEN, LLMPOOL_EVENT_UNSEEN);
  CHECK(strstr(done.message, "70 input and 31 output tokens; budget small allows 100 tokens in 3600.0 s") != NULL);
  harness_release(&done);
  request.flags = LLMPOOL_REQUEST_COST_ESTIMATED; /* a guess goes alone */
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_OK);
  llmpool_limit_t limit;
  look(pool, "small", &limit, NULL);
  CHECK(limit.remaining <= 0 && limit.amount == 100 && limit.window_ms == 3600000 && !limit.told);
  done = harness_perform(pool, &request); /* certainly too late */
  CHECK_STATUS(done.status, LLMPOOL_E_BUDGET_TIMEOUT);
  CHECK(strstr(done.message, "of 100 tokens left") != NULL);
  harness_release(&done);
}

static void test_who_holds_the_places(void) {
  configure(pool, "one", 1, 0, 0, 0);
  llmpool_request_t request = budgeted("one", "/never");
  uint64_t held = harness_submit(pool, &request, queue);
  request.url = server_url(server, "/echo");
  request.budget_timeout_ms = 50;
  llmpool_event_t done = harness_perform(pool, &request);
  CHECK_STATUS(done.status, LLMPOOL_E_BUDGET_TIMEOUT);
  char name[32];
  snprintf(name, sizeof name, "%llu", (unsigned long long)held);
  CHECK(strstr(done.message, "max_concurrent 1, held by request ") != NULL && strstr(done.message, name) != NULL);
  harness_release(&done);
  llmpool_budget_t budget = look(pool, "one", NULL, NULL);
  CHECK_EQ(budget.in_flight, 1);
  CHECK_EQ(budget.max_concurrent, 1);
  request.budget_timeout_ms = 5000;
  uint64_t waiting = harness_submit(pool, &request, queue);
  while (look(pool, "one", NULL, NULL).waiting == 0) check_sleep_ms(1);
  CHECK_EQ(harness_stats(pool).awaiting_budget, 1);
  CHECK_OK(llmpool_cancel(pool, held));
  done = harness_next(queue);
  CHECK_EQ(done.request_id, held);
  harness_release(&done);
  done = harness_next(queue);
  CHECK_EQ(done.request_id, waiting);
  CHECK_STATUS(done.status, LLMPOOL_OK);
  harness_release(&done);
}

static void test_settling(void) {
  configure(pool, "settled", 0, LLMPOOL_UNIT_TOKENS, 1000, 86400000);
  llmpool_request_t request = budgeted("settled", "/echo");
  request.input_cost = 100;
  request.output_cost = 400;
  llmpool_limit_t limit;
  uint64_t id = harness_submit(pool, &request, queue);
  llmpool_event_t done = harness_next(queue);
  harness_release(&done);
  look(pool, "settled", &limit, NULL);
  CHECK_EQ(limit.remaining, 500);
  CHECK_OK(llmpool_budget_settle(pool, id, 90, 10));
  CHECK_OK(llmpool_budget_settle(pool, id, 0, 0)); /* once */
  CHECK_OK(llmpool_budget_settle(pool, 12345, 0, 0));
  CHECK_SOON((look(pool, "settled", &limit, NULL), limit.remaining == 900));
}

static void test_what_answers_tell(void) {
  const char *plan[] = {
    "200 OK\nx-ratelimit-limit-requests: 100\nx-ratelimit-remaining-requests: 40\nx-ratelimit-reset-requests: 1m0s",
    "429 Too Many\nretry-after-ms: 1500\nx-ratelimit-limit-requests: 100\nx-ratelimit-remaining-requests: 0\n"
    "x-ratelimit-reset-requests: 100s",
    NULL};
  server_plan(server, plan);
  llmpool_queue_t *notices = harness_queue();
  CHECK_OK(llmpool_watch(pool, notices, LLMPOOL_NOTICE_BUDGET_STOPPED | LLMPOOL_NOTICE_BUDGET_RESUMED, 1));
  llmpool_request_t request = budgeted("told", "/plan");
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_OK);
  llmpool_limit_t limit;
  uint32_t count = 0;
  llmpool_budget_t budget = look(pool, "told", &limit, &count);
  CHECK_EQ(count, 1);
  CHECK(limit.told && limit.unit == LLMPOOL_UNIT_REQUESTS && limit.amount == 100);
  CHECK(limit.remaining >= 40 && limit.remaining <= 45); /* one comes back in a second */
  CHECK(limit.window_ms >= 99000 && limit.window_ms <= 101000);
  CHECK_EQ(budget.refusals, 0);
  int64_t began = check_now_ms();
  llmpool_event_t done = harness_perform(pool, &request);
  CHECK_EQ(done.http_status, 429);
  harness_release(&done);
  budget = look(pool, "told", &limit, &count);
  CHECK(budget.refusals == 1 && budget.stopped_ms <= 1500);
  if (check_now_ms() - began < 900) CHECK(budget.stopped_ms > 0 && limit.remaining <= 0);
  llmpool_event_t notice = harness_next(notices);
  CHECK_EQ(notice.notice, LLMPOOL_NOTICE_BUDGET_STOPPED);
  CHECK(strstr(notice.message, "budget told stops for 1.5 s") != NULL);
  CHECK(strstr(notice.headers, "budget: told\r\nstatus: 429\r\ndelay-ms: 1500\r\n") != NULL);
  harness_release(&notice);
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_OK); /* a request in a second, from the end of the stop on */
  notice = harness_next(notices);
  CHECK_EQ(notice.notice, LLMPOOL_NOTICE_BUDGET_RESUMED);
  harness_release(&notice);
  CHECK_OK(llmpool_queue_close(notices));
}

static void refused(const char *name, const llmpool_budget_t *budget, const llmpool_limit_t *limits, uint32_t count,
                    const char *said) {
  CHECK_STATUS(llmpool_budget_configure(pool, name, budget, limits, sizeof *limits, count),
               LLMPOOL_E_INVALID_ARGUMENT);
  if (!strstr(llmpool_last_error(), said)) check_failed(__FILE__, __LINE__, "\"%s\"", llmpool_last_error());
}

static void test_arguments(void) {
  llmpool_budget_t budget = {.size = sizeof budget};
  llmpool_limit_t limits[7] = {{.amount = 1, .window_ms = 1}};
  for (int i = 1; i < 7; i++) limits[i] = limits[0];
  refused(NULL, &budget, limits, 1, "name: it is NULL");
  refused("", &budget, limits, 1, "name: it is empty");
  refused("a\nb", &budget, limits, 1, "budget: expected a name of 1 to 200 bytes");
  refused("x", NULL, limits, 1, "budget: it is NULL");
  refused("x", &budget, NULL, 1, "limits: NULL, but count is 1");
  refused("x", &budget, limits, 7, "count: expected at most 6 limits, got 7");
  limits[1].unit = 9;
  refused("x", &budget, limits, 2, "limits[1].unit: expected one of LLMPOOL_UNIT_*, got 9");
  limits[1] = (llmpool_limit_t){.amount = 0, .window_ms = 1};
  refused("x", &budget, limits, 2, "limits[1].amount: expected 1 to");
  limits[1] = (llmpool_limit_t){.amount = 1, .window_ms = 0};
  refused("x", &budget, limits, 2, "limits[1].window_ms: expected 1 to");
  budget.no_learning = 2;
  refused("x", &budget, limits, 1, "no_learning: expected 0 or 1, got 2");
  budget.size = 3;
  refused("x", &budget, limits, 1, "budget.size");
  budget.size = sizeof budget;
  CHECK_STATUS(llmpool_budget_get(pool, "nobody", &budget, NULL, 0, 0, NULL), LLMPOOL_E_NOT_FOUND);
  CHECK_STATUS(llmpool_budget_get(pool, "pace", &budget, NULL, 0, 1, NULL), LLMPOOL_E_INVALID_ARGUMENT);
  llmpool_request_t request = budgeted("a\tb", "/echo");
  uint64_t id;
  CHECK_STATUS(llmpool_submit(pool, &request, queue, &id), LLMPOOL_E_INVALID_ARGUMENT);
}

static void test_names(void) {
  char text[256];
  int64_t size = llmpool_budgets(pool, text, sizeof text);
  CHECK(size > 0 && size < (int64_t)sizeof text);
  CHECK(strstr(text, "pace\n") != NULL && strstr(text, "told\n") != NULL);
  CHECK_EQ(llmpool_budgets(pool, NULL, 0), size);
}

static void set_up(void) {
  harness_set_up(&server, &pool, &queue);
}

static void tear_down(void) {
  harness_tear_down(server, pool, queue);
}

int main(void) {
  RUN(set_up);
  if (!queue) return check_report();
  RUN(test_the_pace_of_a_limit);
  RUN(test_what_costs_more_than_allowed);
  RUN(test_who_holds_the_places);
  RUN(test_settling);
  RUN(test_what_answers_tell);
  RUN(test_arguments);
  RUN(test_names);
  RUN(tear_down);
  return check_report();
}
