/* bench_llmpool MODE URL REQUESTS IN-FLIGHT BODY-BYTES CONNECTIONS STREAMS [CA-FILE] - our side of the C benchmarks.
 *
 *   async     one thread, llmpool_submit() and llmpool_queue_drain(), IN-FLIGHT at a time
 *   origins   the same, to STREAMS origins in turn: 127.1.0.1, 127.1.0.2 ... at the port of the URL
 *   blocking  IN-FLIGHT threads, each llmpool_perform() after another
 *   events    IN-FLIGHT event streams at a time, each read to its end, until REQUESTS events were read; CPU per event
 *   streams   IN-FLIGHT open event streams for REQUESTS milliseconds; prints memory, and CPU per event
 *   idle      IN-FLIGHT requests once; prints the memory of the open connections
 * https means HTTP/2 with TLS, http HTTP/1.1, h2c:// HTTP/2 in clear. A tenth of the requests go before the
 * measurement. */
#include "common.h"
#include <llmpool.h>
#include <pthread.h>
#include <unistd.h>

enum { BATCH = 256 };

static llmpool_t *pool;
static llmpool_request_t request;
static long requests, in_flight;
static char (*origins)[64]; /* their URLs, NULL: there is one */
static long origin_count;
static measure_t measure;

static void check(llmpool_status_t status) {
  if (status < 0) {
    fprintf(stderr, "%s: ", llmpool_status_name(status));
    die(llmpool_last_error());
  }
}

static void check_done(const llmpool_event_t *event) {
  if (event->status != LLMPOOL_OK || event->http_status != 200) {
    fprintf(stderr, "%s %u: ", llmpool_status_name(event->status), event->http_status);
    die(event->message ? event->message : "not 200");
  }
}

static long resident_kb(void) {
  long pages = 0, resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%ld %ld", &pages, &resident) != 2) die("/proc/self/statm");
  fclose(file);
  return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void open_pool(int h2, long connections, long streams, const char *ca_file) {
  llmpool_options_t options;
  check(llmpool_options_init(&options, sizeof options));
  options.max_connections = (uint32_t)connections;
  options.max_keepalive_connections = 0;
  options.max_streams_per_connection = (uint32_t)streams;
  options.max_pending_requests = 100000;
  options.pool_timeout_ms = 60000;
  options.connect_timeout_ms = 30000;
  options.http_versions = h2 ? LLMPOOL_HTTP_2 : LLMPOOL_HTTP_1_1;
  options.ca_file = ca_file;
  check(llmpool_open(&options, &pool));
}

static void submit(llmpool_queue_t *queue, double *started, long slot, double at) {
  uint64_t id;
  static long next;
  started[slot] = at;
  if (origins) request.url = origins[next++ % origin_count];
  request.user_data = (uint64_t)slot;
  check(llmpool_submit(pool, &request, queue, &id));
}

/* `total` requests, always in_flight of them open; each DONE submits the next in its slot. */
static void run_async(llmpool_queue_t *queue, long total, double *started, int keep) {
  static llmpool_event_t events[BATCH];
  long submitted = 0, done = 0;
  for (; submitted < in_flight && submitted < total; submitted++)
    submit(queue, started, submitted, now_us());
  while (done < total) {
    int32_t count = llmpool_queue_drain(queue, events, sizeof events[0], BATCH, -1);
    check(count);
    double at = now_us();
    for (int32_t index = 0; index < count; index++) {
      check_done(&events[index]);
      long slot = (long)events[index].user_data;
      if (keep) measure.latency_us[measure.count++] = (float)(at - started[slot]);
      done++;
      if (submitted < total) {
        submit(queue, started, slot, at);
        submitted++;
      }
    }
    llmpool_events_release(events, sizeof events[0], (uint32_t)count);
  }
}

static void mode_async(void) {
  llmpool_queue_t *queue;
  check(llmpool_queue_open(NULL, &queue));
  double *started = calloc((size_t)in_flight, sizeof *started);
  measure.warm = requests / 10 > in_flight ? requests / 10 : in_flight;
  run_async(queue, measure.warm, started, 0);
  measure_start(&measure);
  run_async(queue, requests, started, 1);
  measure_stop(&measure);
  measure_print(&measure);
}

static void mode_origins(long count) {
  const char *port = strrchr(request.url, ':');
  origin_count = count;
  origins = calloc((size_t)count, sizeof *origins);
  for (long index = 0; index < count; index++)
    snprintf(origins[index], sizeof *origins, "http://127.1.%ld.%ld%s", index / 250, index % 250 + 1, port);
  mode_async();
}

static pthread_barrier_t barrier;

typedef struct {
  pthread_t thread;
  float *latency_us;
  long count;
} worker_t;

static void perform(llmpool_request_t *own, double *at) {
  llmpool_event_t event;
  check(llmpool_perform(pool, own, &event, sizeof event, NULL));
  check_done(&event);
  llmpool_events_release(&event, sizeof event, 1);
  *at = now_us();
}

static void *work(void *argument) {
  worker_t *worker = argument;
  llmpool_request_t own = request;
  double before, after;
  for (long index = 0; index < worker->count / 10 + 1; index++)
    perform(&own, &after);
  pthread_barrier_wait(&barrier);
  pthread_barrier_wait(&barrier);
  before = now_us();
  for (long index = 0; index < worker->count; index++) {
    perform(&own, &after);
    worker->latency_us[index] = (float)(after - before);
    before = after;
  }
  return NULL;
}

static void mode_blocking(void) {
  worker_t *workers = calloc((size_t)in_flight, sizeof *workers);
  pthread_barrier_init(&barrier, NULL, (unsigned)in_flight + 1);
  for (long index = 0; index < in_flight; index++) {
    workers[index].count = requests / in_flight;
    workers[index].latency_us = measure.latency_us + index * (requests / in_flight);
    pthread_create(&workers[index].thread, NULL, work, &workers[index]);
  }
  pthread_barrier_wait(&barrier);
  measure_start(&measure);
  pthread_barrier_wait(&barrier);
  for (long index = 0; index < in_flight; index++)
    pthread_join(workers[index].thread, NULL);
  measure_stop(&measure);
  measure.count = requests / in_flight * in_flight;
  measure.warm = (requests / in_flight / 10 + 1) * in_flight;
  measure_print(&measure);
}

/* Reads streams until so many events have come, and those that are open by then to their end. */
static long read_events(llmpool_queue_t *queue, long total) {
  static llmpool_event_t events[BATCH];
  long seen = 0, open = 0;
  uint64_t id;
  for (; open < in_flight; open++)
    check(llmpool_submit(pool, &request, queue, &id));
  while (open > 0) {
    int32_t count = llmpool_queue_drain(queue, events, sizeof events[0], BATCH, -1);
    check(count);
    long ended = 0;
    for (int32_t index = 0; index < count; index++) {
      seen += events[index].kind == LLMPOOL_EVENT_SSE ? events[index].sse_count : 0;
      if (events[index].kind != LLMPOOL_EVENT_DONE) continue;
      if (events[index].status != LLMPOOL_OK) check_done(&events[index]);
      ended++;
    }
    llmpool_events_release(events, sizeof events[0], (uint32_t)count);
    open -= ended;
    for (; ended > 0 && seen < total; ended--, open++)
      check(llmpool_submit(pool, &request, queue, &id));
  }
  return seen;
}

static void mode_events(void) {
  llmpool_queue_t *queue;
  check(llmpool_queue_open(NULL, &queue));
  request.flags = LLMPOOL_REQUEST_SSE;
  measure.warm = read_events(queue, requests / 10);
  measure_start(&measure);
  long seen = read_events(queue, requests);
  measure_stop(&measure);
  printf("{\"count\": %ld, \"total\": %ld, \"cpu_us\": %.4f, \"per_second\": %.1f}\n", seen, seen + measure.warm,
         measure.cpu_us / (double)seen, (double)seen / measure.wall_us * 1e6);
}

static long drain(llmpool_queue_t *queue, double until_us) {
  static llmpool_event_t events[BATCH];
  long seen = 0;
  double left;
  while ((left = until_us - now_us()) > 0) {
    int32_t count = llmpool_queue_drain(queue, events, sizeof events[0], BATCH, (int32_t)(left / 1000) + 1);
    check(count);
    for (int32_t index = 0; index < count; index++) {
      if (events[index].kind == LLMPOOL_EVENT_DONE) check_done(&events[index]), die("a stream ended");
      seen += events[index].kind == LLMPOOL_EVENT_SSE;
    }
    llmpool_events_release(events, sizeof events[0], (uint32_t)count);
  }
  return seen;
}

static void mode_streams(void) {
  llmpool_queue_t *queue;
  long before_kb = resident_kb();
  check(llmpool_queue_open(NULL, &queue));
  request.flags = LLMPOOL_REQUEST_SSE;
  for (long index = 0; index < in_flight; index++) {
    uint64_t id;
    check(llmpool_submit(pool, &request, queue, &id));
  }
  drain(queue, now_us() + 3e6);
  measure_start(&measure);
  long events = drain(queue, now_us() + (double)requests * 1e3);
  measure_stop(&measure);
  llmpool_stats_t stats = {.size = sizeof stats};
  check(llmpool_stats(pool, NULL, &stats));
  printf("{\"count\": %ld, \"cpu_us\": %.3f, \"per_second\": %.1f, \"streams\": %lu, \"connections\": %lu, "
         "\"rss_kb\": %ld, \"rss_before_kb\": %ld}\n",
         events, measure.cpu_us / (double)events, (double)events / measure.wall_us * 1e6, stats.active, stats.in_use,
         resident_kb(), before_kb);
  fflush(stdout);
  _exit(0);
}

static void mode_idle(void) {
  llmpool_queue_t *queue;
  double *started = calloc((size_t)in_flight, sizeof *started);
  check(llmpool_queue_open(NULL, &queue));
  requests = in_flight, in_flight = in_flight < 100 ? in_flight : 100;
  long before_kb = resident_kb();
  run_async(queue, in_flight, started, 0);
  long first_kb = resident_kb();
  check(llmpool_warm(pool, request.url, (uint32_t)requests));
  llmpool_stats_t stats = {.size = sizeof stats};
  for (int tries = 0; tries < 500 && stats.idle < (uint64_t)requests; tries++) {
    usleep(20000);
    check(llmpool_stats(pool, NULL, &stats));
  }
  long open_kb = resident_kb();
  run_async(queue, requests, started, 0);
  measure_start(&measure);
  run_async(queue, requests > 5000 ? requests : 5000, started, 1);
  measure_stop(&measure);
  printf("{\"count\": %ld, \"cpu_us\": %.3f, \"idle\": %lu, \"rss_before_kb\": %ld, \"rss_first_kb\": %ld, "
         "\"rss_open_kb\": %ld}\n",
         measure.count, measure.cpu_us / (double)measure.count, stats.idle, before_kb, first_kb, open_kb);
}

int main(int argc, char **argv) {
  if (argc < 8) die("usage: bench_llmpool MODE URL REQUESTS IN-FLIGHT BODY-BYTES CONNECTIONS STREAMS [CA-FILE]");
  char url[512];
  int clear = strncmp(argv[2], "h2c://", 6) == 0;
  snprintf(url, sizeof url, "%s%s", clear ? "http://" : "", argv[2] + (clear ? 6 : 0));
  requests = atol(argv[3]), in_flight = atol(argv[4]);
  size_t body_size = (size_t)atol(argv[5]);
  char *body = malloc(body_size + 1);
  memset(body, 'x', body_size);
  request.size = sizeof request;
  request.url = url;
  request.body = body_size ? body : NULL;
  request.body_size = body_size;
  request.headers = "content-type: application/json\r\nauthorization: Bearer 0123456789abcdef\r\n";
  request.headers_size = strlen(request.headers);
  open_pool(clear || strncmp(url, "https", 5) == 0, atol(argv[6]), atol(argv[7]), argc > 8 ? argv[8] : NULL);
  measure_open(&measure, requests > in_flight ? requests + 5000 : in_flight + 5000);
  if (strcmp(argv[1], "async") == 0)
    mode_async();
  else if (strcmp(argv[1], "origins") == 0)
    mode_origins(atol(argv[7]));
  else if (strcmp(argv[1], "blocking") == 0)
    mode_blocking();
  else if (strcmp(argv[1], "events") == 0)
    mode_events();
  else if (strcmp(argv[1], "streams") == 0)
    mode_streams();
  else if (strcmp(argv[1], "idle") == 0)
    mode_idle();
  else
    die("no such mode");
  check(llmpool_close(pool, 0));
  return 0;
}
