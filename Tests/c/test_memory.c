/*
 * test_memory.c - what a server can make the pool hold, as memory of the process: each kind of small piece, over
 * HTTP/1.1 and HTTP/2, while nobody reads; and that nothing of it is lost once somebody does. The server here speaks
 * HTTP/2 by hand: one stream, an answer that HPACK writes in a few bytes, and windows that it minds.
 */
#include <arpa/inet.h>
#include <malloc.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"

#define WINDOW (1 << 20)
#define MIB (1 << 20)

/* ---- the server ---- */

typedef struct {
  int listener, port, is_h2, fd;
  pthread_t thread;
  /* What is sent, again and again, until `total` payload bytes are out; a whole number of them. */
  const char *piece;
  size_t piece_size, total;
  /* Of the answer's head, and sent before its first piece. */
  const char *headers, *first;
  int one_by_one; /* a write for each piece, so that many turns of the engine take them */
  int endless;    /* no payload is counted: until the client leaves, or `total` bytes of pieces */
  const char *pieces_encoded; /* as they go over the wire; NULL: framed here */
  atomic_size_t sent;
  long window; /* HTTP/2: of the stream, by hand */
  int stream;
} source_t;

static int send_bytes(source_t *source, const void *bytes, size_t size) {
  for (const char *at = bytes; size > 0;) {
    ssize_t sent = send(source->fd, at, size, MSG_NOSIGNAL);
    if (sent <= 0) return 0;
    at += sent;
    size -= (size_t)sent;
  }
  return 1;
}

static int read_bytes(source_t *source, void *bytes, size_t size) {
  return recv(source->fd, bytes, size, MSG_WAITALL) == (ssize_t)size;
}

static size_t frame(unsigned char *to, size_t size, int type, int flags, int stream) {
  to[0] = (unsigned char)(size >> 16), to[1] = (unsigned char)(size >> 8), to[2] = (unsigned char)size;
  to[3] = (unsigned char)type, to[4] = (unsigned char)flags;
  to[5] = (unsigned char)(stream >> 24), to[6] = (unsigned char)(stream >> 16);
  to[7] = (unsigned char)(stream >> 8), to[8] = (unsigned char)stream;
  return 9;
}

/* Takes one frame of the client's; what it says of windows is noted. */
static int read_frame(source_t *source, int *type_out) {
  unsigned char head[9];
  static unsigned char body[1 << 16];
  if (!read_bytes(source, head, 9)) return 0;
  size_t size = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
  int stream = head[5] << 24 | head[6] << 16 | head[7] << 8 | head[8];
  if (size > sizeof body || (size > 0 && !read_bytes(source, body, size))) return 0;
  *type_out = head[3];
  if (head[3] == 1) source->stream = stream;
  if (head[3] == 8 && stream != 0 && stream == source->stream)
    source->window += body[0] << 24 | body[1] << 16 | body[2] << 8 | body[3];
  if (head[3] == 4 && !(head[4] & 1)) {
    unsigned char settings_ack[9];
    frame(settings_ack, 0, 4, 1, 0);
    return send_bytes(source, settings_ack, 9);
  }
  return head[3] != 3; /* RST_STREAM ends it */
}

/* Waits for room in the stream's window. */
static int window_opens(source_t *source, size_t size) {
  struct pollfd item = {source->fd, POLLIN, 0};
  int type;
  while (source->window < (long)size || poll(&item, 1, 0) > 0)
    if (!read_frame(source, &type)) return 0;
  return 1;
}

static int begin_h2(source_t *source) {
  unsigned char bytes[512];
  int type = 0;
  if (!read_bytes(source, bytes, 24)) return 0;
  frame(bytes, 0, 4, 0, 0);
  if (!send_bytes(source, bytes, 9)) return 0;
  source->window = WINDOW;
  while (type != 1)
    if (!read_frame(source, &type)) return 0;
  unsigned char *end = bytes + 9;
  *end++ = 0x88; /* :status 200 */
  if (source->headers) {
    *end++ = 0x0f, *end++ = 0x10; /* content-type, not indexed */
    *end++ = (unsigned char)strlen("text/event-stream");
    end = (unsigned char *)stpcpy((char *)end, "text/event-stream");
  }
  frame(bytes, (size_t)(end - bytes - 9), 1, 4, source->stream);
  return send_bytes(source, bytes, (size_t)(end - bytes));
}

static int begin_h1(source_t *source) {
  char head[1024] = "";
  for (size_t used = 0; strstr(head, "\r\n\r\n") == NULL && used < sizeof head - 1;) {
    ssize_t got = recv(source->fd, head + used, sizeof head - 1 - used, 0);
    if (got <= 0) return 0;
    used += (size_t)got;
    head[used] = 0;
  }
  snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%s\r\n",
           source->headers ? source->headers : "");
  return send_bytes(source, head, strlen(head));
}

/* A piece as a DATA frame or a chunk of its own. */
static size_t encode(source_t *source, char *to, const char *piece, size_t size) {
  size_t used;
  if (source->is_h2) {
    used = frame((unsigned char *)to, size, 0, 0, source->stream);
  } else {
    used = (size_t)sprintf(to, "%zx\r\n", size);
  }
  memcpy(to + used, piece, size);
  used += size;
  if (!source->is_h2) used += (size_t)sprintf(to + used, "\r\n");
  return used;
}

static int send_piece(source_t *source, char *buffer, size_t *used, const char *piece, size_t size) {
  if (source->is_h2 && source->window < (long)size) {
    if (!send_bytes(source, buffer, *used)) return 0;
    *used = 0;
    if (!window_opens(source, size)) return 0;
  }
  source->window -= (long)size;
  *used += encode(source, buffer + *used, piece, size);
  atomic_fetch_add(&source->sent, size);
  if (*used < 32768 && !source->one_by_one) return 1;
  int sent = send_bytes(source, buffer, *used);
  *used = 0;
  return sent;
}

static void send_answer(source_t *source) {
  char *buffer = malloc(65536 + source->piece_size + (source->first ? strlen(source->first) : 0));
  size_t used = 0;
  unsigned char end[9];
  int goes_on = 1;
  if (source->first) goes_on = send_piece(source, buffer, &used, source->first, strlen(source->first));
  while (goes_on && atomic_load(&source->sent) < source->total)
    goes_on = send_piece(source, buffer, &used, source->piece, source->piece_size);
  if (goes_on && send_bytes(source, buffer, used)) {
    if (source->is_h2) {
      frame(end, 0, 0, 1, source->stream);
      send_bytes(source, end, 9);
    } else {
      send_bytes(source, "0\r\n\r\n", 5);
    }
  }
  free(buffer);
}

/* Raw bytes, whatever they mean to HTTP. */
static void send_raw(source_t *source) {
  size_t repeat = 32768 / source->piece_size + 1;
  char *buffer = malloc(repeat * source->piece_size);
  for (size_t i = 0; i < repeat; i++)
    memcpy(buffer + i * source->piece_size, source->piece, source->piece_size);
  if (source->first && !send_bytes(source, source->first, strlen(source->first))) return free(buffer);
  while (atomic_load(&source->sent) < source->total) {
    struct pollfd item = {source->fd, POLLOUT, 0};
    if (poll(&item, 1, 1000) <= 0) break; /* nobody takes it: that is bounded, too */
    ssize_t sent = send(source->fd, buffer, repeat * source->piece_size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent <= 0) break;
    atomic_fetch_add(&source->sent, (size_t)sent);
  }
  free(buffer);
}

static void *serve(void *argument) {
  source_t *source = argument;
  int one = 1;
  source->fd = accept4(source->listener, NULL, NULL, SOCK_CLOEXEC);
  setsockopt(source->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (source->endless) {
    char request[4096];
    if (source->is_h2 ? begin_h2(source) : recv(source->fd, request, sizeof request, 0) > 0) send_raw(source);
  } else if (source->is_h2 ? begin_h2(source) : begin_h1(source)) {
    send_answer(source);
  }
  shutdown(source->fd, SHUT_WR);
  char rest[4096];
  while (recv(source->fd, rest, sizeof rest, 0) > 0) {
  }
  close(source->fd);
  return NULL;
}

static void source_start(source_t *source) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  source->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(bind(source->listener, (struct sockaddr *)&address, sizeof address) == 0);
  CHECK(listen(source->listener, 8) == 0);
  CHECK(getsockname(source->listener, (struct sockaddr *)&address, &size) == 0);
  source->port = ntohs(address.sin_port);
  CHECK(pthread_create(&source->thread, NULL, serve, source) == 0);
}

/* ---- what is measured ---- */

static size_t resident(void) {
#ifdef __GLIBC__
  malloc_trim(0); /* what was freed before is not there to be taken unseen */
#endif
  long pages[2] = {0, 0};
  FILE *file = fopen("/proc/self/statm", "r");
  CHECK(file != NULL);
  CHECK_EQ(fscanf(file, "%ld %ld", &pages[0], &pages[1]), 2);
  fclose(file);
  return (size_t)pages[1] * (size_t)sysconf(_SC_PAGESIZE);
}

static llmpool_t *open_pool(int is_h2) {
  llmpool_options_t options = harness_options();
  options.stream_window_bytes = WINDOW;
  options.http_versions = is_h2 ? LLMPOOL_HTTP_2 : LLMPOOL_HTTP_1_1;
  options.max_retries = 0;
  return harness_pool(&options);
}

static llmpool_request_t request_to(const source_t *source, uint32_t flags) {
  static char url[64];
  snprintf(url, sizeof url, "http://127.0.0.1:%d/", source->port);
  llmpool_request_t request = harness_request(url);
  request.flags = flags;
  return request;
}

/* Until the server cannot go on, or has nothing more to send. */
static void wait_until_still(source_t *source) {
  size_t before = (size_t)-1, now;
  while ((now = atomic_load(&source->sent)) != before || now == 0) {
    before = now;
    check_sleep_ms(150);
  }
}

/* Says so even where the test goes well: a bound that nothing comes near to is none. */
static void check_growth(const char *what, size_t before, size_t limit) {
  size_t now = resident(), growth = now > before ? now - before : 0;
  fprintf(stderr, "  %s: %zu KiB\n", what, growth / 1024);
  if (check_slower() > 1) return; /* a leak checker keeps what was freed */
  if (growth > limit) check_failed(__FILE__, __LINE__, "%s: %zu KiB more than before", what, growth / 1024);
}

typedef struct {
  size_t bytes, events, data;
  llmpool_status_t status;
} reading_t;

/* Takes all events to the end, and gives each back at once. */
static reading_t read_all(llmpool_queue_t *queue) {
  reading_t reading = {0, 0, 0, LLMPOOL_OK};
  llmpool_event_t events[64];
  for (;;) {
    int32_t count = llmpool_queue_drain(queue, events, sizeof events[0], 64, 20000 * check_slower());
    CHECK(count > 0);
    int is_done = 0;
    for (int32_t i = 0; i < count; i++) {
      reading.bytes += events[i].credit;
      reading.data += events[i].data_size;
      reading.events += events[i].kind == LLMPOOL_EVENT_SSE ? events[i].sse_count : 1;
      is_done |= events[i].kind == LLMPOOL_EVENT_DONE;
      if (events[i].kind == LLMPOOL_EVENT_DONE) reading.status = events[i].status;
    }
    llmpool_events_release(events, sizeof events[0], (uint32_t)count);
    if (is_done) return reading;
  }
}

/* A stream that nobody reads holds no more than the window allows, in memory; read, it is whole. */
static reading_t hold_and_read(const char *what, source_t *source, uint32_t flags, size_t limit) {
  source_start(source);
  llmpool_t *pool = open_pool(source->is_h2);
  llmpool_queue_t *queue = harness_queue();
  llmpool_request_t request = request_to(source, flags);
  size_t before = resident();
  harness_submit(pool, &request, queue);
  wait_until_still(source);
  check_growth(what, before, limit);
  reading_t reading = read_all(queue);
  CHECK_STATUS(reading.status, LLMPOOL_OK);
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_close(pool, 0));
  pthread_join(source->thread, NULL);
  close(source->listener);
  return reading;
}

static source_t source_of(int is_h2, const char *piece, size_t total) {
  source_t source = {.is_h2 = is_h2, .piece = piece, .piece_size = strlen(piece)};
  source.total = total / source.piece_size * source.piece_size;
  return source;
}

#define SSE_TYPE "Content-Type: text/event-stream\r\n"

/* ---- streams ---- */

static void check_bytes(int is_h2, int one_by_one) {
  source_t source = source_of(is_h2, "x", one_by_one ? 5 * MIB / 4 : 3 * MIB);
  source.one_by_one = one_by_one;
  reading_t reading = hold_and_read(
      is_h2 ? "DATA frames of a byte" : "chunks of a byte", &source, LLMPOOL_REQUEST_STREAM, 4 * MIB);
  CHECK_EQ(reading.data, source.total);
  CHECK_EQ(reading.bytes, source.total);
}

static void test_data_frames_of_a_byte(void) {
  check_bytes(1, 0);
}
static void test_data_frames_of_a_byte_one_by_one(void) {
  check_bytes(1, 1);
}
static void test_chunks_of_a_byte(void) {
  check_bytes(0, 0);
}
static void test_chunks_of_a_byte_one_by_one(void) {
  check_bytes(0, 1);
}

static void check_events(int is_h2, uint32_t flags, int one_by_one) {
  source_t source = source_of(is_h2, "data\n\n", one_by_one ? 5 * MIB / 4 : 3 * MIB);
  source.headers = SSE_TYPE;
  source.one_by_one = one_by_one;
  reading_t reading = hold_and_read(is_h2 ? "events of six bytes, h2" : "events of six bytes, h1", &source,
                                    LLMPOOL_REQUEST_SSE | flags, 5 * MIB);
  CHECK_EQ(reading.events, source.total / source.piece_size + 2); /* HEAD and DONE */
  CHECK(reading.bytes <= source.total && reading.bytes > source.total / 2); /* parts were credited as they came */
}

static void test_small_events_over_http2(void) {
  check_events(1, 0, 0);
}
static void test_small_events_over_http2_one_by_one(void) {
  check_events(1, 0, 1);
}
static void test_small_events_over_http1(void) {
  check_events(0, 0, 0);
}
static void test_small_joined_events(void) {
  check_events(1, LLMPOOL_REQUEST_SSE_JOIN, 0);
}

/* C1: an id is in every event that follows it. */
static void check_id(int is_h2, size_t size) {
  char *first = malloc(size + 16);
  size_t begin = (size_t)(stpcpy(first, "id: ") - first);
  memset(first + begin, 'i', size);
  strcpy(first + begin + size, "\ndata\n\n");
  source_t source = source_of(is_h2, "data\n\n", 3 * MIB);
  source.headers = SSE_TYPE;
  source.first = first;
  hold_and_read("events with a long last id", &source, LLMPOOL_REQUEST_SSE, 5 * MIB);
  free(first);
}

static void test_long_ids(void) {
  check_id(1, 4096);
  check_id(0, 4096);
  check_id(1, 60);
  check_id(0, 65536); /* beyond the limit */
}

/* The worst case of an id that is not copied into each event is one of its own in each. */
static void test_an_id_in_each_event(void) {
  source_t source = source_of(1, "id: 1\ndata\n\n", 3 * MIB);
  source.headers = SSE_TYPE;
  hold_and_read("events with ids", &source, LLMPOOL_REQUEST_SSE, 5 * MIB);
}

/* No event comes of them, nothing holds them back, and nothing stays. */
static void test_comments(void) {
  source_t source = source_of(1, ":\n", 16 * MIB / (size_t)check_slower());
  source.headers = SSE_TYPE;
  hold_and_read("comments", &source, LLMPOOL_REQUEST_SSE, 1 * MIB);
}

/* ---- the end of an answer of which a part waits ---- */

static llmpool_t *waiting_pool;
static llmpool_queue_t *waiting_queue;
static source_t waiting_source;

/* All of the answer has come, its end too, and nothing of it was read: most waits in the pool. */
static uint64_t answer_waits(int is_h2) {
  waiting_source = source_of(is_h2, "data\n\n", 3 * (MIB / 4));
  waiting_source.headers = SSE_TYPE;
  source_start(&waiting_source);
  waiting_pool = open_pool(is_h2);
  waiting_queue = harness_queue();
  llmpool_request_t request = request_to(&waiting_source, LLMPOOL_REQUEST_SSE);
  uint64_t id = harness_submit(waiting_pool, &request, waiting_queue);
  wait_until_still(&waiting_source);
  if (is_h2) CHECK_SOON(harness_stats(waiting_pool).succeeded == 1);
  return id;
}

static void end_of_waiting(void) {
  pthread_join(waiting_source.thread, NULL);
  close(waiting_source.listener);
}

static void test_an_answer_that_waits_is_cancelled(void) {
  for (int is_h2 = 0; is_h2 < 2; is_h2++) {
    uint64_t id = answer_waits(is_h2);
    CHECK_OK(llmpool_cancel(waiting_pool, id));
    reading_t reading = read_all(waiting_queue);
    CHECK_STATUS(reading.status, LLMPOOL_E_CANCELLED);
    CHECK(reading.events < waiting_source.total / 6);
    CHECK_STATUS(llmpool_cancel(waiting_pool, id), LLMPOOL_E_NOT_FOUND);
    CHECK_OK(llmpool_queue_close(waiting_queue));
    CHECK_OK(llmpool_close(waiting_pool, 0));
    end_of_waiting();
  }
}

static void test_the_queue_of_an_answer_that_waits_is_closed(void) {
  answer_waits(1);
  CHECK_OK(llmpool_queue_close(waiting_queue));
  CHECK_OK(llmpool_close(waiting_pool, 1000));
  end_of_waiting();
}

/* It is complete: closing the pool does not take it away. */
static void test_the_pool_of_an_answer_that_waits_is_closed(void) {
  answer_waits(1);
  CHECK_OK(llmpool_close(waiting_pool, 0));
  reading_t reading = read_all(waiting_queue);
  CHECK_STATUS(reading.status, LLMPOOL_OK);
  CHECK_EQ(reading.events, waiting_source.total / 6 + 2);
  CHECK_OK(llmpool_queue_close(waiting_queue));
  end_of_waiting();
}

/* Events of a paused stream do not keep those of others: each would hold a piece of memory that many share. */
static void test_a_paused_stream_among_others(void) {
  source_t source = source_of(1, "data\n\n", 3 * MIB), chatty;
  source.headers = SSE_TYPE;
  source.one_by_one = 1;
  source_start(&source);
  llmpool_t *pool = open_pool(1), *same = pool;
  llmpool_queue_t *queue = harness_queue(), *other = harness_queue();
  llmpool_request_t request = request_to(&source, LLMPOOL_REQUEST_SSE);
  size_t before = resident();
  harness_submit(pool, &request, queue);
  for (int round = 0; round < 20; round++) { /* of the same pool, whose engine's memory it is */
    chatty = source_of(1, "data: 0123456789abcdef0123456789abcdef0123456789\n\n", 1 * MIB);
    chatty.headers = SSE_TYPE;
    source_start(&chatty);
    llmpool_request_t second = request_to(&chatty, LLMPOOL_REQUEST_SSE);
    harness_submit(same, &second, other);
    CHECK_STATUS(read_all(other).status, LLMPOOL_OK);
    shutdown(chatty.fd, SHUT_RDWR);
    pthread_join(chatty.thread, NULL);
    close(chatty.listener);
  }
  check_growth("a paused stream among others", before, 12 * MIB);
  CHECK_OK(llmpool_close(pool, 0));
  read_all(queue);
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_queue_close(other));
  pthread_join(source.thread, NULL);
  close(source.listener);
}

/* ---- answers that are collected ---- */

static void check_collected(int is_h2) {
  source_t source = source_of(is_h2, "x", 8 * MIB);
  source_start(&source);
  llmpool_t *pool = open_pool(is_h2);
  llmpool_queue_t *queue = harness_queue();
  llmpool_request_t request = request_to(&source, 0);
  request.max_response_bytes = 8 * MIB;
  size_t before = resident();
  harness_submit(pool, &request, queue);
  llmpool_event_t done;
  CHECK_EQ(llmpool_queue_drain(queue, &done, sizeof done, 1, 60000 * check_slower()), 1);
  CHECK_STATUS(done.status, LLMPOOL_OK);
  CHECK_EQ(done.data_size, source.total);
  check_growth(is_h2 ? "collected DATA frames of a byte" : "collected chunks of a byte", before, 17 * MIB);
  harness_release(&done);
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_close(pool, 0));
  pthread_join(source.thread, NULL);
  close(source.listener);
}

static void test_collected_bytes(void) {
  check_collected(0);
  check_collected(1);
}

/* ---- memory that is refused ---- */

/* No more than this beside what there is. */
static void allow(size_t more) {
  struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
  if (more > 0) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL);
    CHECK_EQ(fscanf(file, "%ld", &pages), 1);
    fclose(file);
    limit.rlim_cur = (size_t)pages * (size_t)sysconf(_SC_PAGESIZE) + more;
  }
  CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);
}

enum { REFUSED = 256 * MIB, ALLOWED = 160 * MIB };

static llmpool_status_t outcome_of_large(int is_h2, uint32_t flags, const char *first, const char *headers) {
  static char piece[8001];
  memset(piece, 'x', sizeof piece - 1);
  source_t source = source_of(is_h2, piece, REFUSED);
  source.first = first;
  source.headers = headers;
  source_start(&source);
  llmpool_t *pool = open_pool(is_h2);
  llmpool_queue_t *queue = harness_queue();
  llmpool_request_t request = request_to(&source, flags);
  request.max_response_bytes = 2 * (size_t)REFUSED;
  request.max_event_bytes = 1 << 30;
  allow(ALLOWED);
  harness_submit(pool, &request, queue);
  reading_t reading = read_all(queue);
  allow(0);
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_close(pool, 0));
  pthread_join(source.thread, NULL);
  close(source.listener);
  return reading.status;
}

/* A11: what a server or a caller wants too much memory for ends, and nothing else does. */
static void test_answers_without_memory(void) {
  if (check_slower() > 1) return; /* a leak checker needs terabytes of addresses */
  for (int is_h2 = 0; is_h2 < 2; is_h2++) {
    CHECK_STATUS(outcome_of_large(is_h2, 0, NULL, NULL), LLMPOOL_E_OUT_OF_MEMORY);
    CHECK_STATUS(outcome_of_large(is_h2, LLMPOOL_REQUEST_SSE, "data:", SSE_TYPE), LLMPOOL_E_OUT_OF_MEMORY);
    CHECK_STATUS(outcome_of_large(is_h2, LLMPOOL_REQUEST_SSE, "data:a\ndata:", SSE_TYPE), LLMPOOL_E_OUT_OF_MEMORY);
  }
}

static void test_requests_without_memory(void) {
  if (check_slower() > 1) return;
  server_t *server = server_start();
  char *large = calloc(1, REFUSED);
  llmpool_t *pool = harness_pool(NULL);
  llmpool_queue_t *queue = harness_queue();
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_OK);
  uint64_t id;
  allow(ALLOWED);
  request.body = large;
  request.body_size = REFUSED;
  CHECK_REFUSED(llmpool_submit(pool, &request, queue, &id), LLMPOOL_E_OUT_OF_MEMORY, "body_size");
  request.body_size = SIZE_MAX / 2 - 4096; /* the sum is no sum, or nothing that malloc has */
  CHECK_REFUSED(llmpool_submit(pool, &request, queue, &id), LLMPOOL_E_OUT_OF_MEMORY, "body_size");
  request.body = NULL;
  request.body_size = 0;
  request.flags = LLMPOOL_REQUEST_UPLOAD;
  id = harness_submit(pool, &request, queue);
  CHECK_REFUSED(llmpool_write(pool, id, large, REFUSED, 0), LLMPOOL_E_OUT_OF_MEMORY, "size");
  CHECK_REFUSED(llmpool_write(pool, id, large, SIZE_MAX / 2, 0), LLMPOOL_E_OUT_OF_MEMORY, "size");
  CHECK_OK(llmpool_write(pool, id, "abc", 3, 1)); /* nothing of the others was taken */
  llmpool_event_t done = harness_next(queue);
  CHECK_STATUS(done.status, LLMPOOL_OK);
  CHECK_STR(done.data, "abc");
  harness_release(&done);
  allow(0);
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_close(pool, 0));
  server_stop(server);
  free(large);
}

/* ---- what is no body ---- */

/* 32 MiB of it, which the pool takes or refuses, but does not keep. */
static void check_raw(const char *what, int is_h2, const char *first, const void *piece, size_t piece_size) {
  source_t source = {.is_h2 = is_h2, .piece = piece, .piece_size = piece_size, .total = 32 * MIB};
  source.endless = 1;
  source.first = first;
  source_start(&source);
  llmpool_t *pool = open_pool(is_h2);
  llmpool_queue_t *queue = harness_queue();
  llmpool_request_t request = request_to(&source, LLMPOOL_REQUEST_STREAM);
  request.read_timeout_ms = 5000;
  size_t before = resident();
  harness_submit(pool, &request, queue);
  wait_until_still(&source);
  check_growth(what, before, 4 * MIB);
  CHECK_OK(llmpool_close(pool, 0));
  read_all(queue);
  CHECK_OK(llmpool_queue_close(queue));
  pthread_join(source.thread, NULL);
  close(source.listener);
}

#define RAW_H1(what, first, piece) check_raw(what, 0, first, piece, sizeof(piece) - 1)
#define RAW_H2(what, piece) check_raw(what, 1, NULL, piece, sizeof(piece) - 1)

static void test_what_is_no_body_over_http1(void) {
  RAW_H1("1xx answers", NULL, "HTTP/1.1 103 Early\r\nLink: </a>; rel=preload\r\n\r\n");
  RAW_H1("header lines", "HTTP/1.1 200 OK\r\n", "a: b\r\n");
  RAW_H1("a header line without end", "HTTP/1.1 200 OK\r\nx: ", "yyyyyyyyyyyyyyyy");
  RAW_H1("trailer lines", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "a: b\r\n");
  RAW_H1("chunk extensions", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1", ";a=b");
  RAW_H1("bytes that nobody asked for", "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n");
}

static void test_what_is_no_body_over_http2(void) {
  RAW_H2("PINGs", "\0\0\10\6\0\0\0\0\0abcdefgh");
  RAW_H2("SETTINGS", "\0\0\0\4\0\0\0\0\0");
  RAW_H2("SETTINGS of many", "\0\0\14\4\0\0\0\0\0\0\3\0\0\0\144\0\4\0\0\377\377");
  RAW_H2("empty DATA frames", "\0\0\0\0\0\0\0\0\1");
  RAW_H2("1xx answers", "\0\0\6\1\4\0\0\0\1\10\003" "103");
  RAW_H2("trailers without end", "\0\0\5\1\0\0\0\0\1\0\1a\1b" "\0\0\5\11\0\0\0\0\1\0\1a\1b");
  RAW_H2("RST_STREAM of no stream", "\0\0\4\3\0\0\0\0\11\0\0\0\10");
  RAW_H2("PRIORITY", "\0\0\5\2\0\0\0\0\11\0\0\0\0\20");
  RAW_H2("unknown frames", "\0\0\4\77\0\0\0\0\0abcd");
  RAW_H2("window updates", "\0\0\4\10\0\0\0\0\0\0\0\0\1");
}

/* ---- main ---- */

/* So that later ones find what the library and malloc keep for good. */
static void warm_up(void) {
  source_t h1 = source_of(0, "xxxxxxxxxxxxxxxx", 64 << 10), h2 = source_of(1, "xxxxxxxxxxxxxxxx", 64 << 10);
  hold_and_read("(warm)", &h1, LLMPOOL_REQUEST_STREAM, 64 * MIB);
  hold_and_read("(warm)", &h2, LLMPOOL_REQUEST_STREAM, 64 * MIB);
}

int main(void) {
  RUN(warm_up);
  RUN(test_data_frames_of_a_byte);
  RUN(test_data_frames_of_a_byte_one_by_one);
  RUN(test_chunks_of_a_byte);
  RUN(test_chunks_of_a_byte_one_by_one);
  RUN(test_small_events_over_http2);
  RUN(test_small_events_over_http2_one_by_one);
  RUN(test_small_events_over_http1);
  RUN(test_small_joined_events);
  RUN(test_long_ids);
  RUN(test_an_id_in_each_event);
  RUN(test_comments);
  RUN(test_an_answer_that_waits_is_cancelled);
  RUN(test_the_queue_of_an_answer_that_waits_is_closed);
  RUN(test_the_pool_of_an_answer_that_waits_is_closed);
  RUN(test_a_paused_stream_among_others);
  RUN(test_collected_bytes);
  RUN(test_answers_without_memory);
  RUN(test_requests_without_memory);
  RUN(test_what_is_no_body_over_http1);
  RUN(test_what_is_no_body_over_http2);
  return check_report();
}
