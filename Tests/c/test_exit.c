/*
 * test_exit.c - the end of a process: whatever its exit handlers and static destructors do, it ends. The library's own
 * handler comes with its first call, so that what was registered before that runs after it, and finds it closed.
 *
 * Each scenario is a process of its own: this program, run again with the scenario's name.
 */
#include "harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#define SCENARIO_SECONDS_MAX 30
#define EXIT_CODE 7

static llmpool_t *pool, *shared;
static llmpool_queue_t *queue;
static server_t *server;
static llmpool_event_t held;
static void (*last_words)(void);

/* ---- what exit handlers do ---- */

static void close_everything(void) {
  llmpool_events_release(&held, sizeof held, 1);
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_close(pool, 60000));
}

static void call_everything(void) {
  llmpool_request_t request = harness_request("http://127.0.0.1:1/");
  llmpool_options_t options = {.size = sizeof options};
  llmpool_queue_t *other_queue = NULL;
  llmpool_t *other = NULL;
  llmpool_event_t event;
  llmpool_record_t record;
  llmpool_stats_t stats = {.size = sizeof stats};
  char text[64];
  uint64_t id;
  llmpool_status_t results[] = {
      llmpool_open(NULL, &other),
      llmpool_shared(&other),
      llmpool_configure(shared, &options),
      llmpool_options_get(shared, &options, sizeof options),
      llmpool_submit(pool, &request, queue, &id),
      llmpool_perform(shared, &request, &event, sizeof event, NULL),
      llmpool_cancel(pool, 1),
      llmpool_credit(pool, 1, 1),
      llmpool_write(pool, 1, "x", 1, 0),
      llmpool_warm(pool, "http://127.0.0.1:1/", 1),
      llmpool_watch(pool, queue, LLMPOOL_NOTICE_RETRY, 1),
      llmpool_stats(pool, NULL, &stats),
      llmpool_histograms(pool, NULL, NULL, sizeof(llmpool_histogram_t), 0, NULL),
      llmpool_reasons(pool, NULL, NULL, sizeof(llmpool_reason_t), 0, NULL),
      llmpool_requests(pool, NULL, sizeof(llmpool_inflight_t), 0, NULL),
      llmpool_serve_stats(pool, "/nowhere"),
      llmpool_serve_stats(pool, NULL),
      (llmpool_status_t)llmpool_origins(pool, text, sizeof text),
      (llmpool_status_t)llmpool_metrics(pool, LLMPOOL_METRICS_PROMETHEUS, text, sizeof text),
      (llmpool_status_t)llmpool_budgets(pool, text, sizeof text),
      llmpool_budget_settle(pool, 1, 1, 1),
      llmpool_queue_open(NULL, &other_queue),
      llmpool_queue_fd(queue),
      llmpool_queue_drain(queue, &event, sizeof event, 1, -1),
      llmpool_queue_read(queue, &record, sizeof record, 1, text, sizeof text),
  };
  for (size_t i = 0; i < sizeof results / sizeof *results; i++)
    if (results[i] != LLMPOOL_E_CLOSED) check_failed(__FILE__, (int)i, "call %zu gave %d", i, results[i]);
  CHECK_STR(llmpool_status_name(LLMPOOL_E_CLOSED), "LLMPOOL_E_CLOSED");
  CHECK(strstr(llmpool_last_error(), "process") != NULL);
}

static void fork_a_child(void) {
  pid_t child = fork();
  if (child == 0) {
    call_everything();
    _exit(0);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- threads that are in a call when it ends ---- */

static pthread_t threads[8];
static int thread_count;
static atomic_int about_to_wait;

static void in_a_thread(void *(*function)(void *)) {
  CHECK(pthread_create(&threads[thread_count++], NULL, function, NULL) == 0);
}

static void *drain(void *unused) {
  (void)unused;
  llmpool_queue_t *own = harness_queue();
  llmpool_event_t event;
  atomic_fetch_add(&about_to_wait, 1);
  return (void *)(intptr_t)llmpool_queue_drain(own, &event, sizeof event, 1, -1);
}

static void *perform(void *unused) {
  (void)unused;
  llmpool_request_t request = harness_request(server_url(server, "/never"));
  llmpool_event_t event;
  atomic_fetch_add(&about_to_wait, 1);
  return (void *)(intptr_t)llmpool_perform(pool, &request, &event, sizeof event, NULL);
}

/* The only request of its pool: after some lone calls its thread does the pool's work, and waits in poll. */
static void *perform_alone(void *unused) {
  (void)unused;
  llmpool_t *own = harness_pool(NULL);
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  for (int i = 0; i < 10; i++)
    CHECK_STATUS(harness_outcome(own, &request), LLMPOOL_OK);
  llmpool_event_t event;
  request.url = server_url(server, "/never");
  atomic_fetch_add(&about_to_wait, 1);
  return (void *)(intptr_t)llmpool_perform(own, &request, &event, sizeof event, NULL);
}

static void *close_slowly(void *unused) {
  (void)unused;
  llmpool_t *own = harness_pool(NULL);
  llmpool_queue_t *its = harness_queue();
  llmpool_request_t request = harness_request(server_url(server, "/never"));
  harness_submit(own, &request, its);
  atomic_fetch_add(&about_to_wait, 1);
  llmpool_status_t status = llmpool_close(own, 60000);
  return (void *)(intptr_t)(status == LLMPOOL_OK ? LLMPOOL_E_CLOSED : status); /* closing succeeds */
}

static void join_threads(void) {
  for (int i = 0; i < thread_count; i++) {
    void *result;
    pthread_join(threads[i], &result);
    if ((intptr_t)result != LLMPOOL_E_CLOSED)
      check_failed(__FILE__, i, "thread %d got %s", i, llmpool_status_name((llmpool_status_t)(intptr_t)result));
  }
  call_everything();
}

static void *perform_for_ever(void *unused) {
  (void)unused;
  llmpool_request_t request = harness_request(server_url(server, "/size/1000"));
  llmpool_event_t event;
  while (llmpool_perform(shared, &request, &event, sizeof event, NULL) == LLMPOOL_OK)
    llmpool_events_release(&event, sizeof event, 1);
  while (last_words != join_threads) /* nobody asks for it */
    pause();
  return (void *)(intptr_t)LLMPOOL_E_CLOSED;
}

static void start_blocked_threads(void) {
  in_a_thread(drain);
  in_a_thread(perform);
  in_a_thread(perform_alone);
  in_a_thread(close_slowly);
  CHECK_SOON(atomic_load(&about_to_wait) == thread_count);
  check_sleep_ms(50);
}

static void start_busy_threads(void) {
  for (int i = 0; i < 4; i++)
    in_a_thread(perform_for_ever);
  check_sleep_ms(20);
}

/* ---- a scenario ---- */

typedef struct {
  const char *name;
  void (*before)(void);
  void (*at_exit)(void);
} scenario_t;

static const scenario_t scenarios[] = {
    {"nothing", NULL, NULL},
    {"close", NULL, close_everything},
    {"calls", NULL, call_everything},
    {"fork", NULL, fork_a_child},
    {"join", start_blocked_threads, join_threads},
    {"busy", start_busy_threads, call_everything},
    {"busy_join", start_busy_threads, join_threads},
    {"busy_fork", start_busy_threads, fork_a_child},
};

static void speak(void) {
  if (last_words) last_words();
}

/* As C++ does with static objects: once more, after the handlers. */
__attribute__((destructor)) static void speak_again(void) {
  if (last_words && last_words != join_threads) last_words();
}

static void run_scenario(const scenario_t *scenario) {
  alarm(SCENARIO_SECONDS_MAX);
  last_words = scenario->at_exit;
  CHECK(atexit(speak) == 0); /* before the library's first call */
  server = server_start();
  llmpool_request_t request = harness_request(server_url(server, "/size/200000"));
  CHECK_OK(llmpool_shared(&shared));
  llmpool_options_t options = harness_options();
  CHECK_OK(llmpool_configure(shared, &options));
  pool = harness_pool(NULL);
  queue = harness_queue();
  held = harness_perform(shared, &request);
  request.url = server_url(server, "/trickle/1");
  request.flags = LLMPOOL_REQUEST_STREAM;
  for (int i = 0; i < 5; i++) {
    harness_submit(pool, &request, queue);
    harness_submit(shared, &request, queue);
  }
  check_sleep_ms(20);
  if (scenario->before) scenario->before();
  exit(EXIT_CODE);
}

/* ---- the tests ---- */

static int exit_code_of(const scenario_t *scenario) {
  fflush(stdout);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    execl("/proc/self/exe", "test_exit", scenario->name, (char *)NULL);
    _exit(127);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status); /* -14: it hung */
}

static void run_all(int times) {
  for (int i = 0; i < times; i++)
    for (size_t s = 0; s < sizeof scenarios / sizeof *scenarios; s++)
      if (exit_code_of(&scenarios[s]) != EXIT_CODE) check_failed(__FILE__, i, "%s did not end well", scenarios[s].name);
}

static void test_a_process_ends(void) {
  run_all(1);
}

static void test_many_processes_end(void) {
  run_all(check_is_long() ? 200 : 3);
}

int main(int count, char **arguments) {
  for (size_t s = 0; count > 1 && s < sizeof scenarios / sizeof *scenarios; s++)
    if (strcmp(arguments[1], scenarios[s].name) == 0) run_scenario(&scenarios[s]);
  RUN(test_a_process_ends);
  RUN_LONG(test_many_processes_end);
  return check_report();
}
