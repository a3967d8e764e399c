/*
 * test_sight.c - what can be seen of a pool at a glance: histograms, reasons, and the requests in flight. That a bucket
 * holds what it should is tested with the core.
 */
#include "harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { KINDS = 8, REASONS = 200 };
static const char *const names[KINDS] = {"pool_wait",  "budget_wait", "connect",   "tls",
                                         "first_byte", "first_token", "event_gap", "total"};

static server_t *server;
static llmpool_t *pool;
static llmpool_queue_t *queue;

static llmpool_histogram_t histogram(llmpool_t *pool, const char *origin, const char *name) {
  llmpool_histogram_t all[KINDS];
  uint32_t count = 0;
  CHECK_OK(llmpool_histograms(pool, origin, all, sizeof *all, KINDS, &count));
  CHECK_EQ(count, KINDS);
  for (uint32_t i = 0; i < count; i++)
    if (strcmp(all[i].name, name) == 0) return all[i];
  check_failed(__FILE__, __LINE__, "no histogram %s", name);
}

static uint64_t counted(llmpool_t *pool, const char *name) { return histogram(pool, NULL, name).count; }

/* How often there was a reason; NULL: all of its kind. */
static uint64_t reasons(llmpool_t *pool, const char *origin, uint32_t kind, const char *name) {
  llmpool_reason_t all[REASONS];
  uint32_t count = 0;
  uint64_t sum = 0;
  CHECK_OK(llmpool_reasons(pool, origin, all, sizeof *all, REASONS, &count));
  CHECK(count > 50 && count <= REASONS);
  for (uint32_t i = 0; i < count; i++)
    if (all[i].kind == kind && (!name || strcmp(all[i].name, name) == 0)) sum += all[i].count;
  return sum;
}

/* ---- histograms ---- */

static void test_each_step_is_counted(void) {
  llmpool_t *pool = harness_pool(NULL);
  for (int i = 0; i < KINDS; i++)
    CHECK_EQ(counted(pool, names[i]), 0);
  llmpool_request_t request = harness_request(server_url(server, "/delay/30"));
  for (int i = 0; i < 3; i++)
    CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_OK);
  CHECK_EQ(counted(pool, "pool_wait"), 3);
  CHECK_EQ(counted(pool, "budget_wait"), 0);
  CHECK_EQ(counted(pool, "connect"), 1); /* the others found it open */
  CHECK_EQ(counted(pool, "tls"), 0);
  CHECK_EQ(counted(pool, "first_byte"), 3);
  CHECK_EQ(counted(pool, "total"), 3);
  llmpool_histogram_t total = histogram(pool, NULL, "total");
  uint64_t sum = 0;
  for (int i = 0; i < LLMPOOL_HISTOGRAM_BUCKETS; i++)
    sum += total.buckets[i];
  CHECK_EQ(sum, 3);
  CHECK(total.max_us >= 30000 && total.sum_us >= 90000 && total.sum_us <= 3 * total.max_us);
  CHECK(llmpool_histogram_percentile(&total, 50) >= 30000);
  CHECK_EQ(llmpool_histogram_percentile(&total, 100), total.max_us);
  CHECK(histogram(pool, NULL, "first_byte").sum_us <= total.sum_us);
  request.budget = "of a name";
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_OK);
  CHECK_EQ(counted(pool, "budget_wait"), 1);
  CHECK_EQ(counted(pool, "pool_wait"), 4);
  char origin[100];
  CHECK(llmpool_origins(pool, origin, sizeof origin) > 0);
  *strchr(origin, '\n') = 0;
  CHECK_EQ(histogram(pool, origin, "total").count, 4);
  llmpool_histogram_t none[KINDS];
  CHECK_STATUS(llmpool_histograms(pool, "http://nobody:1", none, sizeof *none, KINDS, NULL), LLMPOOL_E_NOT_FOUND);
  CHECK_OK(llmpool_close(pool, 0));
}

static void test_events_are_counted(void) {
  static const char events[] = "data: 1\n\ndata: 2\n\n: a comment\n\ndata: 3\n\n";
  server_say(server, "content-type: text/event-stream\r\n", events, sizeof events - 1);
  llmpool_t *pool = harness_pool(NULL);
  llmpool_request_t request = harness_request(server_url(server, "/said/-1"));
  request.flags = LLMPOOL_REQUEST_SSE;
  harness_submit(pool, &request, queue);
  uint32_t kind = 0, seen = 0;
  while (kind != LLMPOOL_EVENT_DONE) {
    llmpool_event_t event = harness_next(queue);
    kind = event.kind;
    seen += kind == LLMPOOL_EVENT_SSE;
    harness_release(&event);
  }
  CHECK_EQ(seen, 3);
  CHECK_EQ(counted(pool, "first_token"), 1);
  CHECK_EQ(counted(pool, "event_gap"), 2);
  request.flags = LLMPOOL_REQUEST_STREAM; /* bytes are no events */
  harness_submit(pool, &request, queue);
  for (kind = 0; kind != LLMPOOL_EVENT_DONE;) {
    llmpool_event_t event = harness_next(queue);
    kind = event.kind;
    harness_release(&event);
  }
  CHECK_EQ(counted(pool, "first_token"), 1);
  CHECK_EQ(counted(pool, "total"), 2);
  CHECK_OK(llmpool_close(pool, 0));
}

static void test_the_ends_of_buckets(void) {
  uint64_t begin = 0;
  for (uint32_t i = 0; i < LLMPOOL_HISTOGRAM_BUCKETS; i++) {
    uint64_t end = llmpool_histogram_end(i);
    CHECK(end > begin && end - begin <= (begin < 8 ? 1 : begin / 8));
    begin = end;
  }
  CHECK_EQ(begin, 1ll << 32);
  CHECK_EQ(llmpool_histogram_end(LLMPOOL_HISTOGRAM_BUCKETS), 0);
}

static void test_merging(void) {
  llmpool_histogram_t left = {.name = "left", .count = 2, .sum_us = 30, .max_us = 20},
                      right = {.count = 1, .sum_us = 5, .max_us = 5};
  left.buckets[9] = left.buckets[18] = right.buckets[5] = 1;
  CHECK_OK(llmpool_histogram_merge(&left, &right));
  CHECK(left.count == 3 && left.sum_us == 35 && left.max_us == 20);
  CHECK(left.buckets[5] == 1 && left.buckets[9] == 1 && left.buckets[18] == 1);
  CHECK_STR(left.name, "left");
  CHECK_EQ(llmpool_histogram_percentile(&left, 1), 5);
  CHECK_EQ(llmpool_histogram_percentile(&left, 100), 20);
  CHECK_EQ(llmpool_histogram_percentile(NULL, 50), 0);
  CHECK_REFUSED(llmpool_histogram_merge(NULL, &right), LLMPOOL_E_INVALID_ARGUMENT, "histogram");
  CHECK_REFUSED(llmpool_histogram_merge(&left, NULL), LLMPOOL_E_INVALID_ARGUMENT, "other");
}

/* ---- reasons ---- */

static void test_why_requests_fail_and_are_tried_again(void) {
  llmpool_options_t options = harness_options();
  options.retry_backoff_ms = 1;
  llmpool_t *pool = harness_pool(&options);
  static const char *const plan[] = {"503 Busy", "418 Teapot", NULL};
  server_plan(server, plan);
  llmpool_request_t request = harness_request(server_url(server, "/plan"));
  request.flags = LLMPOOL_REQUEST_RETRY_STATUS;
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_OK); /* 418 is none of those that are tried again */
  CHECK_EQ(reasons(pool, NULL, LLMPOOL_REASON_RETRIED, "status 503"), 1);
  request = harness_request(server_url(server, "/never"));
  request.read_timeout_ms = 20;
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_E_READ_TIMEOUT);
  CHECK_EQ(reasons(pool, NULL, LLMPOOL_REASON_FAILED, "read-timeout"), 1);
  CHECK_EQ(reasons(pool, NULL, LLMPOOL_REASON_CLOSED, "aborted"), 1);
  llmpool_stats_t stats = harness_stats(pool);
  CHECK_EQ(reasons(pool, NULL, LLMPOOL_REASON_FAILED, NULL), stats.failed);
  CHECK_EQ(reasons(pool, NULL, LLMPOOL_REASON_CLOSED, NULL), stats.closed);
  CHECK_EQ(reasons(pool, NULL, LLMPOOL_REASON_RETRIED, NULL), stats.retries);
  CHECK_OK(llmpool_close(pool, 0));
}

/* ---- requests ---- */

static llmpool_inflight_t find(llmpool_t *pool, uint64_t id) {
  llmpool_inflight_t all[16];
  uint32_t count = 0;
  memset(all, 0, sizeof all);
  CHECK_OK(llmpool_requests(pool, all, sizeof *all, 16, &count));
  for (uint32_t i = 0; i < count; i++)
    if (all[i].request_id == id) return all[i];
  return (llmpool_inflight_t){0};
}

static void test_requests_in_flight(void) {
  llmpool_options_t options = harness_options();
  options.max_connections = 2;
  llmpool_t *pool = harness_pool(&options);
  uint32_t count = 9;
  CHECK_OK(llmpool_requests(pool, NULL, sizeof(llmpool_inflight_t), 0, &count));
  CHECK_EQ(count, 0);
  llmpool_request_t request = harness_request(server_url(server, "/never"));
  request.body = "12345";
  request.body_size = 5;
  request.user_data = 77;
  uint64_t silent = harness_submit(pool, &request, queue);
  CHECK_SOON(find(pool, silent).phase == LLMPOOL_PHASE_WAITING);
  request = harness_request(server_url(server, "/stall/1000"));
  uint64_t stalled = harness_submit(pool, &request, queue);
  CHECK_SOON(find(pool, stalled).bytes_received == 1000);
  CHECK_EQ(find(pool, stalled).phase, LLMPOOL_PHASE_RECEIVING);
  uint64_t last = harness_submit(pool, &request, queue);
  CHECK_SOON(find(pool, last).phase == LLMPOOL_PHASE_POOL);
  llmpool_inflight_t youngest = find(pool, last), seen = find(pool, silent); /* their ages are as of each look */
  CHECK(seen.user_data == 77 && seen.attempts == 1 && seen.bytes_sent == 5 && seen.bytes_received == 0);
  CHECK(strncmp(seen.origin, request.url, strlen(seen.origin)) == 0);
  CHECK(seen.age_us >= youngest.age_us && youngest.attempts == 0);
  llmpool_inflight_t first;
  CHECK_OK(llmpool_requests(pool, &first, sizeof first, 1, &count)); /* the oldest, of three */
  CHECK_EQ(first.request_id, silent);
  CHECK_EQ(count, 3);
  CHECK_OK(llmpool_cancel(pool, silent));
  CHECK_OK(llmpool_cancel(pool, stalled));
  CHECK_OK(llmpool_cancel(pool, last));
  for (int i = 0; i < 3; i++) {
    llmpool_event_t event = harness_next(queue);
    CHECK_STATUS(event.status, LLMPOOL_E_CANCELLED);
    harness_release(&event);
  }
  CHECK_OK(llmpool_requests(pool, NULL, sizeof(llmpool_inflight_t), 0, &count));
  CHECK_EQ(count, 0);
  CHECK_OK(llmpool_close(pool, 0));
}

/* ---- under load ---- */

static atomic_int calling;

static void *call(void *argument) {
  llmpool_t *pool = argument;
  const char *paths[] = {"/echo", "/truncated", "/status/500", "/close/10"};
  for (int i = 0; i < 200; i++) {
    llmpool_request_t request = harness_request(server_url(server, paths[i % 4]));
    if (i % 8 == 0) request.read_timeout_ms = 1;
    harness_outcome(pool, &request);
  }
  calling--;
  return NULL;
}

/* A count is read before and after what belongs to it: that lies between the two. */
#define BETWEEN(least, value, most)                                                                                    \
  do {                                                                                                                 \
    uint64_t least_ = (least), value_ = (value), most_ = (most);                                                       \
    CHECK(least_ <= value_ && value_ <= most_);                                                                        \
  } while (0)

static uint64_t over(llmpool_stats_t stats) { return stats.succeeded + stats.failed + stats.cancelled; }

static void test_what_is_seen_adds_up_under_load(void) {
  enum { THREADS = 4 };
  llmpool_t *pool = harness_pool(NULL);
  pthread_t threads[THREADS];
  calling = THREADS;
  for (int i = 0; i < THREADS; i++)
    CHECK(pthread_create(&threads[i], NULL, call, pool) == 0);
  int looks = 0;
  for (llmpool_stats_t before = harness_stats(pool), after; calling > 0; before = after, looks++) {
    uint64_t failed = reasons(pool, NULL, LLMPOOL_REASON_FAILED, NULL);
    uint64_t closed = reasons(pool, NULL, LLMPOOL_REASON_CLOSED, NULL);
    uint64_t retried = reasons(pool, NULL, LLMPOOL_REASON_RETRIED, NULL);
    llmpool_histogram_t total = histogram(pool, NULL, "total");
    uint64_t sum = 0;
    for (int i = 0; i < LLMPOOL_HISTOGRAM_BUCKETS; i++)
      sum += total.buckets[i];
    CHECK_EQ(sum, total.count);
    after = harness_stats(pool); /* its identities are checked */
    BETWEEN(before.failed, failed, after.failed);
    BETWEEN(before.closed, closed, after.closed);
    BETWEEN(before.retries, retried, after.retries);
    BETWEEN(over(before), total.count, over(after));
  }
  for (int i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  CHECK(looks > 0);
  CHECK_EQ(counted(pool, "total"), over(harness_stats(pool)));
  CHECK_OK(llmpool_close(pool, 0));
}

/* ---- arguments ---- */

static void test_arguments(void) {
  llmpool_histogram_t one;
  llmpool_reason_t reason;
  llmpool_inflight_t request;
  uint32_t count = 0;
  CHECK_REFUSED(llmpool_histograms(NULL, NULL, &one, sizeof one, 1, NULL), LLMPOOL_E_INVALID_ARGUMENT, "pool");
  CHECK_REFUSED(llmpool_histograms(pool, NULL, NULL, sizeof one, 1, NULL), LLMPOOL_E_INVALID_ARGUMENT,
                "histograms_out");
  CHECK_REFUSED(llmpool_histograms(pool, NULL, &one, 8, 1, NULL), LLMPOOL_E_INVALID_ARGUMENT, "histogram_size");
  CHECK_REFUSED(llmpool_histograms(pool, "nothing", &one, sizeof one, 1, NULL), LLMPOOL_E_INVALID_ARGUMENT, "origin");
  CHECK_OK(llmpool_histograms(pool, NULL, NULL, 0, 0, &count));
  CHECK_EQ(count, KINDS);
  CHECK_REFUSED(llmpool_reasons(pool, NULL, NULL, sizeof reason, 1, NULL), LLMPOOL_E_INVALID_ARGUMENT, "reasons_out");
  CHECK_REFUSED(llmpool_reasons(pool, NULL, &reason, 8, 1, NULL), LLMPOOL_E_INVALID_ARGUMENT, "reason_size");
  CHECK_OK(llmpool_reasons(pool, NULL, &reason, sizeof reason, 1, &count));
  CHECK_STR(reason.name, "expired");
  CHECK_EQ(reason.kind, LLMPOOL_REASON_CLOSED);
  CHECK_STATUS(llmpool_requests(NULL, &request, sizeof request, 1, NULL), LLMPOOL_E_INVALID_ARGUMENT);
}

/* ---- the socket to look in ---- */

static char directory[] = "/tmp/llmpool-sight-XXXXXX";

static const char *socket_path(void) {
  static char path[64];
  snprintf(path, sizeof path, "%s/%d.sock", directory, (int)getpid());
  return path;
}

/* All that whoever connects is given; to be freed. */
static char *look(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strcpy(address.sun_path, socket_path());
  int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(connect(client, (struct sockaddr *)&address, sizeof address) == 0);
  size_t size = 0, room = 1 << 20;
  char *text = malloc(room);
  for (ssize_t count; (count = read(client, text + size, room - 1 - size)) != 0; size += (size_t)count)
    CHECK(count > 0);
  close(client);
  text[size] = 0;
  return text;
}

static void *look_often(void *unused) {
  (void)unused;
  for (; calling > 0; free(look()))
    continue;
  return NULL;
}

static void test_a_socket_to_look_in(void) {
  CHECK(mkdtemp(directory));
  llmpool_t *pool = harness_pool(NULL);
  CHECK_OK(llmpool_serve_stats(pool, directory));
  pthread_t caller, looker;
  calling = 1;
  CHECK(pthread_create(&looker, NULL, look_often, NULL) == 0);
  CHECK(pthread_create(&caller, NULL, call, pool) == 0);
  pthread_join(caller, NULL);
  pthread_join(looker, NULL);
  char *text = look();
  CHECK(strncmp(text, "{\"schema\":1,", 12) == 0);
  CHECK(strstr(text, "\"name\":\"pool-1\",\"options\":{"));
  CHECK(strstr(text, "\"submitted\":200,"));
  CHECK(!strstr(text, "truncated")); /* no path of a request */
  CHECK(strcmp(text + strlen(text) - 2, "]}") == 0);
  free(text);
  CHECK_OK(llmpool_close(pool, 0));
  CHECK(access(socket_path(), F_OK) != 0);
}

static void test_where_it_may_be(void) {
  CHECK_STATUS(llmpool_serve_stats(NULL, directory), LLMPOOL_E_INVALID_ARGUMENT);
  CHECK(chmod(directory, 0770) == 0);
  CHECK_REFUSED(llmpool_serve_stats(pool, directory), LLMPOOL_E_INVALID_ARGUMENT, "directory");
  CHECK(chmod(directory, 0700) == 0);
  CHECK_OK(llmpool_serve_stats(pool, directory));
  CHECK_OK(llmpool_serve_stats(pool, NULL));
  CHECK(rmdir(directory) == 0);
}

/* A program of a later header has larger structs: what the library does not know of them is zero. */
static void test_structs_of_a_later_header(void) {
  struct {
    llmpool_reason_t known;
    uint64_t later;
  } rows[2];
  memset(rows, 'z', sizeof rows);
  CHECK_OK(llmpool_reasons(pool, NULL, &rows[0].known, sizeof *rows, 2, NULL));
  CHECK_STR(rows[1].known.name, "evicted");
  CHECK_EQ(rows[0].later, 0);
  CHECK_EQ(rows[1].later, 0);
}

static void set_up(void) { harness_set_up(&server, &pool, &queue); }
static void tear_down(void) { harness_tear_down(server, pool, queue); }

int main(void) {
  RUN(set_up);
  if (!queue) return check_report();
  RUN(test_each_step_is_counted);
  RUN(test_events_are_counted);
  RUN(test_the_ends_of_buckets);
  RUN(test_merging);
  RUN(test_why_requests_fail_and_are_tried_again);
  RUN(test_requests_in_flight);
  RUN(test_what_is_seen_adds_up_under_load);
  RUN(test_arguments);
  RUN(test_a_socket_to_look_in);
  RUN(test_where_it_may_be);
  RUN(test_structs_of_a_later_header);
  RUN(tear_down);
  return check_report();
}
