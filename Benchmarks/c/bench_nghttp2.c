/* bench_nghttp2 HOST PORT PATH REQUESTS BODY-BYTES - the least that one HTTP/2 call over TLS can take: OpenSSL and
 * nghttp2 in a blocking loop on one connection, one call after another. Verifies no certificate (that is not in the
 * loop). */
#include "common.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

static char *body;
static size_t body_size, body_sent;
static int stream_closed, status_ok;

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_size,
                     const uint8_t *value, size_t value_size, uint8_t flags, void *data) {
  (void)session, (void)frame, (void)flags, (void)data;
  if (name_size == 7 && memcmp(name, ":status", 7) == 0) status_ok = value_size == 3 && memcmp(value, "200", 3) == 0;
  return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream, uint32_t code, void *data) {
  (void)session, (void)stream, (void)data;
  stream_closed = code == 0 ? 1 : -1;
  return 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t stream, uint8_t *buffer, size_t size, uint32_t *flags,
                         nghttp2_data_source *source, void *data) {
  (void)session, (void)stream, (void)source, (void)data;
  size_t left = body_size - body_sent, taken = left < size ? left : size;
  memcpy(buffer, body + body_sent, taken);
  body_sent += taken;
  if (body_sent == body_size) *flags |= NGHTTP2_DATA_FLAG_EOF;
  return (ssize_t)taken;
}

static SSL *dial(const char *host, int port) {
  int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  inet_pton(AF_INET, host, &address.sin_addr);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) die("connect");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  SSL_CTX *context = SSL_CTX_new(TLS_client_method());
  SSL *ssl = SSL_new(context);
  SSL_set_alpn_protos(ssl, (const unsigned char *)"\2h2", 3);
  SSL_set_fd(ssl, fd);
  if (SSL_connect(ssl) != 1) die("TLS");
  return ssl;
}

/* One write for all that the session has to send. */
static void flush(nghttp2_session *session, SSL *ssl) {
  static uint8_t out[65536];
  size_t filled = 0;
  const uint8_t *bytes;
  ssize_t size;
  while ((size = nghttp2_session_mem_send(session, &bytes)) > 0) {
    if (filled + (size_t)size > sizeof out) die("too much to send");
    memcpy(out + filled, bytes, (size_t)size);
    filled += (size_t)size;
  }
  if (filled > 0 && SSL_write(ssl, out, (int)filled) <= 0) die("write");
}

#define HEADER(name, value)                                                                                            \
  { (uint8_t *)(name), (uint8_t *)(value), sizeof(name) - 1, strlen(value), 0 }

static void call(nghttp2_session *session, SSL *ssl, const char *authority, const char *path) {
  static uint8_t in[65536];
  char length[24];
  snprintf(length, sizeof length, "%zu", body_size);
  nghttp2_nv headers[] = {HEADER(":method", "POST"),
                          HEADER(":scheme", "https"),
                          HEADER(":authority", authority),
                          HEADER(":path", path),
                          HEADER("content-type", "application/json"),
                          HEADER("authorization", "Bearer 0123456789abcdef"),
                          HEADER("content-length", length)};
  nghttp2_data_provider provider = {.read_callback = read_body};
  body_sent = 0, stream_closed = 0, status_ok = 0;
  nghttp2_submit_request(session, NULL, headers, 7, &provider, NULL);
  flush(session, ssl);
  while (!stream_closed) {
    int size = SSL_read(ssl, in, sizeof in);
    if (size <= 0 || nghttp2_session_mem_recv(session, in, (size_t)size) != size) die("read");
    flush(session, ssl);
  }
  if (stream_closed < 0 || !status_ok) die("not 200");
}

int main(int argc, char **argv) {
  if (argc < 6) die("usage: bench_nghttp2 HOST PORT PATH REQUESTS BODY-BYTES");
  long requests = atol(argv[4]);
  char authority[128];
  snprintf(authority, sizeof authority, "%s:%s", argv[1], argv[2]);
  body_size = (size_t)atol(argv[5]);
  body = malloc(body_size + 1);
  memset(body, 'x', body_size);
  SSL *ssl = dial(argv[1], atoi(argv[2]));
  nghttp2_session_callbacks *callbacks;
  nghttp2_session *session;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
  nghttp2_session_client_new(&session, callbacks, NULL);
  nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, NULL, 0);
  measure_t measure;
  measure_open(&measure, requests);
  for (long index = 0; index < requests / 10 + 1; index++)
    call(session, ssl, authority, argv[3]);
  measure_start(&measure);
  for (long index = 0; index < requests; index++) {
    double before = now_us();
    call(session, ssl, authority, argv[3]);
    measure.latency_us[measure.count++] = (float)(now_us() - before);
  }
  measure_stop(&measure);
  measure_print(&measure);
  return 0;
}
