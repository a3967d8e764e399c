/*
 * test_fork.c - in a forked child the shared pool works anew, every other handle of the parent answers E_FORKED, and
 * the parent goes on as if nothing had happened.
 */
#include "harness.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FORKED LLMPOOL_E_FORKED
#define CHILD_SECONDS_MAX 20

static server_t *server;

/* LeakSanitizer asks. In a child the threads are gone that held what the parent has: all of that would be leaks. */
int __lsan_is_turned_off(void);
static int is_a_child;
int __lsan_is_turned_off(void) { return is_a_child; }

/* Runs the function in a child, which has no test to escape to: a failed check there is its exit status. */
static void in_a_child(void (*function)(void)) {
  fflush(stdout);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    is_a_child = 1;
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
  CHECK_STATUS(llmpool_histograms(pool, NULL, NULL, sizeof(llmpool_histogram_t), 0, NULL), FORKED);
  CHECK_STATUS(llmpool_reasons(pool, NULL, NULL, sizeof(llmpool_reason_t), 0, NULL), FORKED);
  CHECK_STATUS(llmpool_requests(pool, NULL, sizeof(llmpool_inflight_t), 0, NULL), FORKED);
  CHECK_STATUS(llmpool_serve_stats(pool, "/nowhere"), FORKED);
  CHECK_STATUS(llmpool_serve_stats(pool, NULL), FORKED);
  CHECK_STATUS((llmpool_status_t)llmpool_origins(pool, text, sizeof text), FORKED);
  CHECK_STATUS((llmpool_status_t)llmpool_budgets(pool, text, sizeof text), FORKED);
  CHECK_STATUS(llmpool_budget_settle(pool, 1, 1, 1), FORKED);
  llmpool_lease_t lease = {.size = sizeof lease, .valid_ms = 1, .members = 1};
  CHECK_STATUS(llmpool_budget_share(pool, NULL, NULL), FORKED);
  CHECK_STATUS(llmpool_budget_grant(pool, "budget", &lease, NULL, 0, 0), FORKED);
  CHECK_STATUS(llmpool_budget_demand(pool, "budget", &lease, NULL, 0, 0, NULL), FORKED);
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

static void look_at_the_budget(void) {
  llmpool_t *shared;
  CHECK_OK(llmpool_shared(&shared));
  llmpool_budget_t budget = {.size = sizeof budget};
  llmpool_limit_t limit;
  uint32_t count = 0;
  CHECK_OK(llmpool_budget_get(shared, "inherited", &budget, &limit, sizeof limit, 1, &count));
  CHECK(budget.max_concurrent == 7 && count == 1 && limit.amount == 5 && limit.window_ms == 1000);
}

/* Without the lease of the parent. */
static void look_at_the_share(void) {
  llmpool_budget_t budget = {.size = sizeof budget};
  llmpool_lease_t lease = {.size = sizeof lease};
  llmpool_lease_limit_t limit;
  CHECK_SOON(llmpool_budget_demand(shared, "lent", &lease, &limit, sizeof limit, 1, NULL) == LLMPOOL_OK);
  CHECK(lease.members == 0 && limit.held <= 0 && limit.spent == 0);
  CHECK_OK(llmpool_budget_get(shared, "lent", &budget, NULL, 0, 0, NULL));
  CHECK(budget.shared == 1 && budget.leased == 0 && budget.members == 0);
}

static void test_a_child_is_a_member_of_its_own(void) {
  llmpool_budget_t budget = {.size = sizeof budget};
  llmpool_limit_t amount = {.amount = 600, .window_ms = 60000};
  llmpool_share_t share = {.size = sizeof share, .safe_share = 0.5};
  llmpool_lease_t lease = {.size = sizeof lease};
  llmpool_lease_limit_t limit;
  CHECK_OK(llmpool_budget_configure(shared, "lent", &budget, &amount, sizeof amount, 1));
  CHECK_OK(llmpool_budget_share(shared, "lent", &share));
  CHECK_SOON(llmpool_budget_demand(shared, "lent", &lease, &limit, sizeof limit, 1, NULL) == LLMPOOL_OK);
  lease.valid_ms = 60000;
  lease.members = 5;
  limit.granted = 10;
  CHECK_OK(llmpool_budget_grant(shared, "lent", &lease, &limit, sizeof limit, 1));
  CHECK_SOON((llmpool_budget_get(shared, "lent", &budget, NULL, 0, 0, NULL), budget.leased == 1));
  in_a_child(look_at_the_share);
}

/* As it has its options. */
static void test_a_child_has_the_budgets_of_the_shared_pool(void) {
  llmpool_t *shared;
  CHECK_OK(llmpool_shared(&shared));
  llmpool_budget_t budget = {.size = sizeof budget, .max_concurrent = 7};
  llmpool_limit_t limit = {.amount = 5, .window_ms = 1000};
  CHECK_OK(llmpool_budget_configure(shared, "inherited", &budget, &limit, sizeof limit, 1));
  in_a_child(look_at_the_budget);
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

/* ---- before there is a pool ---- */

static llmpool_queue_t *first_queue;

static void use_the_first_queue(void) {
  llmpool_event_t event;
  CHECK_STATUS(llmpool_queue_drain(first_queue, &event, sizeof event, 1, 0), FORKED);
}

static void test_a_queue_that_was_there_before_any_pool(void) {
  first_queue = harness_queue();
  in_a_child(use_the_first_queue);
  CHECK_OK(llmpool_queue_close(first_queue));
}

/* ---- what a child inherits ---- */

#define STREAM_EVENTS_MAX 64
static llmpool_event_t stream_events[STREAM_EVENTS_MAX];
static int stream_count;

/* Their credit would wake the engine, through a descriptor whose number now means a file of the child's own. */
static void release_inherited_events(void) {
  enum { FILES = 64 };
  int files[FILES];
  for (int i = 0; i < FILES; i++) {
    char path[] = "/tmp/llmpool-test-XXXXXX";
    files[i] = mkstemp(path);
    CHECK(files[i] >= 0);
    unlink(path);
  }
  llmpool_events_release(stream_events, sizeof *stream_events, (uint32_t)stream_count);
  for (int i = 0; i < FILES; i++)
    CHECK_EQ(lseek(files[i], 0, SEEK_END), 0);
}

static void test_inherited_events_write_to_no_file(void) {
  llmpool_request_t request = harness_request(server_url(server, "/size/400000"));
  llmpool_t *own = harness_pool(NULL);
  llmpool_queue_t *its = harness_queue();
  request.flags = LLMPOOL_REQUEST_STREAM;
  harness_submit(own, &request, its);
  for (stream_count = 0; stream_count < STREAM_EVENTS_MAX;) {
    stream_events[stream_count] = harness_next(its);
    if (stream_events[stream_count++].kind == LLMPOOL_EVENT_DONE) break;
  }
  CHECK_EQ(stream_events[stream_count - 1].kind, LLMPOOL_EVENT_DONE);
  check_sleep_ms(50); /* the engine's thread sleeps */
  in_a_child(release_inherited_events);
  llmpool_events_release(stream_events, sizeof *stream_events, (uint32_t)stream_count);
  CHECK_OK(llmpool_queue_close(its));
  CHECK_OK(llmpool_close(own, 0));
}

/* ---- a child that closes every descriptor, as daemons do ---- */

enum { DAEMON_FILES = 64 };
static char daemon_directory[] = "/tmp/llmpool-test-XXXXXX";
static int daemon_files[DAEMON_FILES];

static const char *daemon_path(int number) {
  static char path[sizeof daemon_directory + 16];
  snprintf(path, sizeof path, "%s/%d", daemon_directory, number);
  return path;
}

/* Each number that the library had means a file of the application's now. */
static void become_a_daemon(void) {
  CHECK(syscall(SYS_close_range, 3U, ~0U, 0U) == 0);
  for (int i = 0; i < DAEMON_FILES; i++) {
    daemon_files[i] = open(daemon_path(i), O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(daemon_files[i] >= 0);
  }
}

static void check_daemon_files(void) {
  for (int i = 0; i < DAEMON_FILES; i++) {
    struct stat file, named;
    CHECK(stat(daemon_path(i), &named) == 0);
    if (fstat(daemon_files[i], &file) != 0 || file.st_ino != named.st_ino)
      check_failed(__FILE__, __LINE__, "descriptor %d is another one's", daemon_files[i]);
    CHECK_EQ(named.st_size, 0);
  }
}

static llmpool_queue_t *open_driving_queue(void) {
  llmpool_queue_options_t options = {.size = sizeof options, .flags = LLMPOOL_QUEUE_DRIVE};
  llmpool_queue_t *driving = NULL;
  CHECK_OK(llmpool_queue_open(&options, &driving));
  CHECK(llmpool_queue_fd(driving) >= 0);
  return driving;
}

/* Of a descriptor that was there before: a queue that is closed by the time the thread begins has none. */
static void *poll_for_ever(void *its) {
  struct pollfd descriptor = {.fd = (int)(intptr_t)its, .events = POLLIN};
  return (void *)(intptr_t)poll(&descriptor, 1, -1);
}

/* Who polls its descriptor wakes. */
static void close_a_queue_that_drives(void) {
  llmpool_t *own = harness_pool(NULL);
  llmpool_queue_t *its = open_driving_queue();
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  for (int i = 0; i < 5; i++) {
    harness_submit(own, &request, its);
    llmpool_event_t event = {.kind = 0};
    while (llmpool_queue_drain(its, &event, sizeof event, 1, 5000) == 0)
      continue;
    CHECK_STATUS(event.status, LLMPOOL_OK);
    harness_release(&event);
  }
  request.url = server_url(server, "/never");
  harness_submit(own, &request, its);
  pthread_t thread;
  void *result;
  CHECK(pthread_create(&thread, NULL, poll_for_ever, (void *)(intptr_t)llmpool_queue_fd(its)) == 0);
  check_sleep_ms(50);
  CHECK_OK(llmpool_queue_close(its));
  pthread_join(thread, &result);
  CHECK_EQ((intptr_t)result, 1);
  CHECK_OK(llmpool_close(own, 0));
}

static void be_a_daemon(void) {
  become_a_daemon();
  close_a_queue_that_drives();
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  in_a_child(check_daemon_files); /* the second fork of two */
  for (int i = 0; i < 10; i++)
    CHECK_STATUS(harness_outcome(shared, &request), LLMPOOL_OK);
  check_daemon_files();
  in_a_child(check_daemon_files);
  check_daemon_files();
  fflush(NULL);
  exit(0);
}

static void end_as_a_daemon(void) {
  become_a_daemon();
  fflush(NULL);
  exit(0);
}

static void test_a_daemon_keeps_its_files(void) {
  CHECK(mkdtemp(daemon_directory) != NULL);
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  llmpool_t *own = harness_pool(NULL);
  for (int i = 0; i < 10; i++) /* the queue of its calls gets descriptors */
    CHECK_STATUS(harness_outcome(own, &request), LLMPOOL_OK);
  CHECK_OK(llmpool_queue_close(open_driving_queue()));
  void (*const lives[])(void) = {be_a_daemon, end_as_a_daemon};
  for (int life = 0; life < 2; life++) {
    in_a_child(lives[life]);
    for (int i = 0; i < DAEMON_FILES; i++) {
      struct stat named;
      CHECK(stat(daemon_path(i), &named) == 0);
      unlink(daemon_path(i));
      if (named.st_size != 0)
        check_failed(__FILE__, __LINE__, "%d bytes were written to a file of the daemon's", (int)named.st_size);
    }
  }
  rmdir(daemon_directory);
  CHECK_OK(llmpool_close(own, 0));
}

/* ---- while a thread waits for a file ---- */

static const char *pipe_path;

static void *open_with_a_pipe(void *unused) {
  (void)unused;
  llmpool_options_t options = harness_options();
  llmpool_t *own = NULL;
  options.ca_file = pipe_path;
  return (void *)(intptr_t)llmpool_open(&options, &own);
}

static void test_a_fork_while_a_file_is_read(void) {
  char path[] = "/tmp/llmpool-test-XXXXXX";
  CHECK(mkdtemp(path) != NULL);
  char pipe[sizeof path + 8];
  snprintf(pipe, sizeof pipe, "%s/pipe", path);
  CHECK(mkfifo(pipe, 0600) == 0);
  pipe_path = pipe;
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, open_with_a_pipe, NULL) == 0);
  check_sleep_ms(50); /* it waits for whoever writes to the pipe */
  int64_t start = check_now_ms();
  in_a_child(test_the_shared_pool_works_anew);
  CHECK(check_now_ms() - start < 9000); /* the fork would give up waiting after ten seconds */
  int writer = open(pipe, O_WRONLY);
  CHECK(writer >= 0);
  check_sleep_ms(50); /* now it waits for bytes */
  start = check_now_ms();
  in_a_child(test_the_shared_pool_works_anew);
  CHECK(check_now_ms() - start < 9000);
  CHECK(write(writer, "no certificate\n", 15) == 15);
  close(writer);
  void *result;
  pthread_join(thread, &result);
  CHECK_STATUS((llmpool_status_t)(intptr_t)result, LLMPOOL_E_INVALID_ARGUMENT);
  unlink(pipe);
  rmdir(path);
}

/* ---- beside threads that use the library ---- */

static atomic_int stop;

/* The application's own descriptors: one opened after the other, closed again much later. */
enum { FILES = 512, FILES_CHECKED = 64 };
static int files[FILES];
static atomic_int files_opened;

static void *open_files(void *unused) {
  (void)unused;
  for (int i = 0; !atomic_load(&stop); i++) {
    if (i >= FILES) close(files[i % FILES]);
    files[i % FILES] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    atomic_store(&files_opened, i + 1);
    usleep(300);
  }
  for (int i = 0; i < FILES && i < atomic_load(&files_opened); i++)
    close(files[i]);
  return NULL;
}

/* As of before the fork: what was opened then and is not soon closed is there in the child. */
static int files_seen;

static void check_files(void) {
  for (int i = files_seen - 1; i >= 0 && i >= files_seen - FILES_CHECKED; i--)
    CHECK(fcntl(files[i % FILES], F_GETFD) >= 0);
}

static void *open_and_close_pools(void *unused) {
  (void)unused;
  llmpool_request_t request = harness_request(server_url(server, "/size/10"));
  while (!atomic_load(&stop)) {
    llmpool_t *own = harness_pool(NULL);
    CHECK_STATUS(harness_outcome(own, &request), LLMPOOL_OK);
    CHECK_OK(llmpool_close(own, 0));
  }
  return NULL;
}

static void *open_and_close_queues(void *unused) {
  (void)unused;
  llmpool_request_t request = harness_request(server_url(server, "/size/10"));
  llmpool_queue_options_t options = {.size = sizeof options, .flags = LLMPOOL_QUEUE_DRIVE};
  while (!atomic_load(&stop)) {
    llmpool_queue_t *own = NULL;
    CHECK_OK(llmpool_queue_open(&options, &own));
    CHECK(llmpool_queue_fd(own) >= 0);
    harness_submit(shared, &request, own);
    llmpool_event_t event = harness_next(own);
    harness_release(&event);
    CHECK_OK(llmpool_queue_close(own));
  }
  return NULL;
}

static void *perform(void *unused) {
  (void)unused;
  llmpool_request_t request = harness_request(server_url(server, "/size/1000"));
  while (!atomic_load(&stop))
    CHECK_STATUS(harness_outcome(shared, &request), LLMPOOL_OK);
  return NULL;
}

static void *look_and_configure(void *unused) {
  (void)unused;
  char text[1024];
  while (!atomic_load(&stop)) {
    llmpool_options_t options;
    CHECK_OK(llmpool_options_get(shared, &options, sizeof options));
    CHECK_OK(llmpool_configure(shared, &options));
    CHECK(llmpool_metrics(shared, LLMPOOL_METRICS_PROMETHEUS, text, sizeof text) > 0);
    harness_stats(shared);
  }
  return NULL;
}

static int in_child_number;

/* Every kind of call; the parent's threads were anywhere in any of them. */
static void use_everything(void) {
  llmpool_options_t options;
  CHECK_OK(llmpool_options_get(shared, &options, sizeof options));
  llmpool_queue_t *own = harness_queue();
  CHECK(llmpool_queue_fd(own) >= 0);
  llmpool_request_t request = harness_request(server_url(server, "/size/10"));
  if (in_child_number % 10 == 0) {
    llmpool_t *other = harness_pool(NULL);
    CHECK_STATUS(harness_outcome(other, &request), LLMPOOL_OK);
    CHECK_OK(llmpool_close(other, 0));
  }
  CHECK_STATUS(harness_outcome(shared, &request), LLMPOOL_OK);
  CHECK_OK(llmpool_queue_close(own));
}

enum { THREADS_MAX = 8 };
typedef void *(*work_t)(void *);

static void fork_beside(const work_t *work, int forks, void (*child)(void)) {
  pthread_t threads[THREADS_MAX];
  int count = 0;
  atomic_store(&stop, 0);
  atomic_store(&files_opened, 0);
  for (; count < THREADS_MAX && work[count] != NULL; count++)
    CHECK(pthread_create(&threads[count], NULL, work[count], NULL) == 0);
  for (in_child_number = 0; in_child_number < forks; in_child_number++) {
    files_seen = atomic_load(&files_opened);
    in_a_child(child);
  }
  atomic_store(&stop, 1);
  for (int i = 0; i < count; i++)
    pthread_join(threads[i], NULL);
}

static void test_forks_beside_busy_threads(void) {
  const work_t work[] = {
      perform, perform, perform, perform, open_and_close_queues, open_and_close_pools, look_and_configure, NULL};
  fork_beside(work, check_is_long() ? 10000 : 300, use_everything);
  CHECK_EQ(harness_stats(shared).failed, 0);
}

static void test_forks_beside_pools_that_are_closed(void) {
  const work_t work[] = {open_and_close_pools, open_and_close_pools, open_files, NULL};
  fork_beside(work, check_is_long() ? 10000 : 500, check_files);
}

/* ---- a fork in a signal handler that has interrupted a call ---- */

static pthread_t interrupted_thread;
static atomic_int interrupts;
static pid_t interrupting_child;
static volatile sig_atomic_t child_returns;

/* The library's own goes through here: a thread that does the pool's work looks with the turn in its hands. */
int epoll_wait(int epoll, struct epoll_event *events, int capacity, int timeout) {
  if (atomic_load(&interrupts) > 0 && pthread_equal(pthread_self(), interrupted_thread) &&
      atomic_fetch_sub(&interrupts, 1) == 1)
    raise(SIGUSR1);
  return (int)syscall(SYS_epoll_pwait, epoll, events, capacity, timeout, NULL, 8);
}

static void fork_in_handler(int number) {
  (void)number;
  interrupting_child = fork();
  if (interrupting_child != 0) return;
  alarm(CHILD_SECONDS_MAX);
  if (!child_returns) _exit(0);
}

/* In the child the interrupted call ends, and what comes after it works. */
static void go_on_in_the_child(llmpool_status_t status) {
  if (setjmp(check_escape) != 0) _exit(1);
  CHECK_STATUS(status, FORKED);
  use_everything();
  use_the_first_queue();
  _exit(0);
}

static void perform_interrupted(int returns) {
  llmpool_t *own = harness_pool(NULL);
  llmpool_request_t request = harness_request(server_url(server, "/delay/5"));
  for (int i = 0; i < 10; i++)
    CHECK_STATUS(harness_outcome(own, &request), LLMPOOL_OK);
  interrupting_child = -1;
  child_returns = returns;
  interrupted_thread = pthread_self();
  atomic_store(&interrupts, 1);
  llmpool_event_t done;
  llmpool_status_t result = llmpool_perform(own, &request, &done, sizeof done, NULL);
  if (interrupting_child == 0) go_on_in_the_child(result);
  CHECK_OK(result);
  CHECK_STATUS(done.status, LLMPOOL_OK);
  harness_release(&done);
  CHECK_EQ(harness_stats(own).opened, 1);
  CHECK_EQ(atomic_load(&interrupts), 0);
  int status = -1;
  CHECK(waitpid(interrupting_child, &status, 0) == interrupting_child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK_STATUS(harness_outcome(own, &request), LLMPOOL_OK);
  CHECK_EQ(harness_stats(own).opened, 1);
  CHECK_OK(llmpool_close(own, 0));
}

static void test_a_fork_that_interrupts_a_call(void) {
  signal(SIGUSR1, fork_in_handler);
  for (int i = 0; i < 5; i++) {
    perform_interrupted(0);
    perform_interrupted(1);
  }
  signal(SIGUSR1, SIG_DFL);
}

/* ---- a fork in a signal handler that has interrupted a call that waits ---- */

static void *signal_soon(void *thread) {
  check_sleep_ms(30);
  pthread_kill(*(pthread_t *)thread, SIGUSR1);
  return NULL;
}

typedef llmpool_status_t (*wait_t)(llmpool_t *pool, llmpool_queue_t *queue);

static llmpool_status_t wait_in_close(llmpool_t *own, llmpool_queue_t *its) {
  (void)its;
  return llmpool_close(own, 60000);
}

static llmpool_status_t wait_in_drain(llmpool_t *own, llmpool_queue_t *its) {
  (void)own;
  llmpool_event_t event;
  return llmpool_queue_drain(its, &event, sizeof event, 1, 60000);
}

static llmpool_status_t wait_in_perform(llmpool_t *own, llmpool_queue_t *its) {
  (void)its;
  llmpool_request_t request = harness_request(server_url(server, "/delay/1000"));
  llmpool_event_t event;
  llmpool_status_t status = llmpool_perform(own, &request, &event, sizeof event, NULL);
  if (status == LLMPOOL_OK) harness_release(&event);
  return status;
}

static void wait_interrupted(wait_t wait, llmpool_status_t in_child) {
  llmpool_t *own = harness_pool(NULL);
  llmpool_queue_t *its = harness_queue();
  llmpool_request_t request = harness_request(server_url(server, "/delay/1000"));
  harness_submit(own, &request, its);
  interrupting_child = -1;
  child_returns = 1;
  pthread_t self = pthread_self(), signaller;
  CHECK(pthread_create(&signaller, NULL, signal_soon, &self) == 0);
  llmpool_status_t result = wait(own, its);
  if (interrupting_child == 0) {
    if (setjmp(check_escape) != 0) _exit(1);
    CHECK_STATUS(result, in_child);
    use_everything();
    _exit(0);
  }
  CHECK_OK(result);
  pthread_join(signaller, NULL);
  int status = -1;
  CHECK(waitpid(interrupting_child, &status, 0) == interrupting_child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK_OK(llmpool_queue_close(its));
  llmpool_close(own, 0);
}

static void test_a_fork_that_interrupts_a_wait(void) {
  signal(SIGUSR1, fork_in_handler);
  wait_interrupted(wait_in_drain, FORKED);
  wait_interrupted(wait_in_perform, FORKED);
  wait_interrupted(wait_in_close, LLMPOOL_OK);
  signal(SIGUSR1, SIG_DFL);
}

/* ---- a fork while another thread makes the first call of all ---- */

static atomic_int about_to_call;

static void *make_the_first_call(void *unused) {
  (void)unused;
  atomic_store(&about_to_call, 1);
  CHECK_OK(llmpool_shared(&shared));
  return NULL;
}

static void use_what_was_just_begun(void) {
  CHECK_OK(llmpool_shared(&shared));
  CHECK_STATUS(llmpool_queue_drain(NULL, NULL, 0, 0, 0), LLMPOOL_E_INVALID_ARGUMENT);
}

static int fork_delay;

static void fork_beside_the_first_call(void) {
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, make_the_first_call, NULL) == 0);
  while (!atomic_load(&about_to_call))
    continue;
  usleep((useconds_t)fork_delay);
  in_a_child(use_what_was_just_begun);
  pthread_join(thread, NULL);
}

static void test_a_fork_beside_the_first_call(void) {
  for (fork_delay = 0; fork_delay < 6000; fork_delay += check_is_long() ? 20 : 300)
    in_a_child(fork_beside_the_first_call);
}

int main(void) {
  RUN(test_a_fork_beside_the_first_call); /* before there was any */
  RUN(test_a_queue_that_was_there_before_any_pool);
  RUN(set_up);
  if (!in_flight) return check_report();
  RUN(test_handles_of_the_parent_answer_forked);
  RUN(test_the_shared_pool_works_anew);
  RUN(test_a_child_has_the_budgets_of_the_shared_pool);
  RUN(test_a_child_is_a_member_of_its_own);
  RUN(test_a_child_opens_a_pool);
  RUN(test_a_grandchild_works_too);
  RUN(test_a_parent_that_drives);
  RUN(test_inherited_events_write_to_no_file);
  RUN(test_a_fork_that_interrupts_a_call);
  RUN(test_a_fork_that_interrupts_a_wait);
  RUN(test_a_daemon_keeps_its_files);
  RUN(test_a_fork_while_a_file_is_read);
  RUN(test_the_parent_goes_on); /* before its connections have been idle for long */
  RUN_LONG(test_forks_beside_busy_threads);
  RUN_LONG(test_forks_beside_pools_that_are_closed);
  server_stop(server);
  return check_report();
}
