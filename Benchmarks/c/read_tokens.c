/* read_tokens PORT PATH STREAMS TOKENS h1|h2 - the least that reading the streams of token_server.py can take: one
 * thread, epoll, plain sockets and HTTP/1.1, or OpenSSL and nghttp2 with 200 streams a connection. Checks that every
 * token came, in order and once, and prints how long each was on its way: from the server's stamp to its line at hand.
 */
#define _GNU_SOURCE
#include "common.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STREAMS_PER_CONNECTION = 200, LINE_MAX_BYTES = 1024 };

typedef struct {
  char line[LINE_MAX_BYTES];
  int filled, tokens, done;
} stream_t;

typedef struct {
  int fd;
  SSL *ssl;
  nghttp2_session *session;
  stream_t *stream; /* of an HTTP/1.1 connection */
  long chunk;       /* bytes of the chunk that are still to come; -1: its size line, -2: the head, -3: its end */
  char text[LINE_MAX_BYTES];
  int filled;
} peer_t;

static stream_t *streams;
static long stream_count, token_count, finished;
static measure_t measure; /* of each token, also how late the server was */
static float *late_us;
static const char *path, *port;
static int epoll_fd;

static void take_line(stream_t *stream) {
  long number, late;
  long long at;
  stream->line[stream->filled] = 0;
  if (strcmp(stream->line, "data: [DONE]") == 0) {
    if (stream->done++ || stream->tokens != token_count) die("a stream ended early, or twice");
    finished++;
    return;
  }
  if (strncmp(stream->line, "data: ", 6) != 0) return;
  double now = now_us();
  if (sscanf(stream->line, "data: {\"n\":%ld,\"at\":%lld,\"late\":%ld", &number, &at, &late) != 3) die("no token");
  if (number != stream->tokens++ || stream->done) die("a token is missing, twice or out of order");
  late_us[measure.count] = (float)late;
  measure.latency_us[measure.count++] = (float)(now - (double)at / 1e3);
}

static void take_body(stream_t *stream, const char *bytes, size_t size) {
  while (size > 0) {
    const char *end = memchr(bytes, '\n', size);
    size_t part = end != NULL ? (size_t)(end - bytes) : size;
    if (stream->filled + part >= LINE_MAX_BYTES) die("a line is too long");
    memcpy(stream->line + stream->filled, bytes, part);
    stream->filled += (int)part;
    if (end == NULL) return;
    take_line(stream);
    stream->filled = 0;
    bytes += part + 1, size -= part + 1;
  }
}

static int dial(void) {
  int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) die("connect");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

static void wait_for(peer_t *peer) {
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
  fcntl(peer->fd, F_SETFL, fcntl(peer->fd, F_GETFL) | O_NONBLOCK);
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, peer->fd, &event);
}

/* ---- HTTP/1.1: a head, then chunks */

static void open_h1(peer_t *peer, stream_t *stream) {
  char text[512];
  int size = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", path);
  *peer = (peer_t){.fd = dial(), .stream = stream, .chunk = -2};
  if (send(peer->fd, text, (size_t)size, 0) != size) die("send");
  wait_for(peer);
}

/* A whole line of the head or around a chunk. */
static void take_h1_line(peer_t *peer) {
  peer->text[peer->filled] = 0;
  if (peer->chunk == -2 && peer->filled > 1 && strncmp(peer->text, "HTTP/1.1 ", 9) == 0 && peer->text[9] != '2')
    die(peer->text);
  if (peer->chunk == -2)
    peer->chunk = peer->filled > 1 ? -2 : -1;
  else
    peer->chunk = peer->chunk == -3 ? -1 : strtol(peer->text, NULL, 16);
  peer->filled = 0;
}

static void take_h1(peer_t *peer, const char *bytes, size_t size) {
  while (size > 0) {
    if (peer->chunk > 0) {
      size_t part = size < (size_t)peer->chunk ? size : (size_t)peer->chunk;
      take_body(peer->stream, bytes, part);
      if ((peer->chunk -= (long)part) == 0) peer->chunk = -3;
      bytes += part, size -= part;
    } else {
      if (peer->filled == LINE_MAX_BYTES - 1) die("a line is too long");
      if (*bytes == '\n')
        take_h1_line(peer);
      else
        peer->text[peer->filled++] = *bytes;
      bytes++, size--;
    }
  }
}

static void read_h1(peer_t *peer) {
  static char in[65536];
  ssize_t size = recv(peer->fd, in, sizeof in, 0);
  if (size > 0) take_h1(peer, in, (size_t)size);
  if (size == 0 && !peer->stream->done) die("a connection was closed");
  if (size == 0 || peer->stream->done) close(peer->fd);
}

/* ---- HTTP/2 over TLS */

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes, size_t size, void *data) {
  (void)flags, (void)data;
  take_body(nghttp2_session_get_stream_user_data(session, id), (const char *)bytes, size);
  return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *data) {
  (void)data;
  stream_t *stream = nghttp2_session_get_stream_user_data(session, id);
  if (code != 0 || !stream->done) die("a stream was reset");
  return 0;
}

static void flush_h2(peer_t *peer) {
  const uint8_t *bytes;
  ssize_t size;
  while ((size = nghttp2_session_mem_send(peer->session, &bytes)) > 0)
    while (SSL_write(peer->ssl, bytes, (int)size) <= 0) /* nobody holds us back for long */
      usleep(100);
}

#define HEADER(name, value)                                                                                            \
  { (uint8_t *)(name), (uint8_t *)(value), sizeof(name) - 1, strlen(value), 0 }

static void open_h2(peer_t *peer, SSL_CTX *context, nghttp2_session_callbacks *callbacks, stream_t *first, long count) {
  nghttp2_nv headers[] = {HEADER(":method", "GET"), HEADER(":scheme", "https"), HEADER(":authority", "127.0.0.1"),
                          HEADER(":path", path)};
  nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 20}};
  *peer = (peer_t){.fd = dial(), .ssl = SSL_new(context)};
  SSL_set_fd(peer->ssl, peer->fd);
  if (SSL_connect(peer->ssl) != 1) die("TLS");
  nghttp2_session_client_new(&peer->session, callbacks, peer);
  nghttp2_submit_settings(peer->session, NGHTTP2_FLAG_NONE, settings, 1);
  nghttp2_session_set_local_window_size(peer->session, NGHTTP2_FLAG_NONE, 0, 1 << 24);
  for (long index = 0; index < count; index++)
    nghttp2_submit_request(peer->session, NULL, headers, 4, NULL, first + index);
  wait_for(peer);
  flush_h2(peer);
}

static void read_h2(peer_t *peer) {
  static uint8_t in[65536];
  int size;
  while ((size = SSL_read(peer->ssl, in, sizeof in)) > 0)
    if (nghttp2_session_mem_recv(peer->session, in, (size_t)size) != size) die("protocol");
  if (SSL_get_error(peer->ssl, size) != SSL_ERROR_WANT_READ) die("a connection was closed");
  flush_h2(peer);
}

static peer_t *open_all(int h2) {
  long each = h2 ? STREAMS_PER_CONNECTION : 1, count = (stream_count + each - 1) / each;
  peer_t *peers = calloc((size_t)count, sizeof *peers);
  SSL_CTX *context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_alpn_protos(context, (const unsigned char *)"\2h2", 3);
  nghttp2_session_callbacks *callbacks;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
  for (long index = 0; index < count; index++) {
    long left = stream_count - index * each;
    if (h2)
      open_h2(&peers[index], context, callbacks, &streams[index * each], left < each ? left : each);
    else
      open_h1(&peers[index], &streams[index]);
  }
  return peers;
}

static void print(void) {
  qsort(late_us, (size_t)measure.count, sizeof(float), compare_floats);
  qsort(measure.latency_us, (size_t)measure.count, sizeof(float), compare_floats);
  printf("{\"count\": %ld, \"cpu_us\": %.3f, \"per_second\": %.1f, \"p50_us\": %.1f, \"p90_us\": %.1f, "
         "\"p99_us\": %.1f, \"max_us\": %.1f, \"server_late_p99_us\": %.1f}\n",
         measure.count, measure.cpu_us / (double)measure.count, (double)measure.count / measure.wall_us * 1e6,
         percentile(&measure, 0.5), percentile(&measure, 0.9), percentile(&measure, 0.99), percentile(&measure, 1),
         (double)late_us[(long)(0.99 * (double)(measure.count - 1) + 0.5)]);
}

int main(int argc, char **argv) {
  if (argc < 6) die("usage: read_tokens PORT PATH STREAMS TOKENS h1|h2");
  port = argv[1], path = argv[2], stream_count = atol(argv[3]), token_count = atol(argv[4]);
  int h2 = strcmp(argv[5], "h2") == 0;
  streams = calloc((size_t)stream_count, sizeof *streams);
  late_us = calloc((size_t)(stream_count * token_count), sizeof *late_us);
  measure_open(&measure, stream_count * token_count);
  epoll_fd = epoll_create1(0);
  open_all(h2);
  while (finished < stream_count) {
    struct epoll_event events[256];
    int count = epoll_wait(epoll_fd, events, 256, 30000);
    if (count <= 0) die("the server fell silent");
    if (measure.count == 0) measure_start(&measure);
    for (int index = 0; index < count; index++)
      (h2 ? read_h2 : read_h1)(events[index].data.ptr);
  }
  measure_stop(&measure);
  print();
  return 0;
}
