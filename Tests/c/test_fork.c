/*
 * test_fork.c - in a forked child the shared pool works anew, every other handle of the parent answers E_FORKED, and
 * the parent goes on as if nothing had happened.
 */
#include "harness.h"

#include <sys/wait.h>
#include <unistd.h>

#define FORKED LLMPOOL_E_FORKED
#define CHILD_SECONDS_MAX 20

static server_t *server;

/* Runs the function in a child, which has no test to escape to: a failed check there is its exit status. */
static void in_a_child(void (*function)(void)) {
  fflush(stdout);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    alarm(CHILD_SECONDS_MAX);
    if (setjmp(check_escape) == 0) {
      function();
      _exit(0);
    }
    _exit(1);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK_EQ(WEXITSTATUS(status), 0);
}

static llmpool_t *pool, *shared;
static llmpool_queue_t *queue;
static llmpool_event_t held;
static uint64_t in_flight;

static void use_handles_of_the_parent(void) {
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  llmpool_options_t options = harness_options();
  llmpool_stats_t stats = {.size = sizeof stats};
  llmpool_event_t event;
  char text[64];
  uint64_t id;
  CHECK_STATUS(llmpool_submit(pool, &request, queue, &id), FORKED);
  CHECK_STATUS(llmpool_perform(pool, &request, &event, sizeof event, NULL), FORKED);
  CHECK_STATUS(llmpool_cancel(pool, in_flight), FORKED);
  CHECK_STATUS(llmpool_credit(pool, in_flight, 1), FORKED);
  CHECK_STATUS(llmpool_configure(pool, &options), FORKED);
  CHECK_STATUS(llmpool_options_get(pool, &options, sizeof options), FORKED);
  CHECK_STATUS(llmpool_stats(pool, NULL, &stats), FORKED);
  CHECK_STATUS((llmpool_status_t)llmpool_origins(pool, text, sizeof text), FORKED);
  CHECK_STATUS(llmpool_queue_drain(queue, &event, sizeof event, 1, 0), FORKED);
  CHECK_STATUS(llmpool_queue_fd(queue), FORKED);
  llmpool_events_release(&held, sizeof held, 1);
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_close(pool, 1000));
}

static void use_the_shared_pool(void) {
  llmpool_t *again = NULL;
  CHECK_OK(llmpool_shared(&again));
  CHECK(again == shared); /* the handle means the child's own pool now */
  llmpool_options_t options;
  CHECK_OK(llmpool_options_get(shared, &options, sizeof options));
  CHECK_EQ(options.max_connections, 17); /* as last configured */
  CHECK_EQ(harness_stats(shared).submitted, 0);
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  for (int i = 0; i < 3; i++)
    CHECK_STATUS(harness_outcome(shared, &request), LLMPOOL_OK);
  CHECK_EQ(harness_stats(shared).opened, 1);
  llmpool_queue_t *own = harness_queue();
  harness_submit(shared, &request, own);
  llmpool_event_t event = harness_next(own);
  CHECK_STATUS(event.status, LLMPOOL_OK);
  harness_release(&event);
  CHECK_OK(llmpool_queue_close(own));
}

static void open_a_pool(void) {
  llmpool_t *own = harness_pool(NULL);
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  CHECK_STATUS(harness_outcome(own, &request), LLMPOOL_OK);
  CHECK_OK(llmpool_close(own, 0));
}

static void set_up(void) {
  server = server_start();
  llmpool_options_t options = harness_options();
  options.max_connections = 17;
  CHECK_OK(llmpool_shared(&shared));
  CHECK_OK(llmpool_configure(shared, &options));
  pool = harness_pool(NULL);
  queue = harness_queue();
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  CHECK_STATUS(harness_outcome(shared, &request), LLMPOOL_OK);
  held = harness_perform(pool, &request);
  request.url = server_url(server, "/delay/1500");
  in_flight = harness_submit(pool, &request, queue);
}

static void test_handles_of_the_parent_answer_forked(void) {
  in_a_child(use_handles_of_the_parent);
}

static void test_the_shared_pool_works_anew(void) {
  in_a_child(use_the_shared_pool);
}

static void test_a_child_opens_a_pool(void) {
  in_a_child(open_a_pool);
}

static void test_a_grandchild_works_too(void) {
  in_a_child(test_the_shared_pool_works_anew);
}

/* The parent's thread does its pool's work itself: its descriptor, which the child inherits, has the pool's epoll. */
static void test_a_parent_that_drives(void) {
  llmpool_t *own = harness_pool(NULL);
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  for (int i = 0; i < 50; i++) {
    CHECK_STATUS(harness_outcome(own, &request), LLMPOOL_OK);
    if (i % 10 == 9) in_a_child(test_the_shared_pool_works_anew);
  }
  CHECK_EQ(harness_stats(own).opened, 1);
  CHECK_OK(llmpool_close(own, 0));
}

static void test_the_parent_goes_on(void) {
  llmpool_event_t event = harness_next(queue);
  CHECK_STATUS(event.status, LLMPOOL_OK);
  CHECK_EQ(event.request_id, in_flight);
  harness_release(&event);
  harness_release(&held);
  int accepted = server_connections_accepted(server);
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  llmpool_event_t done = harness_perform(shared, &request);
  CHECK_STATUS(done.status, LLMPOOL_OK);
  CHECK(done.flags & LLMPOOL_EVENT_REUSED); /* no child has disturbed the connection */
  CHECK_EQ(server_connections_accepted(server), accepted);
  harness_release(&done);
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_close(pool, 0));
}

int main(void) {
  RUN(set_up);
  if (!in_flight) return check_report();
  RUN(test_handles_of_the_parent_answer_forked);
  RUN(test_the_shared_pool_works_anew);
  RUN(test_a_child_opens_a_pool);
  RUN(test_a_grandchild_works_too);
  RUN(test_a_parent_that_drives);
  RUN(test_the_parent_goes_on);
  server_stop(server);
  return check_report();
}
