/*
 * test_drive.c - threads that do the pool's work for their own lone call (LLMPOOL_QUEUE_DRIVE, llmpool_perform):
 * nothing depends on their doing it, and nobody else notices.
 */
#include "harness.h"

#include <dirent.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

static server_t *server;

static llmpool_queue_t *driving_queue(void) {
  llmpool_queue_options_t options = {.size = sizeof options, .flags = LLMPOOL_QUEUE_DRIVE};
  llmpool_queue_t *queue = NULL;
  CHECK_OK(llmpool_queue_open(&options, &queue));
  return queue;
}

/* One call as a binding makes it: submit, wait on the descriptor, drain without waiting. */
static llmpool_event_t call(llmpool_t *pool, llmpool_queue_t *queue, const char *path) {
  llmpool_request_t request = harness_request(server_url(server, path));
  llmpool_event_t event;
  struct pollfd readable = {.fd = llmpool_queue_fd(queue), .events = POLLIN};
  int32_t count = 0;
  harness_submit(pool, &request, queue);
  while (count == 0) {
    CHECK_EQ(poll(&readable, 1, 5000 * check_slower()), 1);
    count = llmpool_queue_drain(queue, &event, sizeof event, 1, 0);
  }
  CHECK_EQ(count, 1);
  return event;
}

static void call_ok(llmpool_t *pool, llmpool_queue_t *queue, const char *path, size_t size) {
  llmpool_event_t event = call(pool, queue, path);
  CHECK_STATUS(event.status, LLMPOOL_OK);
  CHECK_EQ(event.data_size, size);
  harness_release(&event);
}

/* Enough lone calls that the queue drives. */
static void settle(llmpool_t *pool, llmpool_queue_t *queue) {
  for (int i = 0; i < 10; i++)
    call_ok(pool, queue, "/size/10", 10);
}

/* How often the threads of pools went to sleep. */
static long sleeps_of_pool_threads(void) {
  long sum = 0;
  DIR *tasks = opendir("/proc/self/task");
  CHECK(tasks != NULL);
  for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
    char path[300], line[200], name[40] = "";
    long count = 0;
    snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
      sscanf(line, "Name: %39s", name);
      sscanf(line, "voluntary_ctxt_switches: %ld", &count);
    }
    if (file != NULL) fclose(file);
    if (strcmp(name, "llmpool") == 0) sum += count;
  }
  closedir(tasks);
  return sum;
}

enum { CALLS = 2000 };

static void call_by_a_queue(llmpool_t *pool, llmpool_queue_t *queue) {
  call_ok(pool, queue, "/size/10", 10);
}

static void call_by_perform(llmpool_t *pool, llmpool_queue_t *queue) {
  (void)queue;
  llmpool_request_t request = harness_request(server_url(server, "/size/10"));
  llmpool_event_t done = harness_perform(pool, &request);
  CHECK_EQ(done.data_size, 10);
  harness_release(&done);
}

/* How often the pool's thread slept during so many calls, beyond its look every 10 ms: of a few rounds the least. On a
 * busy machine such a look may find the turn taken by the next call each time that it wakes for it, and sleep again. */
static long least_sleeps(llmpool_t *pool, llmpool_queue_t *queue, void (*call)(llmpool_t *, llmpool_queue_t *)) {
  enum { ROUNDS = 5 };
  long least = LONG_MAX;
  for (int round = 0; round < ROUNDS; round++) {
    int64_t began = check_now_ms();
    long before = sleeps_of_pool_threads();
    for (int i = 0; i < CALLS / ROUNDS; i++)
      call(pool, queue);
    long looks = (check_now_ms() - began) / 10;
    long slept = (sleeps_of_pool_threads() - before - 2 * looks) * ROUNDS;
    if (slept < least) least = slept;
  }
  return least;
}

static void test_the_thread_of_the_pool_sleeps_on(void) {
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *queue = driving_queue();
  settle(pool, queue);
  CHECK(least_sleeps(pool, queue, call_by_a_queue) < CALLS / 4);
  CHECK(least_sleeps(pool, queue, call_by_perform) < CALLS / 2);
  CHECK_EQ(harness_stats(pool).succeeded, 2 * CALLS + 10);
  CHECK_EQ(harness_stats(pool).opened, 1);
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_close(pool, 0));
}

static void test_an_answer_that_nobody_drains_is_read(void) {
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *queue = driving_queue();
  settle(pool, queue);
  llmpool_request_t request = harness_request(server_url(server, "/delay/20"));
  harness_submit(pool, &request, queue);
  CHECK_SOON(harness_stats(pool).succeeded == 11);
  struct pollfd readable = {.fd = llmpool_queue_fd(queue), .events = POLLIN};
  CHECK_EQ(poll(&readable, 1, 5000 * check_slower()), 1); /* it is counted before it is told */
  llmpool_event_t event = harness_next(queue);
  CHECK_STATUS(event.status, LLMPOOL_OK);
  harness_release(&event);
  CHECK_EQ(poll(&readable, 1, 100), 0); /* empty: quiet */
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_close(pool, 0));
}

static void test_timeouts_need_no_driver(void) {
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *queue = driving_queue();
  settle(pool, queue);
  llmpool_request_t request = harness_request(server_url(server, "/never"));
  request.total_timeout_ms = 50;
  harness_submit(pool, &request, queue);
  CHECK_SOON(harness_stats(pool).failed == 1);
  llmpool_event_t event = harness_next(queue);
  CHECK_STATUS(event.status, LLMPOOL_E_TOTAL_TIMEOUT);
  harness_release(&event);
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_close(pool, 0));
}

static void test_a_connection_closed_between_calls(void) {
  llmpool_options_t options = harness_options();
  options.keepalive_expiry_ms = 50;
  llmpool_t *pool = harness_pool(&options);
  llmpool_queue_t *queue = driving_queue();
  settle(pool, queue);
  CHECK_SOON(harness_stats(pool).idle == 0); /* without another call */
  settle(pool, queue);
  CHECK(harness_stats(pool).opened >= 2);
  for (int i = 0; i < 20; i++)
    call_ok(pool, queue, "/close/10", 10); /* each on a new connection */
  CHECK_SOON(harness_stats(pool).in_use == 0);
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_close(pool, 0));
}

/* ---- others beside the driver ---- */

typedef struct {
  llmpool_t *pool;
  llmpool_queue_t *queue;
  const char *path;
} caller_t;

static void *call_on_a_thread(void *argument) {
  caller_t *caller = argument;
  llmpool_event_t *event = malloc(sizeof *event);
  *event = call(caller->pool, caller->queue, caller->path);
  return event;
}

static void test_others_do_not_wait_for_the_driver(void) {
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *queue = driving_queue(), *other = harness_queue();
  settle(pool, queue);
  caller_t caller = {pool, queue, "/delay/3000"};
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, call_on_a_thread, &caller) == 0);
  CHECK_SOON(harness_stats(pool).active == 1);
  int64_t began = check_now_ms();
  for (int i = 0; i < 100; i++)
    call_ok(pool, other, "/size/10", 10);
  CHECK(check_now_ms() - began < 2500 * check_slower());
  void *event;
  pthread_join(thread, &event);
  CHECK_STATUS(((llmpool_event_t *)event)->status, LLMPOOL_OK);
  harness_release(event);
  free(event);
  settle(pool, queue);
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_queue_close(other));
  CHECK_OK(llmpool_close(pool, 0));
}

static void test_two_queues_take_turns(void) {
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *queues[2] = {driving_queue(), driving_queue()};
  for (int i = 0; i < 200; i++)
    call_ok(pool, queues[i / 7 % 2], "/size/10", 10);
  CHECK_EQ(harness_stats(pool).opened, 1);
  CHECK_OK(llmpool_queue_close(queues[0]));
  settle(pool, queues[1]);
  CHECK_OK(llmpool_queue_close(queues[1]));
  CHECK_OK(llmpool_close(pool, 0));
}

static void test_two_pools_on_one_queue(void) {
  llmpool_t *pools[2] = {harness_pool(NULL), harness_pool(NULL)};
  llmpool_queue_t *queue = driving_queue();
  struct pollfd readable = {.fd = llmpool_queue_fd(queue), .events = POLLIN};
  for (int i = 0; i < 200; i++)
    call_ok(pools[i / 7 % 2], queue, "/size/10", 10);
  CHECK_EQ(poll(&readable, 1, 50), 0);
  for (int i = 0; i < 2; i++) {
    settle(pools[i], queue);
    CHECK_OK(llmpool_close(pools[i], 0));
    CHECK_EQ(poll(&readable, 1, 50), 0); /* nothing of the pool is left in it */
  }
  CHECK_OK(llmpool_queue_close(queue));
}

enum { HAMMERS = 4, BLOWS = 300 };

static void *hammer(void *argument) {
  caller_t *caller = argument;
  unsigned seed = (unsigned)(uintptr_t)&seed;
  for (int i = 0; i < BLOWS; i++) {
    call_ok(caller->pool, caller->queue, "/size/10", 10);
    if (rand_r(&seed) % 20 == 0) check_sleep_ms(rand_r(&seed) % 15);
  }
  return NULL;
}

static void test_threads_that_are_alone_now_and_then(void) {
  llmpool_t *pool = harness_pool(NULL);
  caller_t callers[HAMMERS];
  pthread_t threads[HAMMERS];
  for (int i = 0; i < HAMMERS; i++) {
    callers[i] = (caller_t){pool, driving_queue(), NULL};
    CHECK(pthread_create(&threads[i], NULL, hammer, &callers[i]) == 0);
  }
  for (int i = 0; i < HAMMERS; i++) {
    pthread_join(threads[i], NULL);
    CHECK_OK(llmpool_queue_close(callers[i].queue));
  }
  llmpool_stats_t stats = harness_stats(pool);
  CHECK_EQ(stats.succeeded, HAMMERS * BLOWS);
  CHECK(stats.opened <= HAMMERS);
  CHECK_OK(llmpool_close(pool, 0));
}

/* ---- large answers and streams ---- */

static void test_large_answers(void) {
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *queue = driving_queue();
  settle(pool, queue);
  for (int i = 0; i < 5; i++) {
    call_ok(pool, queue, "/size/10000000", 10000000);
    call_ok(pool, queue, "/size/10", 10);
  }
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_close(pool, 0));
}

static void test_a_stream_is_read_as_records(void) {
  static char bytes[1 << 18];
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *queue = driving_queue();
  settle(pool, queue);
  llmpool_request_t request = harness_request(server_url(server, "/chunked/300000"));
  request.flags = LLMPOOL_REQUEST_STREAM;
  struct pollfd readable = {.fd = llmpool_queue_fd(queue), .events = POLLIN};
  size_t size = 0;
  int done = 0;
  harness_submit(pool, &request, queue);
  while (!done) {
    llmpool_record_t records[16];
    CHECK_EQ(poll(&readable, 1, 5000 * check_slower()), 1);
    int32_t count = llmpool_queue_read(queue, records, sizeof *records, 16, bytes, sizeof bytes);
    CHECK(count >= 0);
    for (int i = 0; i < count; i++) {
      if (records[i].kind == LLMPOOL_EVENT_DATA) size += records[i].data_end - records[i].begin;
      if (records[i].kind == LLMPOOL_EVENT_DONE) done = 1;
    }
  }
  CHECK_EQ(size, 300000);
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_close(pool, 0));
}

/* ---- who is woken ---- */

typedef struct {
  llmpool_queue_t *queue;
  _Atomic int *is_done;
  _Atomic long *empty; /* wakes with nothing to take */
} poller_t;

static void *poll_and_drain(void *argument) {
  poller_t *poller = argument;
  struct pollfd readable = {.fd = llmpool_queue_fd(poller->queue), .events = POLLIN};
  while (!*poller->is_done) {
    llmpool_event_t event;
    if (poll(&readable, 1, 20) != 1) continue;
    int32_t count = llmpool_queue_drain(poller->queue, &event, sizeof event, 1, 0);
    CHECK(count >= 0);
    if (count == 0) ++*poller->empty;
    if (count == 1 && event.kind == LLMPOOL_EVENT_DONE) *poller->is_done = 1;
    if (count == 1) harness_release(&event);
  }
  return NULL;
}

/* Whoever finds another at it is not told of the same work again and again: once it was 70,000 wakes. */
static void test_who_finds_the_turn_taken_sleeps_on(void) {
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *queue = driving_queue();
  settle(pool, queue);
  llmpool_request_t request = harness_request(server_url(server, "/size/60000000"));
  _Atomic int is_done = 0;
  _Atomic long empty = 0;
  poller_t poller = {queue, &is_done, &empty};
  pthread_t threads[2];
  harness_submit(pool, &request, queue);
  for (int i = 0; i < 2; i++)
    CHECK(pthread_create(&threads[i], NULL, poll_and_drain, &poller) == 0);
  for (int i = 0; i < 2; i++)
    pthread_join(threads[i], NULL);
  CHECK(empty < 5000);
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_close(pool, 0));
}

/* A few of the attempts, as the machine may be late itself; once it was 20 ms as a rule. fuzz_turns looks closer. */
static void test_a_timeout_is_not_slept_over(void) {
  enum { ATTEMPTS = 21, ENOUGH = 4 };
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *queue = driving_queue();
  int on_time = 0;
  for (int i = 0; i < ATTEMPTS && on_time < ENOUGH; i++) {
    settle(pool, queue);
    call_ok(pool, queue, "/delay/130", 4); /* the pool's thread looks seldom by now */
    llmpool_request_t request = harness_request(server_url(server, "/never"));
    request.total_timeout_ms = 5;
    harness_submit(pool, &request, queue);
    llmpool_event_t event = harness_next(queue);
    CHECK_STATUS(event.status, LLMPOOL_E_TOTAL_TIMEOUT);
    on_time += (int64_t)event.timings->done - 5000 < 12000 * check_slower();
    harness_release(&event);
  }
  CHECK_EQ(on_time, ENOUGH);
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_close(pool, 0));
}

/* While wakes are put off the sockets are looked at all the same where a request waits for a connection: 2 ms of
 * coalescing for each of 100 answers would be 200 ms, at each attempt. */
static void test_requests_that_wait_are_not_put_off(void) {
  llmpool_options_t options = harness_options();
  options.max_connections = 1;
  llmpool_t *pool = harness_pool(&options);
  llmpool_queue_options_t queue_options = {.size = sizeof queue_options, .coalesce_us = 2000};
  llmpool_queue_t *queue = NULL;
  CHECK_OK(llmpool_queue_open(&queue_options, &queue));
  llmpool_request_t request = harness_request(server_url(server, "/size/10"));
  const uint64_t limit = 70000u * (unsigned)check_slower();
  uint64_t least = UINT64_MAX;
  for (int attempt = 0; attempt < 50 && least >= limit; attempt++) {
    uint64_t last = 0;
    for (int i = 0; i < 100; i++)
      harness_submit(pool, &request, queue);
    for (int i = 0; i < 100; i++) {
      llmpool_event_t event = harness_next(queue);
      CHECK_STATUS(event.status, LLMPOOL_OK);
      if (event.timings->done > last) last = event.timings->done;
      harness_release(&event);
    }
    if (last < least) least = last;
  }
  CHECK(least < limit);
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_close(pool, 0));
}

/* ---- ends ---- */

static void *wait_for_ever(void *queue) {
  llmpool_event_t event;
  int32_t count;
  while ((count = llmpool_queue_drain(queue, &event, sizeof event, 1, -1)) >= 0)
    if (count == 1) harness_release(&event);
  return (void *)(intptr_t)count;
}

/* Of a descriptor that was there before: a queue that is closed by the time the thread begins has none. */
static void *poll_for_ever(void *descriptor) {
  struct pollfd readable = {.fd = (int)(intptr_t)descriptor, .events = POLLIN};
  return (void *)(intptr_t)poll(&readable, 1, 5000 * check_slower());
}

static void test_closing_wakes_who_waits(void) {
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *queue = driving_queue();
  settle(pool, queue);
  llmpool_request_t request = harness_request(server_url(server, "/never"));
  harness_submit(pool, &request, queue);
  pthread_t draining, polling;
  CHECK(pthread_create(&draining, NULL, wait_for_ever, queue) == 0);
  CHECK(pthread_create(&polling, NULL, poll_for_ever, (void *)(intptr_t)llmpool_queue_fd(queue)) == 0);
  check_sleep_ms(20);
  CHECK_OK(llmpool_queue_close(queue));
  void *result;
  pthread_join(draining, &result);
  CHECK_STATUS((intptr_t)result, LLMPOOL_E_CLOSED);
  pthread_join(polling, &result);
  CHECK_EQ((intptr_t)result, 1);
  CHECK_SOON(harness_stats(pool).cancelled == 1);
  CHECK_OK(llmpool_close(pool, 0));
}

static void test_closing_the_pool_ends_the_call(void) {
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *queue = driving_queue();
  settle(pool, queue);
  caller_t caller = {pool, queue, "/never"};
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, call_on_a_thread, &caller) == 0);
  CHECK_SOON(harness_stats(pool).active == 1);
  CHECK_OK(llmpool_close(pool, 0));
  void *event;
  pthread_join(thread, &event);
  CHECK_STATUS(((llmpool_event_t *)event)->status, LLMPOOL_E_CLOSED);
  harness_release(event);
  free(event);
  pool = harness_pool(NULL); /* the queue outlives the pool that it drove */
  settle(pool, queue);
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_close(pool, 0));
}

static void set_up(void) {
  server = server_start();
}

int main(void) {
  RUN(set_up);
  if (!server) return check_report();
  RUN(test_the_thread_of_the_pool_sleeps_on);
  RUN(test_an_answer_that_nobody_drains_is_read);
  RUN(test_timeouts_need_no_driver);
  RUN(test_a_connection_closed_between_calls);
  RUN(test_others_do_not_wait_for_the_driver);
  RUN(test_two_queues_take_turns);
  RUN(test_two_pools_on_one_queue);
  RUN(test_threads_that_are_alone_now_and_then);
  RUN(test_large_answers);
  RUN(test_a_stream_is_read_as_records);
  RUN(test_who_finds_the_turn_taken_sleeps_on);
  RUN(test_a_timeout_is_not_slept_over);
  RUN(test_requests_that_wait_are_not_put_off);
  RUN(test_closing_wakes_who_waits);
  RUN(test_closing_the_pool_ends_the_call);
  server_stop(server);
  return check_report();
}
