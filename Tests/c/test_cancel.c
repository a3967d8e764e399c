/*
 * test_cancel.c - no call of the API is a cancellation point: a thread that is cancelled within one is cancelled after
 * it, and leaves nothing locked.
 */
#include "harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

static server_t *server;
static llmpool_t *pool;
static llmpool_queue_t *queue;

/* ---- each call, on a thread that is cancelled already ---- */

static _Thread_local llmpool_event_t event;
static _Thread_local uint64_t id;

static void call_open(void) {
  llmpool_t *own = NULL;
  CHECK_OK(llmpool_open(NULL, &own));
  CHECK_OK(llmpool_close(own, 0));
}

static void call_shared(void) {
  llmpool_t *shared = NULL;
  CHECK_OK(llmpool_shared(&shared));
}

static void call_configure(void) {
  llmpool_options_t options = harness_options();
  CHECK_OK(llmpool_options_get(pool, &options, sizeof options));
  CHECK_OK(llmpool_configure(pool, &options));
}

static void call_warm(void) {
  CHECK_OK(llmpool_warm(pool, server_url(server, "/"), 1));
}

static void call_submit(void) {
  llmpool_request_t request = harness_request(server_url(server, "/size/300000"));
  request.flags = LLMPOOL_REQUEST_STREAM;
  id = harness_submit(pool, &request, queue);
}

static void call_credit(void) {
  call_submit();
  llmpool_status_t status = llmpool_credit(pool, id, 1000);
  CHECK(status == LLMPOOL_OK || status == LLMPOOL_E_NOT_FOUND);
}

static void call_cancel(void) {
  call_submit();
  llmpool_status_t status = llmpool_cancel(pool, id);
  CHECK(status == LLMPOOL_OK || status == LLMPOOL_E_NOT_FOUND);
}

static void call_write(void) {
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  request.flags = LLMPOOL_REQUEST_UPLOAD;
  id = harness_submit(pool, &request, queue);
  CHECK_OK(llmpool_write(pool, id, "some", 4, 0));
  CHECK_OK(llmpool_write(pool, id, "more", 4, 1));
}

static void call_perform(void) {
  llmpool_request_t request = harness_request(server_url(server, "/delay/20"));
  llmpool_event_t done = harness_perform(pool, &request);
  CHECK_STATUS(done.status, LLMPOOL_OK);
  harness_release(&done);
}

static void call_watch(void) {
  CHECK_OK(llmpool_watch(pool, queue, LLMPOOL_NOTICE_RETRY, 1));
}

static void call_queue(void) {
  llmpool_queue_t *own = harness_queue();
  CHECK(llmpool_queue_fd(own) >= 0);
  CHECK_OK(llmpool_queue_close(own));
}

static void call_drain_with_nothing(void) {
  llmpool_queue_t *own = harness_queue();
  CHECK_EQ(llmpool_queue_drain(own, &event, sizeof event, 1, 20), 0);
  CHECK_OK(llmpool_queue_close(own));
}

static void call_drain(void) {
  CHECK(llmpool_queue_fd(queue) >= 0);
  call_submit();
  llmpool_event_t one = harness_next(queue);
  harness_release(&one);
}

static void call_read(void) {
  static char bytes[1 << 20];
  llmpool_record_t record;
  CHECK(llmpool_queue_read(queue, &record, sizeof record, 1, bytes, sizeof bytes) >= 0);
}

static void call_queue_close_with_requests(void) {
  llmpool_queue_t *own = harness_queue();
  llmpool_request_t request = harness_request(server_url(server, "/never"));
  CHECK(llmpool_queue_fd(own) >= 0);
  harness_submit(pool, &request, own);
  CHECK_OK(llmpool_queue_close(own));
}

static void call_to_look(void) {
  char text[4096];
  harness_stats(pool);
  CHECK(llmpool_origins(pool, text, sizeof text) >= 0);
  CHECK(llmpool_metrics(pool, LLMPOOL_METRICS_PROMETHEUS, text, sizeof text) >= 0);
  CHECK(llmpool_stats(pool, "http://nowhere:1", &(llmpool_stats_t){.size = sizeof(llmpool_stats_t)}) < 0);
  CHECK(llmpool_last_error()[0] != 0);
}

static void (*const calls[])(void) = {
    call_open,    call_shared, call_configure,
    call_warm,    call_submit, call_credit,
    call_cancel,  call_write,  call_perform,
    call_watch,   call_queue,  call_drain_with_nothing,
    call_drain,   call_read,   call_queue_close_with_requests,
    call_to_look,
};
enum { CALLS = sizeof calls / sizeof *calls };

static atomic_int returned;

static void *call_while_cancelled(void *argument) {
  pthread_cancel(pthread_self()); /* takes effect at the first cancellation point */
  calls[(intptr_t)argument]();
  atomic_fetch_add(&returned, 1);
  pthread_testcancel();
  return NULL;
}

static void *call_once(void *argument) {
  calls[(intptr_t)argument]();
  return NULL;
}

static void join_within(pthread_t thread, int seconds, int number, int should_be_cancelled) {
  struct timespec deadline;
  void *result = NULL;
  clock_gettime(CLOCK_REALTIME, &deadline);
  deadline.tv_sec += seconds * check_slower();
  if (pthread_timedjoin_np(thread, &result, &deadline) != 0) check_failed(__FILE__, __LINE__, "call %d hangs", number);
  CHECK((result == PTHREAD_CANCELED) == should_be_cancelled);
}

static void drop_events(void) {
  llmpool_event_t events[64];
  int32_t count;
  while ((count = llmpool_queue_drain(queue, events, sizeof *events, 64, 0)) > 0)
    llmpool_events_release(events, sizeof *events, (uint32_t)count);
}

static void test_a_cancelled_thread_ends_each_call(void) {
  for (int i = 0; i < CALLS; i++) {
    pthread_t thread;
    int before = atomic_load(&returned);
    check_sleep_ms(2); /* the engine's thread sleeps: it is to be woken */
    CHECK(pthread_create(&thread, NULL, call_while_cancelled, (void *)(intptr_t)i) == 0);
    join_within(thread, 20, i, 1);
    if (atomic_load(&returned) != before + 1) check_failed(__FILE__, __LINE__, "call %d is a cancellation point", i);
    CHECK(pthread_create(&thread, NULL, call_once, (void *)(intptr_t)i) == 0);
    join_within(thread, 20, i, 0);
    drop_events();
  }
}

/* ---- calls that wait ---- */

static llmpool_queue_t *waited_for;

static void *drain_for_ever(void *unused) {
  (void)unused;
  llmpool_event_t one;
  CHECK_STATUS(llmpool_queue_drain(waited_for, &one, sizeof one, 1, -1), LLMPOOL_E_CLOSED);
  atomic_fetch_add(&returned, 1);
  pthread_testcancel();
  return NULL;
}

static uint64_t performed_id;

static void *perform_for_ever(void *unused) {
  (void)unused;
  llmpool_request_t request = harness_request(server_url(server, "/never"));
  llmpool_event_t done;
  CHECK_OK(llmpool_perform(pool, &request, &done, sizeof done, &performed_id));
  CHECK_STATUS(done.status, LLMPOOL_E_CANCELLED);
  harness_release(&done);
  atomic_fetch_add(&returned, 1);
  pthread_testcancel();
  return NULL;
}

static void test_a_call_that_waits_goes_on_waiting(void) {
  pthread_t draining, performing;
  int before = atomic_load(&returned);
  waited_for = harness_queue();
  CHECK(pthread_create(&draining, NULL, drain_for_ever, NULL) == 0);
  CHECK(pthread_create(&performing, NULL, perform_for_ever, NULL) == 0);
  CHECK_SOON(harness_stats(pool).active > 0);
  check_sleep_ms(50);
  pthread_cancel(draining);
  pthread_cancel(performing);
  check_sleep_ms(50);
  CHECK_EQ(atomic_load(&returned), before);
  CHECK_OK(llmpool_queue_close(waited_for));
  CHECK_OK(llmpool_cancel(pool, performed_id));
  join_within(draining, 20, -1, 1);
  join_within(performing, 20, -2, 1);
  CHECK_EQ(atomic_load(&returned), before + 2);
}

/* ---- at random ---- */

static void *call_at_random(void *argument) {
  unsigned seed = (unsigned)(intptr_t)argument;
  for (;;) {
    calls[rand_r(&seed) % CALLS]();
    pthread_testcancel();
  }
  return NULL;
}

static void test_threads_cancelled_at_random(void) {
  enum { THREADS = 4 };
  pthread_t threads[THREADS];
  int rounds = check_is_long() ? 10000 : 60;
  unsigned seed = 1;
  for (int round = 0; round < rounds; round++) {
    for (int i = 0; i < THREADS; i++)
      CHECK(pthread_create(&threads[i], NULL, call_at_random, (void *)(intptr_t)(round * THREADS + i)) == 0);
    struct timespec pause = {0, rand_r(&seed) % 20000000};
    nanosleep(&pause, NULL);
    for (int i = 0; i < THREADS; i++)
      pthread_cancel(threads[i]);
    for (int i = 0; i < THREADS; i++)
      join_within(threads[i], 20, round, 1);
    drop_events();
    call_perform();
  }
}

static void set_up(void) {
  server = server_start();
  llmpool_t *shared = NULL;
  llmpool_options_t options = harness_options();
  CHECK_OK(llmpool_shared(&shared));
  CHECK_OK(llmpool_configure(shared, &options));
  pool = harness_pool(NULL);
  queue = harness_queue();
}

int main(void) {
  RUN(set_up);
  if (!queue) return check_report();
  RUN(test_a_cancelled_thread_ends_each_call);
  RUN(test_a_call_that_waits_goes_on_waiting);
  RUN_LONG(test_threads_cancelled_at_random);
  drop_events();
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_close(pool, 0));
  server_stop(server);
  return check_report();
}
