/* server.c - see server.h. One thread accepts, one serves each connection. */
#include "server.h"
#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#define BODIES_MAX 4096
#define PLAN_MAX 64
#define BODY_KEPT_MAX 256
#define BUFFER_SIZE (64 * 1024)

struct server {
  int listener, port;
  pthread_t acceptor;
  pthread_mutex_t lock;
  int stopping; /* all below under the lock */
  int accepted, open, open_max, requests, bodies;
  const char *headers, *bytes; /* server_say() */
  size_t size;
  const char *plan[PLAN_MAX + 1], **next_planned; /* server_plan() */
  int plan_size, arrived;                         /* of those that ask for /planned */
  char body[BODIES_MAX][BODY_KEPT_MAX];
};

typedef struct {
  server_t *server;
  int fd, number; /* in the order in which they were made, from 0 */
  char buffer[BUFFER_SIZE]; /* what was read and not yet used */
  size_t used;
  char method[16], path[256], test_header[256];
  size_t content_length;
  int is_chunked;
  int pause_ms;  /* before each read of the body */
  int is_summed; /* its body is not kept */
  size_t body_size;
  uint64_t body_sum; /* as server_sum() */
  char *body;
} connection_t;

enum { KEEP, CLOSE };

static int count(server_t *server, const int *counter) {
  pthread_mutex_lock(&server->lock);
  int value = *counter;
  pthread_mutex_unlock(&server->lock);
  return value;
}

/* Waits until the socket is readable; 0 once the server stops. */
static int wait_readable(connection_t *connection, int timeout_ms) {
  int64_t end = check_now_ms() + timeout_ms;
  while (!count(connection->server, &connection->server->stopping)) {
    struct pollfd item = {connection->fd, POLLIN, 0};
    if (poll(&item, 1, 20) > 0) return 1;
    if (timeout_ms >= 0 && check_now_ms() >= end) return 0;
  }
  return 0;
}

static int fill(connection_t *connection) {
  if (connection->used == BUFFER_SIZE || !wait_readable(connection, 60000)) return 0;
  ssize_t size =
      recv(connection->fd, connection->buffer + connection->used, BUFFER_SIZE - connection->used, MSG_DONTWAIT);
  if (size <= 0) return 0;
  connection->used += (size_t)size;
  return 1;
}

static int send_all(connection_t *connection, const void *data, size_t size) {
  const char *bytes = data;
  while (size > 0) {
    ssize_t sent = send(connection->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN) return 0;
    if (sent < 0) {
      struct pollfd item = {connection->fd, POLLOUT, 0};
      poll(&item, 1, 20);
      if (count(connection->server, &connection->server->stopping)) return 0;
      continue;
    }
    bytes += sent;
    size -= (size_t)sent;
  }
  return 1;
}

static int send_text(connection_t *connection, const char *text) {
  return send_all(connection, text, strlen(text));
}

static void consume(connection_t *connection, size_t size) {
  memmove(connection->buffer, connection->buffer + size, connection->used - size);
  connection->used -= size;
}

static void header_value(const char *head, const char *name, char *value, size_t size) {
  const char *found = strcasestr(head, name);
  value[0] = 0;
  if (!found) return;
  found += strlen(name);
  found += strspn(found, " ");
  size_t length = strcspn(found, "\r");
  snprintf(value, size, "%.*s", (int)length, found);
}

static int read_head(connection_t *connection) {
  char *end;
  while ((end = memmem(connection->buffer, connection->used, "\r\n\r\n", 4)) == NULL)
    if (!fill(connection)) return 0;
  *end = 0;
  char length[32];
  if (sscanf(connection->buffer, "%15s %255s", connection->method, connection->path) != 2) return 0;
  header_value(connection->buffer, "\r\ncontent-length:", length, sizeof length);
  header_value(connection->buffer, "\r\nx-test:", connection->test_header, sizeof connection->test_header);
  connection->content_length = (size_t)atoll(length);
  connection->is_chunked = strcasestr(connection->buffer, "\r\ntransfer-encoding: chunked") != NULL;
  consume(connection, (size_t)(end + 4 - connection->buffer));
  return 1;
}

uint64_t server_sum(uint64_t sum, const void *bytes, size_t size) {
  for (size_t i = 0; i < size; i++)
    sum = sum * 31 + ((const unsigned char *)bytes)[i];
  return sum;
}

/* Takes so many bytes of the body off the connection. */
static int read_part(connection_t *connection, size_t size) {
  if (connection->body) connection->body = realloc(connection->body, connection->body_size + size + 1);
  while (size > 0) {
    if (connection->used == 0) {
      if (connection->pause_ms > 0) check_sleep_ms(connection->pause_ms);
      if (!fill(connection)) return 0;
    }
    size_t part = size < connection->used ? size : connection->used;
    if (connection->body) memcpy(connection->body + connection->body_size, connection->buffer, part);
    connection->body_sum = server_sum(connection->body_sum, connection->buffer, part);
    connection->body_size += part;
    consume(connection, part);
    size -= part;
  }
  if (connection->body) connection->body[connection->body_size] = 0;
  return 1;
}

/* A line of at most 31 characters, without its end. */
static int read_line(connection_t *connection, char line[32]) {
  char *end;
  while ((end = memmem(connection->buffer, connection->used, "\r\n", 2)) == NULL)
    if (connection->used > 64 || !fill(connection)) return 0;
  snprintf(line, 32, "%.*s", (int)(end - connection->buffer), connection->buffer);
  consume(connection, (size_t)(end + 2 - connection->buffer));
  return 1;
}

static int read_chunks(connection_t *connection) {
  char line[32];
  size_t size;
  do {
    if (!read_line(connection, line) || line[0] == 0 || line[0] == '-') return 0;
    size = strtoull(line, NULL, 16);
    if (!read_part(connection, size) || !read_line(connection, line) || line[0] != 0) return 0;
  } while (size > 0);
  return 1;
}

static int read_body(connection_t *connection) {
  connection->body_size = 0;
  connection->body_sum = 0;
  connection->body = connection->is_summed ? NULL : calloc(1, 1);
  if (connection->is_chunked) return read_chunks(connection);
  return read_part(connection, connection->content_length);
}

static void record(connection_t *connection) {
  server_t *server = connection->server;
  pthread_mutex_lock(&server->lock);
  server->requests++;
  if (server->bodies < BODIES_MAX)
    snprintf(server->body[server->bodies++], BODY_KEPT_MAX, "%s", connection->body ? connection->body : "");
  pthread_mutex_unlock(&server->lock);
}

static int until_peer_leaves(connection_t *connection) {
  char byte;
  while (wait_readable(connection, 60000))
    if (recv(connection->fd, &byte, 1, MSG_DONTWAIT) <= 0) break;
  return CLOSE;
}

static int reply(connection_t *connection, const char *status, const char *headers, const void *body, size_t size) {
  char head[1024];
  snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n%s\r\n", status, size, headers);
  if (!send_text(connection, head)) return CLOSE;
  if (strcmp(connection->method, "HEAD") == 0) return KEEP;
  return send_all(connection, body, size) ? KEEP : CLOSE;
}

static int answer_echo(connection_t *connection) {
  char headers[512];
  snprintf(headers, sizeof headers, "X-Method: %s\r\nX-Seen: %s\r\nX-Twice: one\r\nX-Empty:\r\n", connection->method,
           connection->test_header);
  return reply(connection, "200 OK", headers, connection->body, connection->body_size);
}

static int answer_size(connection_t *connection, size_t size) {
  char *bytes = malloc(size + 1);
  memset(bytes, 'x', size);
  int next = reply(connection, "200 OK", "", bytes, size);
  free(bytes);
  return next;
}

static int answer_chunked(connection_t *connection, size_t size) {
  char piece[1000], line[32];
  memset(piece, 'x', sizeof piece);
  send_text(connection, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
  while (size > 0) {
    size_t part = size < sizeof piece ? size : sizeof piece;
    snprintf(line, sizeof line, "%zx\r\n", part);
    if (!send_text(connection, line) || !send_all(connection, piece, part) || !send_text(connection, "\r\n"))
      return CLOSE;
    size -= part;
  }
  return send_text(connection, "0\r\nX-Trailer: end\r\n\r\n") ? KEEP : CLOSE;
}

static int answer_until_close(connection_t *connection, size_t size) {
  send_text(connection, "HTTP/1.1 200 OK\r\n\r\n");
  for (size_t i = 0; i < size; i++)
    if (!send_all(connection, "x", 1)) break;
  return CLOSE;
}

static int answer_trickle(connection_t *connection, int pause_ms) {
  send_text(connection, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
  while (!count(connection->server, &connection->server->stopping)) {
    check_sleep_ms(pause_ms);
    if (!send_all(connection, "x", 1)) break;
  }
  return CLOSE;
}

static int answer_stall(connection_t *connection, size_t size) {
  send_text(connection, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
  for (size_t i = 0; i < size; i++)
    send_all(connection, "x", 1);
  return until_peer_leaves(connection);
}

static int answer_reset(connection_t *connection) {
  struct linger linger = {1, 0};
  setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
  return CLOSE;
}

/* 0 where the server stops meanwhile. */
static int wait_ms(connection_t *connection, int delay_ms) {
  /* The clock says whole milliseconds that have passed: of the one that has begun nobody knows how much is left. */
  int64_t end = check_now_ms() + delay_ms + (delay_ms > 0);
  for (; check_now_ms() < end; check_sleep_ms(delay_ms < 50 ? 1 : 5))
    if (count(connection->server, &connection->server->stopping)) return 0;
  return 1;
}

static int answer_after(connection_t *connection, int delay_ms) {
  return wait_ms(connection, delay_ms) ? reply(connection, "200 OK", "", "late", 4) : CLOSE;
}

static int answer_tail(connection_t *connection, int delay_ms) {
  int is_slow = count(connection->server, &connection->server->requests) % 33 == 0;
  if (!wait_ms(connection, is_slow ? 10 * delay_ms : delay_ms)) return CLOSE;
  return reply(connection, "200 OK", "", connection->body, connection->body_size);
}

/* What server_say() said: the head, then the body in two chunks, or with each byte in a chunk of its own. */
static int answer_said(connection_t *connection, int first, int pause_ms) {
  server_t *server = connection->server;
  /* As it is now: where the pause outlasts a test, the next one says something else. */
  const char *bytes = server->bytes;
  size_t size = server->size, from = 0;
  char line[1024];
  snprintf(line, sizeof line, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%s\r\n", server->headers);
  if (!send_text(connection, line)) return CLOSE;
  check_sleep_ms(3); /* the body must not be taken together with the head */
  if (pause_ms > 0) {
    size_t begin = (size_t)((const char *)memchr(bytes, '\n', size) + 1 - bytes);
    snprintf(line, sizeof line, "%zx\r\n%.*s\r\n", begin, (int)begin, bytes);
    if (!send_text(connection, line)) return CLOSE;
    check_sleep_ms(pause_ms);
    from = begin;
  }
  char *encoded = malloc(size * (first < 0 ? 8 : 1) + 64), *end = encoded;
  for (size_t at = from, part; at < size; at += part) {
    part = first < 0 ? 1 : at == 0 && first > 0 ? (size_t)first : size - at;
    end += sprintf(end, "%zx\r\n", part);
    memcpy(end, bytes + at, part);
    end += part;
    end += sprintf(end, "\r\n");
  }
  end += sprintf(end, "0\r\n\r\n");
  int sent = send_all(connection, encoded, (size_t)(end - encoded));
  free(encoded);
  return sent ? KEEP : CLOSE;
}

static int wait_for_another(connection_t *connection) {
  for (int64_t end = check_now_ms() + 30000; check_now_ms() < end; check_sleep_ms(1)) {
    if (count(connection->server, &connection->server->stopping)) return 0;
    if (count(connection->server, &connection->server->arrived) > 1) return 1;
  }
  return 0;
}

/* The next answer of server_plan(), or that of the connection. */
static int answer_planned(connection_t *connection, int is_by_number) {
  server_t *server = connection->server;
  pthread_mutex_lock(&server->lock);
  const char *next = *server->next_planned;
  if (is_by_number) next = connection->number < server->plan_size ? server->plan[connection->number] : NULL;
  if (next) server->next_planned++;
  server->arrived += is_by_number;
  pthread_mutex_unlock(&server->lock);
  if (!next) return reply(connection, "200 OK", "", "ok", 2);
  if (next[0] == '^') {
    if (!wait_for_another(connection)) return CLOSE;
    next++;
  }
  if (next[0] == '~') {
    char *rest;
    if (!wait_ms(connection, (int)strtol(next + 1, &rest, 10))) return CLOSE;
    next = rest + 1;
  }
  if (!next[0]) return CLOSE;
  char status[64], headers[256] = "";
  const char *body = strstr(next, "\n\n"), *end = strchr(next, '\n');
  snprintf(status, sizeof status, "%.*s", (int)(end ? end - next : (long)strlen(next)), next);
  if (end && end != body)
    snprintf(headers, sizeof headers, "%.*s\r\n", (int)(body ? body - end - 1 : (long)strlen(end + 1)), end + 1);
  body = body ? body + 2 : "busy";
  return reply(connection, status, headers, body, strlen(body));
}

static int answer_sum(connection_t *connection) {
  char text[64];
  snprintf(text, sizeof text, "%zu %llx", connection->body_size, (unsigned long long)connection->body_sum);
  return reply(connection, "200 OK", "", text, strlen(text));
}

/* Answers before the body is read, which is done only after a success. */
static int answer_early(connection_t *connection, int number) {
  char head[64];
  snprintf(head, sizeof head, "HTTP/1.1 %d Early\r\nContent-Length: 5\r\n\r\n", number);
  if (!send_text(connection, head)) return CLOSE;
  if (number < 300) return read_body(connection) && send_text(connection, "early") ? KEEP : CLOSE;
  send_text(connection, "early");
  check_sleep_ms(50); /* meanwhile nothing is taken */
  while (wait_readable(connection, 60000))
    if (recv(connection->fd, connection->buffer, BUFFER_SIZE, MSG_DONTWAIT) <= 0) break;
  return CLOSE;
}

static int answer(connection_t *connection) {
  const char *path = connection->path;
  char name[32] = "";
  int number = 0;
  sscanf(path, "/%31[a-z]/%d", name, &number);
  if (!strcmp(name, "said")) return answer_said(connection, number, 0);
  if (!strcmp(name, "late")) return answer_said(connection, 0, number);
  if (!strcmp(name, "plan")) return answer_planned(connection, 0);
  if (!strcmp(name, "planned")) return answer_planned(connection, 1);
  if (!strcmp(name, "sum")) return answer_sum(connection);
  if (!strcmp(name, "echo")) return answer_echo(connection);
  if (!strcmp(name, "size")) return answer_size(connection, (size_t)number);
  if (!strcmp(name, "chunked")) return answer_chunked(connection, (size_t)number);
  if (!strcmp(name, "close")) return answer_until_close(connection, (size_t)number);
  if (!strcmp(name, "tail")) return answer_tail(connection, number);
  if (!strcmp(name, "delay")) return answer_after(connection, number);
  if (!strcmp(name, "never")) return until_peer_leaves(connection);
  if (!strcmp(name, "stall")) return answer_stall(connection, (size_t)number);
  if (!strcmp(name, "trickle")) return answer_trickle(connection, number);
  if (!strcmp(name, "readreset")) return answer_reset(connection);
  if (!strcmp(name, "readclose")) return CLOSE;
  if (!strcmp(name, "garbage")) return send_text(connection, "220 smtp.example.org ESMTP\r\n\r\n"), CLOSE;
  if (!strcmp(name, "truncated"))
    return send_text(connection, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
                                 "01234567890123456789012345678901234567890123456789"),
           CLOSE;
  if (!strcmp(name, "badchunk"))
    return send_text(connection, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\nhalf"), CLOSE;
  if (!strcmp(name, "status")) {
    char status[64];
    snprintf(status, sizeof status, "%d Said So", number);
    return reply(connection, status, "", "", 0);
  }
  return reply(connection, "404 Not Found", "", "", 0);
}

static int serve_request(connection_t *connection) {
  connection->body = NULL;
  connection->pause_ms = 0;
  int next = CLOSE, number = 0;
  if (!read_head(connection)) return CLOSE;
  connection->is_summed = sscanf(connection->path, "/sum/%d", &connection->pause_ms) == 1;
  if (sscanf(connection->path, "/early/%d", &number) == 1) {
    next = answer_early(connection, number);
  } else if (strcmp(connection->path, "/noread") == 0) {
    while (!count(connection->server, &connection->server->stopping))
      check_sleep_ms(10);
  } else if (read_body(connection)) {
    record(connection);
    next = answer(connection);
  }
  free(connection->body);
  return next;
}

static void *serve(void *argument) {
  connection_t *connection = argument;
  server_t *server = connection->server;
  while (serve_request(connection) == KEEP) {
  }
  close(connection->fd);
  pthread_mutex_lock(&server->lock);
  server->open--;
  pthread_mutex_unlock(&server->lock);
  free(connection);
  return NULL;
}

static void accept_one(server_t *server) {
  int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
  if (fd < 0) return;
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  connection_t *connection = calloc(1, sizeof *connection);
  connection->server = server;
  connection->fd = fd;
  pthread_mutex_lock(&server->lock);
  connection->number = server->accepted++;
  server->open++;
  if (server->open > server->open_max) server->open_max = server->open;
  pthread_mutex_unlock(&server->lock);
  pthread_t thread;
  if (pthread_create(&thread, NULL, serve, connection) != 0) {
    fprintf(stderr, "the test server cannot take connection %d\n", server->accepted);
    abort();
  }
  pthread_detach(thread);
}

static void *accept_loop(void *argument) {
  server_t *server = argument;
  while (!count(server, &server->stopping)) {
    struct pollfd item = {server->listener, POLLIN, 0};
    if (poll(&item, 1, 20) > 0) accept_one(server);
  }
  return NULL;
}

server_t *server_start(void) {
  server_t *server = calloc(1, sizeof *server);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  pthread_mutex_init(&server->lock, NULL);
  server->next_planned = server->plan;
  server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int small = 64 * 1024; /* so that /noread fills up soon */
  setsockopt(server->listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  CHECK(bind(server->listener, (struct sockaddr *)&address, sizeof address) == 0);
  CHECK(listen(server->listener, 1024) == 0);
  CHECK(getsockname(server->listener, (struct sockaddr *)&address, &size) == 0);
  server->port = ntohs(address.sin_port);
  CHECK(pthread_create(&server->acceptor, NULL, accept_loop, server) == 0);
  return server;
}

void server_stop(server_t *server) {
  pthread_mutex_lock(&server->lock);
  server->stopping = 1;
  pthread_mutex_unlock(&server->lock);
  pthread_join(server->acceptor, NULL);
  while (count(server, &server->open) > 0)
    check_sleep_ms(1);
  close(server->listener);
  pthread_mutex_destroy(&server->lock);
  free(server);
}

void server_say(server_t *server, const char *headers, const void *bytes, size_t size) {
  server->headers = headers;
  server->bytes = bytes;
  server->size = size;
}

void server_plan(server_t *server, const char *const *answers) {
  pthread_mutex_lock(&server->lock);
  int count = 0;
  for (; answers[count] && count < PLAN_MAX; count++)
    server->plan[count] = answers[count];
  server->plan[count] = NULL;
  server->plan_size = count;
  server->next_planned = server->plan;
  pthread_mutex_unlock(&server->lock);
}

int server_is_planned(server_t *server) {
  pthread_mutex_lock(&server->lock);
  int is_planned = *server->next_planned != NULL;
  pthread_mutex_unlock(&server->lock);
  return is_planned;
}

const char *server_url(const server_t *server, const char *path) {
  static __thread char urls[8][300];
  static __thread unsigned next;
  char *url = urls[next++ % 8];
  snprintf(url, sizeof urls[0], "http://127.0.0.1:%d%s", server->port, path);
  return url;
}

int server_port(const server_t *server) {
  return server->port;
}
int server_connections_accepted(server_t *server) {
  return count(server, &server->accepted);
}
int server_connections_open(server_t *server) {
  return count(server, &server->open);
}
int server_connections_open_max(server_t *server) {
  return count(server, &server->open_max);
}
int server_requests(server_t *server) {
  return count(server, &server->requests);
}

int server_bodies_with(server_t *server, const char *text) {
  int found = 0;
  pthread_mutex_lock(&server->lock);
  for (int i = 0; i < server->bodies; i++)
    found += strstr(server->body[i], text) != NULL;
  pthread_mutex_unlock(&server->lock);
  return found;
}
