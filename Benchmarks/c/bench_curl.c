/* bench_curl MODE URL REQUESTS IN-FLIGHT BODY-BYTES [CA-FILE] - libcurl at its best: handles and connections are
 * reused.
 *
 *   multi  one thread, curl_multi_socket_action() on epoll, IN-FLIGHT easy handles, multiplexed where HTTP/2
 *   poll   the same on curl_multi_poll() and curl_multi_perform(), as most programs do
 *   easy   IN-FLIGHT threads with an easy handle each
 * https means HTTP/2. A tenth of the requests go before the measurement. */
#include "common.h"
#include <curl/curl.h>
#include <pthread.h>
#include <sys/epoll.h>

static const char *url, *ca_file;
static long requests, in_flight;
static char *body;
static size_t body_size;
static struct curl_slist *headers;
static measure_t measure;
static int epoll_fd, polling;
static long timeout_ms = -1;

static size_t discard(char *data, size_t size, size_t count, void *collected) {
  (void)data;
  *(size_t *)collected += size * count;
  return size * count;
}

typedef struct {
  CURL *easy;
  double started;
  size_t received;
} transfer_t;

static CURL *make_easy(transfer_t *transfer) {
  CURL *easy = curl_easy_init();
  curl_easy_setopt(easy, CURLOPT_URL, url);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)body_size);
  curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, discard);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &transfer->received);
  curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
  curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L);
  if (strncmp(url, "https", 5) == 0)
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
  else
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
  if (ca_file != NULL) curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file);
  transfer->easy = easy;
  return easy;
}

static void check_answer(CURL *easy, CURLcode code) {
  long status = 0;
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
  if (code != CURLE_OK || status != 200) die(code != CURLE_OK ? curl_easy_strerror(code) : "not 200");
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *known) {
  (void)easy;
  struct epoll_event event = {.data.fd = fd};
  if (what == CURL_POLL_REMOVE) {
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    return 0;
  }
  event.events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);
  epoll_ctl(epoll_fd, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
  if (known == NULL) curl_multi_assign((CURLM *)data, fd, &epoll_fd);
  return 0;
}

static int on_timer(CURLM *multi, long ms, void *data) {
  (void)multi, (void)data;
  timeout_ms = ms;
  return 0;
}

static void turn(CURLM *multi) {
  struct epoll_event events[64];
  int running;
  if (polling) {
    curl_multi_perform(multi, &running);
    if (running > 0) curl_multi_poll(multi, NULL, 0, 1000, NULL);
    return;
  }
  int count = timeout_ms == 0 ? 0 : epoll_wait(epoll_fd, events, 64, (int)timeout_ms);
  if (count == 0) {
    timeout_ms = -1;
    curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
  }
  for (int index = 0; index < count; index++) {
    int mask = (events[index].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
               (events[index].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
               (events[index].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
    curl_multi_socket_action(multi, events[index].data.fd, mask, &running);
  }
}

static void run_multi(CURLM *multi, transfer_t *transfers, long total, int keep) {
  long submitted = 0, done = 0;
  for (; submitted < in_flight && submitted < total; submitted++) {
    transfers[submitted].started = now_us();
    curl_multi_add_handle(multi, transfers[submitted].easy);
  }
  while (done < total) {
    turn(multi);
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(multi, &left)) != NULL) {
      CURL *easy = message->easy_handle;
      transfer_t *transfer;
      check_answer(easy, message->data.result);
      curl_easy_getinfo(easy, CURLINFO_PRIVATE, &transfer);
      double at = now_us();
      if (keep) measure.latency_us[measure.count++] = (float)(at - transfer->started);
      done++;
      curl_multi_remove_handle(multi, easy);
      if (submitted < total) {
        transfer->started = at;
        curl_multi_add_handle(multi, easy);
        submitted++;
      }
    }
  }
}

static void mode_multi(void) {
  CURLM *multi = curl_multi_init();
  transfer_t *transfers = calloc((size_t)in_flight, sizeof *transfers);
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (!polling) {
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, multi);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
  }
  curl_multi_setopt(multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
  curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, in_flight + 1);
  for (long index = 0; index < in_flight; index++)
    make_easy(&transfers[index]);
  measure.warm = requests / 10 > in_flight ? requests / 10 : in_flight;
  run_multi(multi, transfers, measure.warm, 0);
  measure_start(&measure);
  run_multi(multi, transfers, requests, 1);
  measure_stop(&measure);
  measure_print(&measure);
}

static pthread_barrier_t barrier;

typedef struct {
  pthread_t thread;
  float *latency_us;
  long count;
} worker_t;

static void *work(void *argument) {
  worker_t *worker = argument;
  transfer_t transfer = {0};
  CURL *easy = make_easy(&transfer);
  for (long index = 0; index < worker->count / 10 + 1; index++)
    check_answer(easy, curl_easy_perform(easy));
  pthread_barrier_wait(&barrier);
  pthread_barrier_wait(&barrier);
  double before = now_us();
  for (long index = 0; index < worker->count; index++) {
    check_answer(easy, curl_easy_perform(easy));
    double after = now_us();
    worker->latency_us[index] = (float)(after - before);
    before = after;
  }
  return NULL;
}

static void mode_easy(void) {
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

int main(int argc, char **argv) {
  if (argc < 6) die("usage: bench_curl MODE URL REQUESTS IN-FLIGHT BODY-BYTES [CA-FILE]");
  curl_global_init(CURL_GLOBAL_ALL);
  url = argv[2];
  requests = atol(argv[3]), in_flight = atol(argv[4]);
  body_size = (size_t)atol(argv[5]);
  body = malloc(body_size + 1);
  memset(body, 'x', body_size);
  ca_file = argc > 6 ? argv[6] : NULL;
  headers = curl_slist_append(NULL, "content-type: application/json");
  headers = curl_slist_append(headers, "authorization: Bearer 0123456789abcdef");
  headers = curl_slist_append(headers, "Expect:");
  measure_open(&measure, requests);
  polling = strcmp(argv[1], "poll") == 0;
  if (polling || strcmp(argv[1], "multi") == 0)
    mode_multi();
  else
    mode_easy();
  fflush(stdout);
  return 0;
}
