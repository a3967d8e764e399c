/*
 * test_lifecycle.c - closed handles are tombstones, every request ends exactly once, events outlive what made them, and
 * nothing stays behind: no thread, no descriptor (and no memory, as the same program run by a leak checker shows).
 */
#include "harness.h"

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CLOSED LLMPOOL_E_CLOSED

static server_t *server;

static int entries(const char *directory) {
  DIR *listing = opendir(directory);
  CHECK(listing != NULL);
  int found = 0;
  while (readdir(listing) != NULL)
    found++;
  closedir(listing);
  return found;
}

static int threads(void) {
  return entries("/proc/self/task");
}

static int descriptors(void) {
  return entries("/proc/self/fd");
}

/* ---- nothing stays behind ---- */

/* The pool works on a server of its own, so that only the library's threads and descriptors can stay. */
static void use_and_close(int in_flight) {
  server_t *own = server_start();
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *queue = harness_queue();
  llmpool_request_t request = harness_request(server_url(own, "/echo"));
  for (int i = 0; i < 10; i++)
    CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_OK);
  request.url = server_url(own, "/never");
  for (int i = 0; i < in_flight; i++)
    harness_submit(pool, &request, queue);
  CHECK_OK(llmpool_close(pool, 0));
  for (int i = 0; i < in_flight; i++) {
    llmpool_event_t event = harness_next(queue);
    CHECK_EQ(event.kind, LLMPOOL_EVENT_DONE);
    CHECK_STATUS(event.status, CLOSED);
    harness_release(&event);
  }
  CHECK_OK(llmpool_queue_close(queue));
  server_stop(own);
}

static void test_no_thread_or_descriptor_stays(void) {
  use_and_close(3); /* what the process needs once: libcurl, OpenSSL, a resolver */
  int threads_before = threads(), descriptors_before = descriptors();
  for (int i = 0; i < 5; i++)
    use_and_close(i * 5);
  CHECK_SOON(threads() <= threads_before); /* one may have been on its way out */
  CHECK_EQ(descriptors(), descriptors_before);
}

static void test_unused_pools_leave_nothing(void) {
  CHECK_OK(llmpool_close(harness_pool(NULL), 0));
  int threads_before = threads(), descriptors_before = descriptors();
  for (int i = 0; i < 20; i++) {
    CHECK_OK(llmpool_close(harness_pool(NULL), i));
    CHECK_OK(llmpool_queue_close(harness_queue()));
  }
  CHECK_SOON(threads() <= threads_before); /* one may have been on its way out */
  CHECK_EQ(descriptors(), descriptors_before);
}

static void test_an_idle_connection_closed_by_the_server_goes_at_once(void) {
  server_t *own = server_start();
  llmpool_t *pool = harness_pool(NULL);
  llmpool_request_t request = harness_request(server_url(own, "/echo"));
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_OK);
  CHECK_EQ(harness_stats(pool).idle, 1);
  server_stop(own);
  int64_t start = check_now_ms();
  CHECK_SOON(harness_stats(pool).idle == 0);
  CHECK(check_now_ms() - start < 15000); /* it would expire after 30 s */
  CHECK_OK(llmpool_close(pool, 0));
}

/* ---- close ---- */

static void test_close_ends_each_request_once(void) {
  enum { COUNT = 50 };
  llmpool_options_t options = harness_options();
  options.max_connections = 10; /* ten in flight, forty waiting */
  llmpool_t *pool = harness_pool(&options);
  llmpool_queue_t *queue = harness_queue();
  int done[COUNT] = {0};
  for (int i = 0; i < COUNT; i++) {
    llmpool_request_t request = harness_request(server_url(server, "/never"));
    request.user_data = (uint64_t)i;
    harness_submit(pool, &request, queue);
  }
  CHECK_OK(llmpool_close(pool, 50));
  llmpool_event_t events[COUNT + 1];
  int32_t count = llmpool_queue_drain(queue, events, sizeof *events, COUNT + 1, 0);
  CHECK_EQ(count, COUNT); /* all there when close returns, and not one more */
  for (int i = 0; i < count; i++) {
    CHECK_EQ(events[i].kind, LLMPOOL_EVENT_DONE);
    CHECK_STATUS(events[i].status, CLOSED);
    done[events[i].user_data]++;
  }
  for (int i = 0; i < COUNT; i++)
    CHECK_EQ(done[i], 1);
  llmpool_events_release(events, sizeof *events, (uint32_t)count);
  CHECK_EQ(llmpool_queue_drain(queue, events, sizeof *events, 1, 50), 0);
  CHECK_OK(llmpool_queue_close(queue));
}

static void test_close_waits_for_what_is_in_flight(void) {
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *queue = harness_queue();
  llmpool_request_t request = harness_request(server_url(server, "/delay/200"));
  harness_submit(pool, &request, queue);
  int64_t start = check_now_ms();
  CHECK_OK(llmpool_close(pool, 60000));
  CHECK(check_now_ms() - start < 30000); /* not the whole of drain_ms */
  llmpool_event_t event = harness_next(queue);
  CHECK_STATUS(event.status, LLMPOOL_OK);
  CHECK(event.data_size == 4 && memcmp(event.data, "late", 5) == 0);
  harness_release(&event);
  CHECK_OK(llmpool_queue_close(queue));
}

static void *close_pool(void *pool) {
  CHECK_OK(llmpool_close(pool, 300));
  return NULL;
}

static void test_close_takes_no_more_requests_while_it_drains(void) {
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *queue = harness_queue();
  llmpool_request_t request = harness_request(server_url(server, "/never"));
  harness_submit(pool, &request, queue);
  pthread_t closer;
  CHECK(pthread_create(&closer, NULL, close_pool, pool) == 0);
  uint64_t id;
  int taken = 1;
  llmpool_status_t status;
  while ((status = llmpool_submit(pool, &request, queue, &id)) == LLMPOOL_OK) /* until it has begun to close */
    taken++, check_sleep_ms(5);
  CHECK_STATUS(status, CLOSED);
  pthread_join(closer, NULL);
  for (; taken > 0; taken--) {
    llmpool_event_t event = harness_next(queue);
    CHECK_STATUS(event.status, CLOSED);
    harness_release(&event);
  }
  CHECK_OK(llmpool_queue_close(queue));
}

/* ---- tombstones ---- */

static void *use_closed_pool(void *argument) {
  llmpool_t *pool = argument;
  llmpool_queue_t *queue = harness_queue();
  llmpool_options_t options = harness_options();
  llmpool_request_t request = harness_request("http://127.0.0.1:1/");
  llmpool_stats_t stats = {.size = sizeof stats};
  llmpool_event_t event;
  llmpool_budget_t budget = {.size = sizeof budget};
  char text[64];
  uint64_t id;
  CHECK_STATUS(llmpool_submit(pool, &request, queue, &id), CLOSED);
  CHECK_STATUS(llmpool_perform(pool, &request, &event, sizeof event, NULL), CLOSED);
  CHECK_STATUS(llmpool_cancel(pool, 1), CLOSED);
  CHECK_STATUS(llmpool_credit(pool, 1, 1), CLOSED);
  CHECK_STATUS(llmpool_configure(pool, &options), CLOSED);
  CHECK_STATUS(llmpool_options_get(pool, &options, sizeof options), CLOSED);
  CHECK_STATUS(llmpool_stats(pool, NULL, &stats), CLOSED);
  CHECK_STATUS(llmpool_histograms(pool, NULL, NULL, sizeof(llmpool_histogram_t), 0, NULL), CLOSED);
  CHECK_STATUS(llmpool_reasons(pool, NULL, NULL, sizeof(llmpool_reason_t), 0, NULL), CLOSED);
  CHECK_STATUS(llmpool_requests(pool, NULL, sizeof(llmpool_inflight_t), 0, NULL), CLOSED);
  CHECK_STATUS(llmpool_serve_stats(pool, "/nowhere"), CLOSED);
  CHECK_STATUS(llmpool_serve_stats(pool, NULL), CLOSED);
  CHECK_STATUS((llmpool_status_t)llmpool_origins(pool, text, sizeof text), CLOSED);
  CHECK_STATUS((llmpool_status_t)llmpool_budgets(pool, text, sizeof text), CLOSED);
  CHECK_STATUS(llmpool_budget_settle(pool, 1, 1, 1), CLOSED);
  CHECK_STATUS(llmpool_close(pool, 0), CLOSED);
  llmpool_status_t later[] = {(llmpool_status_t)llmpool_metrics(pool, LLMPOOL_METRICS_PROMETHEUS, text, sizeof text),
                              llmpool_warm(pool, "http://127.0.0.1:1/", 1), llmpool_write(pool, 1, "x", 1, 0),
                              llmpool_watch(pool, queue, LLMPOOL_NOTICE_RETRY, 1),
                              llmpool_budget_configure(pool, "b", &budget, NULL, 0, 0),
                              llmpool_budget_get(pool, "b", &budget, NULL, 0, 0, NULL),
                              (llmpool_status_t)llmpool_budgets(pool, text, sizeof text),
                              llmpool_budget_settle(pool, 1, 1, 1)};
  for (size_t i = 0; i < sizeof later / sizeof *later; i++)
    CHECK_STATUS(later[i], CLOSED);
  CHECK_OK(llmpool_queue_close(queue));
  return NULL;
}

static void *use_closed_queue(void *argument) {
  llmpool_queue_t *queue = argument;
  llmpool_t *pool = harness_pool(NULL);
  llmpool_request_t request = harness_request("http://127.0.0.1:1/");
  llmpool_event_t event;
  llmpool_record_t record;
  char bytes[64];
  uint64_t id;
  CHECK_STATUS(llmpool_submit(pool, &request, queue, &id), CLOSED);
  CHECK_STATUS(llmpool_queue_drain(queue, &event, sizeof event, 1, 0), CLOSED);
  CHECK_STATUS(llmpool_queue_drain(queue, &event, sizeof event, 1, -1), CLOSED);
  CHECK_STATUS(llmpool_queue_read(queue, &record, sizeof record, 1, bytes, sizeof bytes), CLOSED);
  CHECK_STATUS(llmpool_queue_fd(queue), CLOSED);
  CHECK_STATUS(llmpool_queue_close(queue), CLOSED);
  CHECK_STATUS(llmpool_watch(pool, queue, LLMPOOL_NOTICE_RETRY, 1), CLOSED);
  CHECK_OK(llmpool_close(pool, 0));
  return NULL;
}

static void on_this_and_another_thread(void *(*function)(void *), void *argument) {
  pthread_t thread;
  function(argument);
  CHECK(pthread_create(&thread, NULL, function, argument) == 0);
  pthread_join(thread, NULL);
}

static void test_a_closed_pool_answers_closed(void) {
  llmpool_t *pool = harness_pool(NULL);
  CHECK_OK(llmpool_close(pool, 0));
  on_this_and_another_thread(use_closed_pool, pool);
}

static void test_a_closed_queue_answers_closed(void) {
  llmpool_queue_t *queue = harness_queue();
  CHECK_OK(llmpool_queue_close(queue));
  on_this_and_another_thread(use_closed_queue, queue);
}

static void *drain_for_ever(void *queue) {
  llmpool_event_t event;
  return (void *)(intptr_t)llmpool_queue_drain(queue, &event, sizeof event, 1, -1);
}

static void test_closing_a_queue_wakes_who_drains_it(void) {
  llmpool_queue_t *queue = harness_queue();
  pthread_t drainers[4];
  for (int i = 0; i < 4; i++)
    CHECK(pthread_create(&drainers[i], NULL, drain_for_ever, queue) == 0);
  check_sleep_ms(100);
  CHECK_OK(llmpool_queue_close(queue));
  for (int i = 0; i < 4; i++) {
    void *result;
    pthread_join(drainers[i], &result);
    CHECK_STATUS((intptr_t)result, CLOSED);
  }
}

/* ---- queue close and events ---- */

static void test_queue_close_cancels_what_belongs_to_it(void) {
  server_t *own = server_start();
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *queue = harness_queue();
  llmpool_request_t request = harness_request(server_url(own, "/never"));
  for (int i = 0; i < 5; i++)
    harness_submit(pool, &request, queue);
  CHECK_SOON(server_requests(own) == 5);
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_SOON(harness_stats(pool).cancelled == 5);
  CHECK_SOON(server_connections_open(own) == 0);
  CHECK_OK(llmpool_close(pool, 0));
  server_stop(own);
}

static void test_queue_close_drops_what_was_not_drained(void) {
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *queue = harness_queue();
  llmpool_request_t request = harness_request(server_url(server, "/size/100000"));
  for (int i = 0; i < 5; i++)
    harness_submit(pool, &request, queue);
  CHECK_SOON(harness_stats(pool).succeeded == 5);
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_close(pool, 0));
}

static void test_events_outlive_queue_and_pool(void) {
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *queue = harness_queue();
  llmpool_request_t request = harness_request(server_url(server, "/size/200000"));
  harness_submit(pool, &request, queue);
  request.flags = LLMPOOL_REQUEST_STREAM;
  request.url = server_url(server, "/size/1000");
  harness_submit(pool, &request, queue);
  llmpool_event_t events[8];
  int count = 0, done = 0;
  while (done < 2) {
    events[count] = harness_next(queue);
    done += events[count++].kind == LLMPOOL_EVENT_DONE;
  }
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_close(pool, 0));
  for (int i = 0; i < count; i++) {
    for (size_t byte = 0; byte < events[i].data_size; byte++)
      CHECK_EQ(events[i].data[byte], 'x');
    CHECK(events[i].data_size == 0 || events[i].data[events[i].data_size] == 0);
    size_t size = 0;
    if (events[i].headers_size > 0) CHECK(llmpool_event_header(&events[i], "content-length", &size) != NULL);
  }
  for (int i = count - 1; i >= 0; i--)
    harness_release(&events[i]); /* in any order */
}

static void test_double_release_does_nothing(void) {
  llmpool_t *pool = harness_pool(NULL);
  llmpool_request_t request = harness_request(server_url(server, "/size/1000"));
  llmpool_event_t done = harness_perform(pool, &request);
  harness_release(&done);
  harness_release(&done);
  llmpool_event_t many[3] = {done, harness_perform(pool, &request), done};
  llmpool_events_release(many, sizeof *many, 3);
  llmpool_events_release(many, sizeof *many, 3);
  CHECK_OK(llmpool_close(pool, 0));
}

static void test_queue_outlives_its_pools(void) {
  llmpool_queue_t *queue = harness_queue();
  for (int i = 0; i < 3; i++) {
    llmpool_t *pool = harness_pool(NULL);
    llmpool_request_t request = harness_request(server_url(server, "/echo"));
    harness_submit(pool, &request, queue);
    llmpool_event_t event = harness_next(queue);
    CHECK_STATUS(event.status, LLMPOOL_OK);
    CHECK_OK(llmpool_close(pool, 0));
    harness_release(&event);
  }
  CHECK_OK(llmpool_queue_close(queue));
}

static void test_perform_ends_when_its_pool_closes(void) {
  llmpool_t *pool = harness_pool(NULL);
  pthread_t closer;
  CHECK(pthread_create(&closer, NULL, close_pool, pool) == 0);
  llmpool_request_t request = harness_request(server_url(server, "/never"));
  llmpool_event_t done;
  llmpool_status_t status = llmpool_perform(pool, &request, &done, sizeof done, NULL);
  if (status == LLMPOOL_OK) status = done.status, harness_release(&done);
  CHECK_STATUS(status, CLOSED);
  pthread_join(closer, NULL);
}

static void *drop_queue(void *queue) {
  CHECK_OK(llmpool_queue_close(queue));
  return NULL;
}

/* Whichever comes first: the request is cancelled, or was never taken. */
static void test_a_queue_closed_while_a_request_is_submitted(void) {
  llmpool_t *pool = harness_pool(NULL);
  llmpool_request_t request = harness_request(server_url(server, "/never"));
  for (int i = 0; i < 300; i++) {
    llmpool_queue_t *queue = harness_queue();
    pthread_t closer;
    uint64_t id;
    CHECK(pthread_create(&closer, NULL, drop_queue, queue) == 0);
    for (llmpool_status_t status = 0; status == LLMPOOL_OK;) {
      status = llmpool_submit(pool, &request, queue, &id);
      CHECK(status == LLMPOOL_OK || status == CLOSED);
    }
    pthread_join(closer, NULL);
  }
  CHECK_SOON(harness_stats(pool).active + harness_stats(pool).pending == 0);
  CHECK_OK(llmpool_close(pool, 0));
}

/* ---- options ---- */

static void test_a_failed_open_leaves_nothing(void) {
  llmpool_options_t options = harness_options();
  options.ca_file = "/nowhere/ca.pem";
  llmpool_t *pool = NULL, *shared = NULL;
  CHECK_STATUS(llmpool_open(&options, &pool), LLMPOOL_E_INVALID_ARGUMENT);
  int before = descriptors();
  for (int i = 0; i < 20; i++)
    CHECK_STATUS(llmpool_open(&options, &pool), LLMPOOL_E_INVALID_ARGUMENT);
  setenv("http_proxy", "https://127.0.0.1:1", 1);
  CHECK_OK(llmpool_shared(&shared));
  for (int i = 0; i < 20; i++)
    CHECK_STATUS(llmpool_warm(shared, "http://127.0.0.1:1/", 1), LLMPOOL_E_UNSUPPORTED);
  unsetenv("http_proxy");
  /* Of a connection of the test before the server may hear, and it may go, only now. */
  CHECK_SOON(descriptors() <= before);
}

static void test_lent_strings_stay(void) {
  llmpool_options_t options = harness_options(), first, second;
  void *fillers[20];
  options.proxy = "http://first.example:3128";
  options.no_proxy = "one.example,two.example";
  llmpool_t *pool = harness_pool(&options);
  CHECK_OK(llmpool_options_get(pool, &first, sizeof first));
  for (int i = 0; i < 20; i++) {
    CHECK_OK(llmpool_options_get(pool, &second, sizeof second));
    fillers[i] = memset(malloc(strlen(options.proxy) + 1), 'x', strlen(options.proxy) + 1);
  }
  for (int i = 0; i < 20; i++)
    free(fillers[i]);
  CHECK_STR(first.proxy, "http://first.example:3128");
  CHECK_STR(first.no_proxy, "one.example,two.example");
  CHECK_STR(second.proxy, first.proxy);
  CHECK_OK(llmpool_close(pool, 0));
}

static llmpool_t *configured;
static pthread_barrier_t barrier;
enum { CONFIGURERS = 4, CONFIGURES = 100 };

/* Each gets the options, which another may have changed meanwhile, and changes one of them. */
static void *configure(void *argument) {
  for (int i = 0; i < CONFIGURES; i++) {
    llmpool_options_t options;
    CHECK_OK(llmpool_options_get(configured, &options, sizeof options));
    CHECK_STR(options.no_proxy, "one.example");
    options.max_connections = (uint32_t)(intptr_t)argument;
    pthread_barrier_wait(&barrier);
    CHECK_OK(llmpool_configure(configured, &options));
    pthread_barrier_wait(&barrier);
    if ((intptr_t)argument != 1) continue;
    CHECK_OK(llmpool_options_get(configured, &options, sizeof options));
    double expected = 1.0 / options.max_connections; /* one is in use */
    CHECK_SOON(harness_stats(configured).utilization == expected);
  }
  return NULL;
}

static void test_the_last_to_configure_is_obeyed_throughout(void) {
  llmpool_options_t options = harness_options();
  options.no_proxy = "one.example";
  configured = harness_pool(&options);
  llmpool_queue_t *queue = harness_queue();
  llmpool_request_t request = harness_request(server_url(server, "/never"));
  harness_submit(configured, &request, queue);
  CHECK_SOON(harness_stats(configured).in_use == 1);
  CHECK(pthread_barrier_init(&barrier, NULL, CONFIGURERS) == 0);
  pthread_t threads[CONFIGURERS];
  for (intptr_t i = 0; i < CONFIGURERS; i++)
    CHECK(pthread_create(&threads[i], NULL, configure, (void *)(i + 1)) == 0);
  for (int i = 0; i < CONFIGURERS; i++)
    pthread_join(threads[i], NULL);
  pthread_barrier_destroy(&barrier);
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_close(configured, 0));
}

/* ---- a program with more rights than its user ---- */

static int as_a_setuid_program(const char *url) {
  llmpool_t *pool = NULL;
  llmpool_request_t request = harness_request(url);
  if (getuid() == geteuid() || llmpool_open(NULL, &pool) != LLMPOOL_OK) return 3;
  return harness_outcome(pool, &request) == LLMPOOL_OK ? 0 : 4;
}

static void test_a_setuid_program_takes_no_proxy_from_its_user(void) {
  enum { NOBODY = 65534 };
  if (geteuid() != 0 || check_slower() > 1) return; /* only root can make one; no tool can follow it */
  char path[] = "/tmp/llmpool-test-XXXXXX", command[512];
  close(mkstemp(path));
  snprintf(command, sizeof command, "cp /proc/%d/exe %s", getpid(), path);
  CHECK(system(command) == 0);
  CHECK(chown(path, NOBODY, NOBODY) == 0 && chmod(path, 04755) == 0);
  const char *url = server_url(server, "/echo");
  pid_t child = fork();
  if (child == 0) {
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    execl(path, path, url, (char *)NULL);
    _exit(127);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child);
  unlink(path);
  CHECK(WIFEXITED(status));
  if (WEXITSTATUS(status) == 3 || WEXITSTATUS(status) == 127) return; /* the file system knows no setuid, or hides us */
  CHECK_EQ(WEXITSTATUS(status), 0);
}

static void set_up(void) {
  server = server_start();
}

int main(int count, char **arguments) {
  if (count > 1) _exit(as_a_setuid_program(arguments[1])); /* a leak checker may not look into such a process */
  RUN(set_up);
  if (!server) return check_report();
  RUN(test_no_thread_or_descriptor_stays);
  RUN(test_unused_pools_leave_nothing);
  RUN(test_an_idle_connection_closed_by_the_server_goes_at_once);
  RUN(test_close_ends_each_request_once);
  RUN(test_close_waits_for_what_is_in_flight);
  RUN(test_close_takes_no_more_requests_while_it_drains);
  RUN(test_a_closed_pool_answers_closed);
  RUN(test_a_closed_queue_answers_closed);
  RUN(test_closing_a_queue_wakes_who_drains_it);
  RUN(test_queue_close_cancels_what_belongs_to_it);
  RUN(test_queue_close_drops_what_was_not_drained);
  RUN(test_events_outlive_queue_and_pool);
  RUN(test_double_release_does_nothing);
  RUN(test_queue_outlives_its_pools);
  RUN(test_perform_ends_when_its_pool_closes);
  RUN(test_a_queue_closed_while_a_request_is_submitted);
  RUN(test_a_failed_open_leaves_nothing);
  RUN(test_lent_strings_stay);
  RUN(test_the_last_to_configure_is_obeyed_throughout);
  RUN(test_a_setuid_program_takes_no_proxy_from_its_user);
  server_stop(server);
  return check_report();
}
