/* test_threads.c - many threads on one pool and on one queue: nothing is lost, nothing comes twice, limits hold. */
#include "harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <unistd.h>

static server_t *server;

/* ---- 64 threads perform ---- */

#define PERFORMERS 64
#define CALLS_EACH 16

static void *perform_many(void *pool) {
  for (int i = 0; i < CALLS_EACH; i++) {
    char body[64];
    llmpool_request_t request = harness_request(server_url(server, "/echo"));
    request.body = body;
    request.body_size = (size_t)snprintf(body, sizeof body, "%p %d", (void *)&request, i);
    llmpool_event_t done = harness_perform(pool, &request);
    CHECK_STATUS(done.status, LLMPOOL_OK);
    CHECK(done.data_size == request.body_size && memcmp(done.data, body, done.data_size) == 0);
    harness_release(&done);
  }
  return NULL;
}

static void test_64_threads_share_eight_connections(void) {
  server_t *previous = server;
  server = server_start();
  llmpool_options_t options = harness_options();
  options.max_connections = 8;
  llmpool_t *pool = harness_pool(&options);
  pthread_t performers[PERFORMERS];
  for (int i = 0; i < PERFORMERS; i++)
    CHECK(pthread_create(&performers[i], NULL, perform_many, pool) == 0);
  for (int i = 0; i < PERFORMERS; i++)
    pthread_join(performers[i], NULL);
  CHECK_SOON(harness_stats(pool).succeeded == PERFORMERS * CALLS_EACH);
  CHECK_EQ(server_requests(server), PERFORMERS * CALLS_EACH);
  CHECK(server_connections_open_max(server) <= 8);
  CHECK_EQ(server_connections_accepted(server), harness_stats(pool).opened);
  CHECK_OK(llmpool_close(pool, 0));
  server_stop(server);
  server = previous;
}

/* ---- 8 threads submit to one queue, 4 drain it ---- */

#define SUBMITTERS 8
#define DRAINERS 4
#define SUBMITS_EACH 100
#define SUBMITS (SUBMITTERS * SUBMITS_EACH)

static llmpool_t *shared_pool;
static llmpool_queue_t *shared_queue;
static atomic_int done_by_number[SUBMITS];
static atomic_int done_count;

static void *submit_many(void *argument) {
  int first = (int)(intptr_t)argument * SUBMITS_EACH;
  for (int i = 0; i < SUBMITS_EACH; i++) {
    llmpool_request_t request = harness_request(server_url(server, "/size/3000"));
    request.user_data = (uint64_t)(first + i);
    harness_submit(shared_pool, &request, shared_queue);
  }
  return NULL;
}

static void *drain_many(void *unused) {
  llmpool_event_t events[16];
  (void)unused;
  while (atomic_load(&done_count) < SUBMITS) {
    int32_t count = llmpool_queue_drain(shared_queue, events, sizeof *events, 16, 50);
    CHECK(count >= 0 && count <= 16);
    for (int i = 0; i < count; i++) {
      CHECK_EQ(events[i].kind, LLMPOOL_EVENT_DONE);
      CHECK_STATUS(events[i].status, LLMPOOL_OK);
      CHECK_EQ(events[i].data_size, 3000);
      atomic_fetch_add(&done_by_number[events[i].user_data], 1);
    }
    llmpool_events_release(events, sizeof *events, (uint32_t)count);
    atomic_fetch_add(&done_count, count);
  }
  return NULL;
}

static void test_eight_submit_four_drain(void) {
  pthread_t submitters[SUBMITTERS], drainers[DRAINERS];
  shared_pool = harness_pool(NULL);
  shared_queue = harness_queue();
  for (int i = 0; i < DRAINERS; i++)
    CHECK(pthread_create(&drainers[i], NULL, drain_many, NULL) == 0);
  for (intptr_t i = 0; i < SUBMITTERS; i++)
    CHECK(pthread_create(&submitters[i], NULL, submit_many, (void *)i) == 0);
  for (int i = 0; i < SUBMITTERS; i++)
    pthread_join(submitters[i], NULL);
  for (int i = 0; i < DRAINERS; i++)
    pthread_join(drainers[i], NULL);
  for (int i = 0; i < SUBMITS; i++)
    CHECK_EQ(done_by_number[i], 1);
  CHECK_OK(llmpool_queue_close(shared_queue));
  CHECK_OK(llmpool_close(shared_pool, 0));
}

/* ---- the descriptor of a queue in epoll: no wake is lost ---- */

static void test_epoll_on_the_queue(void) {
  enum { COUNT = 300 };
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *queue = harness_queue();
  int epoll = epoll_create1(EPOLL_CLOEXEC), done = 0;
  struct epoll_event interest = {.events = EPOLLIN};
  CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, llmpool_queue_fd(queue), &interest) == 0);
  llmpool_request_t request = harness_request(server_url(server, "/size/10"));
  for (int i = 0; i < COUNT; i++)
    harness_submit(pool, &request, queue);
  while (done < COUNT) {
    CHECK_EQ(epoll_wait(epoll, &interest, 1, 5000), 1);
    llmpool_event_t events[7]; /* fewer than arrive: the descriptor must stay readable */
    int32_t count = llmpool_queue_drain(queue, events, sizeof *events, 7, 0);
    CHECK(count >= 0);
    llmpool_events_release(events, sizeof *events, (uint32_t)count);
    done += count;
  }
  CHECK_EQ(epoll_wait(epoll, &interest, 1, 50), 0); /* empty: quiet */
  close(epoll);
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_close(pool, 0));
}

/* ---- cancel races the answer ---- */

static void test_cancel_from_another_thread(void) {
  enum { COUNT = 300 };
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *queue = harness_queue();
  uint64_t ids[COUNT];
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  for (int i = 0; i < COUNT; i++) {
    ids[i] = harness_submit(pool, &request, queue);
    if (i % 2) {
      llmpool_status_t status = llmpool_cancel(pool, ids[i]);
      CHECK(status == LLMPOOL_OK || status == LLMPOOL_E_NOT_FOUND);
    }
  }
  for (int i = 0; i < COUNT; i++) {
    llmpool_event_t event = harness_next(queue);
    CHECK(event.status == LLMPOOL_OK || event.status == LLMPOOL_E_CANCELLED);
    harness_release(&event);
  }
  llmpool_event_t event;
  CHECK_EQ(llmpool_queue_drain(queue, &event, sizeof event, 1, 50), 0);
  llmpool_stats_t stats = harness_stats(pool);
  CHECK_EQ(stats.succeeded + stats.cancelled, COUNT);
  CHECK_EQ(stats.in_use, 0);
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_close(pool, 0));
}

static void set_up(void) {
  server = server_start();
}

int main(void) {
  RUN(set_up);
  if (!server) return check_report();
  RUN(test_64_threads_share_eight_connections);
  RUN(test_eight_submit_four_drain);
  RUN(test_epoll_on_the_queue);
  RUN(test_cancel_from_another_thread);
  server_stop(server);
  return check_report();
}
