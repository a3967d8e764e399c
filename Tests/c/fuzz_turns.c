/*
 * fuzz_turns.c - who takes the turns and who is woken, at random: threads submit, drain, poll, read, cancel, close
 * queues and pools, are cancelled and fork, with timeouts of 5 to 50 ms.
 *
 *   fuzz_turns [SECONDS] [SEED] [no-forks] [no-cancels] [no-lateness] [late-ms=5]
 *
 * What must hold: every request ends once; no timeout is late by more than 5 ms (late-ms) beyond the machine's own
 * lateness; nobody finds his descriptor readable again and again and nothing to take; no call and no child hangs.
 * ThreadSanitizer cannot follow a fork, and is late by itself.
 */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
  THREADS = 8,
  QUEUES = 4, /* the first half with LLMPOOL_QUEUE_DRIVE */
  ROUND_MS = 1000,
  REQUESTS = 1 << 16, /* of a round, at most */
  HANG_MS = 20000,
  TICKS = 4096,
  EMPTY_IN_A_ROW = 50, /* others may be quicker, but not that often */
};

typedef struct {
  _Atomic int queue;      /* the place it belongs to, from 1 */
  _Atomic int generation; /* of the queue in that place */
  _Atomic int ends;       /* DONE events seen */
  uint32_t timeout_ms;
  int64_t submitted_us;
} request_t;

typedef struct {
  llmpool_queue_t *_Atomic queue; /* drained also while it is closed, without the lock */
  _Atomic int generation;
  pthread_rwlock_t lock; /* read: somebody uses the descriptor; write: it is closed */
} place_t;

typedef struct {
  pthread_t thread;
  int number;
  uint64_t random;
  _Atomic int64_t beat; /* when it last began something */
  const char *_Atomic doing;
  _Atomic int schedstat; /* descriptor of the thread's, from 1 */
  int empty;             /* readable, and nothing to take: so often in a row */
} worker_t;

static server_t *server;
static llmpool_t *pool;
static place_t places[QUEUES];
static worker_t workers[THREADS];
static request_t *requests;
static _Atomic uint32_t submitted;
static _Atomic int is_over, is_paused, paused;
static _Atomic int is_untimed;       /* all who look at the time are gone */
static _Atomic int active = THREADS; /* so many of the threads do something */
static _Atomic int64_t forking_us;   /* time that all forks together took */
static _Atomic int64_t fork_began;   /* of one under way; 0: none is */
static _Atomic long polls, empty_polls, events_seen, timeouts_seen, forks_made, cancels_made, closes_made;
static _Atomic long worst_late_us;
static int with_forks = 1, with_cancels = 1, with_lateness = 1, late_ms = 5;
static const char *urls[9];

static int64_t now_us(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

static uint64_t draw(worker_t *worker, uint64_t limit) { /* SplitMix64 */
  uint64_t z = (worker->random += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return (z ^ (z >> 31)) % limit;
}

/* ---- how late the machine itself is ---- */

/* Every millisecond a thread on each processor notes how late that is, whatever held it up: a virtual one that its host
 * lets wait has its timers late, those of threads that sleep, too. The first thread also notes for how long each thread
 * that takes turns has waited for a processor so far (the second field of schedstat): the pool's, then the workers'. */
typedef struct {
  int64_t at_us, late_us, forking_us, waited_us[THREADS + 1];
} tick_t;
typedef struct {
  pthread_t thread;
  int processor;
  tick_t ticks[TICKS];
  _Atomic uint64_t count;
} timekeeper_t;
static timekeeper_t *timekeepers;
static int timekeeper_count;

static int64_t waited_us(int descriptor) {
  char text[100] = "";
  unsigned long long run = 0, waited = 0;
  if (descriptor < 0 || pread(descriptor, text, sizeof text - 1, 0) <= 0) return 0;
  sscanf(text, "%llu %llu", &run, &waited);
  return (int64_t)(waited / 1000);
}

static int schedstat_of(int tid) {
  char path[100];
  snprintf(path, sizeof path, "/proc/self/task/%d/schedstat", tid);
  return open(path, O_RDONLY | O_CLOEXEC);
}

/* 0: it does not run yet, so that it has not named itself. */
static int look_for_the_pool(void) {
  int found = 0;
  DIR *tasks = opendir("/proc/self/task");
  for (struct dirent *task; tasks != NULL && found == 0 && (task = readdir(tasks)) != NULL;) {
    char path[300], name[32] = "";
    snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
    FILE *file = fopen(path, "r");
    if (file == NULL) continue;
    if (fscanf(file, "%31s", name) == 1 && strcmp(name, "llmpool") == 0) found = atoi(task->d_name);
    fclose(file);
  }
  if (tasks != NULL) closedir(tasks);
  return found;
}

static int tid_of_the_pool(void) {
  int found = 0;
  for (int tries = 0; (found = look_for_the_pool()) == 0 && tries < 10000; tries++)
    usleep(1000);
  CHECK(found != 0);
  return found;
}

static void *keep_time(void *argument) {
  timekeeper_t *keeper = argument;
  int is_first = keeper == timekeepers;
  int of_the_pool = is_first ? schedstat_of(tid_of_the_pool()) : -1;
  cpu_set_t processors;
  CPU_ZERO(&processors);
  CPU_SET(keeper->processor, &processors);
  CHECK(pthread_setaffinity_np(pthread_self(), sizeof processors, &processors) == 0);
  int64_t now = now_us();
  while (!is_untimed) {
    int64_t due = now + 1000;
    struct timespec until = {due / 1000000, due % 1000000 * 1000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    now = now_us();
    tick_t tick = {.at_us = now, .late_us = now - due, .forking_us = forking_us};
    int64_t began = fork_began;
    if (began > 0 && began < now) tick.forking_us += now - began;
    tick.waited_us[0] = waited_us(of_the_pool);
    for (int i = 0; is_first && i < THREADS; i++)
      tick.waited_us[i + 1] = waited_us(workers[i].schedstat - 1);
    keeper->ticks[keeper->count % TICKS] = tick;
    keeper->count++;
  }
  if (is_first) close(of_the_pool);
  return NULL;
}

static void begin_to_keep_time(void) {
  cpu_set_t processors;
  CHECK(sched_getaffinity(0, sizeof processors, &processors) == 0);
  timekeepers = calloc((size_t)CPU_COUNT(&processors), sizeof *timekeepers);
  for (int processor = 0; processor < CPU_SETSIZE; processor++)
    if (CPU_ISSET(processor, &processors)) timekeepers[timekeeper_count++].processor = processor;
  for (int i = 0; i < timekeeper_count; i++)
    CHECK(pthread_create(&timekeepers[i].thread, NULL, keep_time, &timekeepers[i]) == 0);
}

static void end_to_keep_time(void) {
  is_untimed = 1;
  for (int i = 0; i < timekeeper_count; i++)
    pthread_join(timekeepers[i].thread, NULL);
  free(timekeepers);
}

/* All have noted what came until then. */
static void await_ticks(int64_t until_us) {
  for (int i = 0; i < timekeeper_count; i++)
    while (timekeepers[i].count == 0 || timekeepers[i].ticks[(timekeepers[i].count - 1) % TICKS].at_us < until_us)
      check_sleep_ms(1);
}

/* How late whoever was due at that time may have been, in microseconds, for no fault of the library: a timer's
 * lateness, forks, which nothing survives that moves, and the waits for a processor of the pool's thread and of those
 * that held the turn, or a lock that its holder wanted: one after the other on a busy machine, on an idle one next to
 * nothing. */
static int64_t lateness_noted_by(const timekeeper_t *keeper, int64_t due_us, int64_t done_us, int64_t *timer_us) {
  int64_t held_up = 0;
  const tick_t *last = NULL;
  uint64_t count = keeper->count;
  for (uint64_t i = count > TICKS ? count - TICKS + 1 : 0; i < count; i++) {
    const tick_t *tick = &keeper->ticks[i % TICKS];
    if (tick->at_us < due_us - 5000) continue;
    if (tick->late_us > *timer_us) *timer_us = tick->late_us;
    if (last != NULL) held_up += tick->forking_us - last->forking_us;
    for (int thread = 0; last != NULL && thread <= THREADS; thread++)
      if (tick->waited_us[thread] > last->waited_us[thread])
        held_up += tick->waited_us[thread] - last->waited_us[thread];
    if (tick->at_us > done_us + 3000) break;
    last = tick;
  }
  return held_up;
}

static int64_t lateness_of_the_machine(int64_t due_us, int64_t done_us) {
  int64_t timer = 0, held_up = 0;
  for (int i = 0; i < timekeeper_count; i++) {
    int64_t noted = lateness_noted_by(&timekeepers[i], due_us, done_us, &timer);
    if (i == 0) held_up = noted;
  }
  return timer + held_up;
}

static void check_lateness(const request_t *request, const llmpool_event_t *event) {
  int64_t due = (int64_t)request->timeout_ms * 1000;
  int64_t late = (int64_t)event->timings->done - due;
  timeouts_seen++;
  if (!with_lateness || late <= late_ms * 1000) return;
  int64_t end = request->submitted_us + due + late;
  await_ticks(end + 3000);
  int64_t beyond = late - lateness_of_the_machine(request->submitted_us + due, end);
  if (beyond > worst_late_us) worst_late_us = beyond;
  if (beyond > late_ms * 1000)
    check_failed(__FILE__, __LINE__, "a timeout of %u ms came %lld us late, %lld of them beyond the machine's lateness",
                 request->timeout_ms, (long long)late, (long long)beyond);
}

/* ---- what the threads do ---- */

/* The library's calls may be cancelled, if they were cancellation points; what this program does itself may not. */
#define CANCELLABLE(call)                                                                                              \
  __extension__({                                                                                                      \
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);                                                               \
    __typeof__(call) result_ = (call);                                                                                 \
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);                                                              \
    result_;                                                                                                           \
  })

static void took(llmpool_event_t *events, int32_t count) {
  for (int32_t i = 0; i < count; i++) {
    events_seen++;
    if (events[i].kind != LLMPOOL_EVENT_DONE) continue;
    CHECK(events[i].user_data < REQUESTS);
    request_t *request = &requests[events[i].user_data];
    CHECK_EQ(++request->ends, 1);
    if (events[i].status == LLMPOOL_E_TOTAL_TIMEOUT) check_lateness(request, &events[i]);
  }
  llmpool_events_release(events, sizeof *events, count > 0 ? (uint32_t)count : 0);
}

static int32_t drain(place_t *place, worker_t *worker, int timeout_ms) {
  llmpool_event_t events[8];
  uint32_t capacity = 1 + (uint32_t)draw(worker, 8);
  int32_t count = CANCELLABLE(llmpool_queue_drain(place->queue, events, sizeof *events, capacity, timeout_ms));
  CHECK(count >= 0 || count == LLMPOOL_E_CLOSED);
  took(events, count);
  return count;
}

static void do_drain(worker_t *worker, place_t *place) {
  drain(place, worker, (int)draw(worker, 20));
}

static void do_sleep(worker_t *worker, place_t *place) {
  (void)place;
  check_sleep_ms((int)draw(worker, 10));
}

static void submit(worker_t *worker, place_t *place, const char *url, uint32_t timeout_ms) {
  static const uint32_t flags[] = {0, 0, LLMPOOL_REQUEST_STREAM, LLMPOOL_REQUEST_SSE, LLMPOOL_REQUEST_NO_RETRY};
  uint32_t number = submitted++;
  if (number >= REQUESTS) return;
  request_t *mine = &requests[number];
  llmpool_request_t request = harness_request(url);
  mine->timeout_ms = timeout_ms > 0 ? timeout_ms : 5 + (uint32_t)draw(worker, 46);
  request.total_timeout_ms = mine->timeout_ms;
  request.user_data = number;
  request.flags = flags[draw(worker, 5)];
  uint64_t id = 0;
  pthread_rwlock_rdlock(&place->lock); /* so that its generation is known */
  mine->generation = place->generation;
  mine->queue = (int)(place - places) + 1;
  mine->submitted_us = now_us();
  CHECK_OK(CANCELLABLE(llmpool_submit(pool, &request, place->queue, &id)));
  pthread_rwlock_unlock(&place->lock);
  if (draw(worker, 8) == 0) CANCELLABLE(llmpool_cancel(pool, id));
}

static void do_poll(worker_t *worker, place_t *place) {
  pthread_rwlock_rdlock(&place->lock);
  struct pollfd readable = {.fd = llmpool_queue_fd(place->queue), .events = POLLIN};
  int ready = poll(&readable, 1, (int)draw(worker, 20));
  if (ready == 1) {
    polls++;
    if (drain(place, worker, 0) == 0) {
      empty_polls++;
      CHECK(++worker->empty < EMPTY_IN_A_ROW);
    } else {
      worker->empty = 0;
    }
  }
  pthread_rwlock_unlock(&place->lock);
}

static void do_perform(worker_t *worker, place_t *place) {
  (void)place;
  llmpool_request_t request = harness_request(urls[draw(worker, 8)]);
  request.total_timeout_ms = 5 + (uint32_t)draw(worker, 46);
  request_t mine = {.timeout_ms = request.total_timeout_ms, .submitted_us = now_us()};
  llmpool_event_t done;
  CHECK_OK(CANCELLABLE(llmpool_perform(pool, &request, &done, sizeof done, NULL)));
  if (done.status == LLMPOOL_E_TOTAL_TIMEOUT) check_lateness(&mine, &done);
  harness_release(&done);
}

static void do_submit(worker_t *worker, place_t *place) {
  submit(worker, place, urls[draw(worker, 8)], 0);
}

/* One call after the other by one queue, which so gets the ear where nobody else is at it; now and then one so long
 * that the pool's thread looks seldom. */
static void do_lone_calls(worker_t *worker, place_t *place) {
  for (int i = 0; i < 12; i++) {
    worker->beat = check_now_ms();
    int is_long = draw(worker, 6) == 0;
    submit(worker, place, is_long ? urls[8] : urls[draw(worker, 8)], is_long ? 200 : 0);
    while (drain(place, worker, 60) > 0 && draw(worker, 2) == 0) {
    }
  }
}

static llmpool_queue_t *make_queue(int place, worker_t *worker) {
  llmpool_queue_options_t options = {.size = sizeof options};
  if (place < QUEUES / 2) options.flags = LLMPOOL_QUEUE_DRIVE;
  options.coalesce_us = (uint32_t)draw(worker, 3) * 2000;
  llmpool_queue_t *queue = NULL;
  CHECK_OK(llmpool_queue_open(&options, &queue));
  return queue;
}

static void do_close_queue(worker_t *worker, place_t *place) {
  if (pthread_rwlock_trywrlock(&place->lock) != 0) return;
  llmpool_queue_t *old = place->queue;
  place->queue = make_queue((int)(place - places), worker);
  place->generation++;
  closes_made++;
  pthread_rwlock_unlock(&place->lock);
  CHECK_OK(CANCELLABLE(llmpool_queue_close(old))); /* while others may be waiting in it */
}

static void do_pool_of_its_own(worker_t *worker, place_t *place) {
  (void)place;
  llmpool_t *own = harness_pool(NULL);
  llmpool_request_t request = harness_request(urls[draw(worker, 8)]);
  request.total_timeout_ms = 5 + (uint32_t)draw(worker, 46);
  for (int i = 0; i < 4; i++) {
    llmpool_event_t done = harness_perform(own, &request);
    harness_release(&done);
  }
  CHECK_OK(llmpool_close(own, (uint32_t)draw(worker, 20)));
}

/* The shared pool works in the child, and what is inherited answers that it is. */
static void child(const place_t *place) {
  llmpool_t *shared = NULL;
  llmpool_event_t event;
  llmpool_request_t request = harness_request(urls[0]);
  request.total_timeout_ms = HANG_MS / 2;
  int wrong = 0;
  if (llmpool_queue_drain(place->queue, &event, sizeof event, 1, 0) != LLMPOOL_E_FORKED) wrong = 1;
  if (llmpool_perform(pool, &request, &event, sizeof event, NULL) != LLMPOOL_E_FORKED) wrong = 2;
  if (llmpool_shared(&shared) != LLMPOOL_OK) wrong = 3;
  if (llmpool_perform(shared, &request, &event, sizeof event, NULL) != LLMPOOL_OK) wrong = 4;
  if (wrong == 0 && event.status != LLMPOOL_OK) wrong = 5;
  _exit(wrong);
}

static void do_fork(worker_t *worker, place_t *place) {
  (void)worker;
  static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER; /* at a time */
  if (!with_forks || pthread_mutex_trylock(&one) != 0) return;
  int status = 0, waits = 0;
  fork_began = now_us();
  pid_t process = fork();
  if (process == 0) child(place);
  forking_us += now_us() - fork_began;
  fork_began = 0;
  CHECK(process > 0);
  while (waitpid(process, &status, WNOHANG) == 0) {
    CHECK(++waits < HANG_MS / 5);
    check_sleep_ms(5);
  }
  CHECK(WIFEXITED(status));
  CHECK_EQ(WEXITSTATUS(status), 0);
  forks_made++;
  pthread_mutex_unlock(&one);
}

static void step(worker_t *worker) {
  static const struct {
    int until; /* of 1000 */
    const char *name;
    void (*act)(worker_t *worker, place_t *place);
  } acts[] = {
      {330, "submit", do_submit},
      {560, "drain", do_drain},
      {780, "poll", do_poll},
      {880, "perform", do_perform},
      {960, "lone calls", do_lone_calls},
      {975, "close a queue", do_close_queue},
      {985, "own pool", do_pool_of_its_own},
      {990, "fork", do_fork},
      {1000, "sleep", do_sleep},
  };
  int what = (int)draw(worker, 1000), act = 0;
  if (active <= 2 && draw(worker, 2) == 0) what = 900;
  while (acts[act].until <= what)
    act++;
  worker->beat = check_now_ms();
  worker->doing = acts[act].name;
  acts[act].act(worker, &places[draw(worker, QUEUES)]);
  worker->doing = "between";
}

static void *work(void *argument) {
  worker_t *worker = argument;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
  worker->schedstat = schedstat_of(gettid()) + 1;
  while (!is_over) {
    if (is_paused) {
      paused++;
      while (is_paused) {
        worker->beat = check_now_ms();
        check_sleep_ms(1);
      }
      paused--;
    }
    if (worker->number >= active) { /* with few at it calls are lone */
      worker->beat = check_now_ms();
      check_sleep_ms(2);
    } else {
      step(worker);
    }
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    pthread_testcancel();
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
  }
  return NULL;
}

/* ---- rounds ---- */

static void start(worker_t *worker) {
  worker->beat = check_now_ms();
  worker->doing = "starting";
  CHECK(pthread_create(&worker->thread, NULL, work, worker) == 0);
}

static void watch_for_hangs(void) {
  for (int i = 0; i < THREADS; i++)
    if (check_now_ms() - workers[i].beat > HANG_MS * check_slower())
      check_failed(__FILE__, __LINE__, "thread %d has been at \"%s\" for %d s", i, workers[i].doing, HANG_MS / 1000);
}

/* One of them is cancelled and begun anew. */
static void cancel_one(worker_t *boss) {
  worker_t *worker = &workers[draw(boss, THREADS)];
  pthread_cancel(worker->thread);
  for (int waits = 0; pthread_tryjoin_np(worker->thread, NULL) != 0; waits++) {
    CHECK(waits < HANG_MS);
    check_sleep_ms(1);
  }
  int old = worker->schedstat - 1;
  worker->schedstat = 0;
  close(old); /* the timekeeper may read another's once: that is a wait of 0 */
  cancels_made++;
  start(worker);
}

/* When all is quiet each request has ended once, where its queue is still open. */
static void take_stock(worker_t *boss) {
  active = THREADS;
  is_paused = 1;
  while (paused < THREADS) {
    watch_for_hangs();
    check_sleep_ms(1);
  }
  int64_t until = check_now_ms() + 3000 * check_slower();
  uint32_t count = submitted < REQUESTS ? submitted : REQUESTS;
  for (uint32_t i = 0; i < count; i++) {
    while (requests[i].ends == 0 && requests[i].queue > 0) {
      place_t *place = &places[requests[i].queue - 1];
      if (place->generation != requests[i].generation) break;
      if (check_now_ms() > until)
        check_failed(__FILE__, __LINE__, "request %u of %u has not ended (timeout %u ms)", i, count,
                     requests[i].timeout_ms);
      for (int queue = 0; queue < QUEUES; queue++)
        drain(&places[queue], boss, 2);
    }
  }
  CHECK_SOON(harness_stats(pool).active == 0 && harness_stats(pool).pending == 0);
  memset(requests, 0, count * sizeof *requests);
  submitted = 0;
  is_paused = 0;
  while (paused > 0)
    check_sleep_ms(1);
}

static void round_of(worker_t *boss, int milliseconds) {
  int64_t until = check_now_ms() + milliseconds;
  while (check_now_ms() < until) {
    check_sleep_ms(10);
    watch_for_hangs();
    if (draw(boss, 8) == 0) active = draw(boss, 2) == 0 ? 1 + (int)draw(boss, 2) : THREADS;
    if (with_cancels && draw(boss, 3) == 0) cancel_one(boss);
  }
  take_stock(boss);
}

static void set_up(uint64_t seed) {
  static const char *const paths[9] = {"/size/10", "/size/10",      "/delay/3",     "/delay/15", "/never",
                                       "/echo",    "/chunked/3000", "/size/300000", "/delay/120"};
  llmpool_options_t options = harness_options();
  options.max_connections_per_origin = 6; /* so that some wait for others */
  requests = calloc(REQUESTS, sizeof *requests);
  server = server_start();
  for (int i = 0; i < 9; i++)
    urls[i] = strdup(server_url(server, paths[i]));
  pool = harness_pool(&options);
  worker_t boss = {.random = seed};
  for (int i = 0; i < QUEUES; i++) {
    pthread_rwlock_init(&places[i].lock, NULL);
    places[i].queue = make_queue(i, &boss);
  }
  for (int i = 0; i < THREADS; i++) {
    workers[i].number = i;
    workers[i].random = seed + 1000u * (uint64_t)(i + 1);
    start(&workers[i]);
  }
}

int main(int argc, char **argv) {
  int seconds = argc > 1 ? atoi(argv[1]) : 3;
  uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)now_us();
  for (int i = 3; i < argc; i++) {
    with_forks &= strcmp(argv[i], "no-forks") != 0;
    with_cancels &= strcmp(argv[i], "no-cancels") != 0;
    with_lateness &= strcmp(argv[i], "no-lateness") != 0;
    if (strncmp(argv[i], "late-ms=", 8) == 0) late_ms = atoi(argv[i] + 8);
  }
  printf("fuzz_turns: %d s, seed %llu\n", seconds, (unsigned long long)seed);
  fflush(stdout);
  worker_t boss = {.random = seed};
  set_up(seed);
  begin_to_keep_time();
  for (int64_t end = check_now_ms() + seconds * 1000; check_now_ms() < end;)
    round_of(&boss, ROUND_MS);
  is_over = 1;
  for (int i = 0; i < THREADS; i++)
    pthread_join(workers[i].thread, NULL);
  end_to_keep_time();
  for (int i = 0; i < QUEUES; i++)
    CHECK_OK(llmpool_queue_close(places[i].queue));
  CHECK_OK(llmpool_close(pool, 0));
  server_stop(server);
  printf(
      "%ld events, %ld timeouts (%ld us late beyond the machine at most), %ld of %ld polls empty, %ld queues closed, "
      "%ld threads cancelled, %ld forks\n",
      events_seen, timeouts_seen, worst_late_us, empty_polls, polls, closes_made, cancels_made, forks_made);
  CHECK(empty_polls * 2 < polls + 1000);
  printf("1 passed, 0 failed\n");
  return 0;
}
