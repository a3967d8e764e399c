/* stream_server PORT INTERVAL-MS - HTTP/2 in clear with prior knowledge: every request is answered by an endless
 * text/event-stream, an event each INTERVAL-MS, the streams spread evenly over the interval. For 10,000 streams, which
 * no server in Python can pace. One thread, epoll. */
#define _GNU_SOURCE
#include "common.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SLOTS = 1000, MAX_STREAMS = 20000 };

typedef struct {
  int fd, closed;
  nghttp2_session *session;
  uint8_t out[262144];
  size_t filled;
} peer_t;

typedef struct {
  peer_t *peer;
  int32_t id;
  int due; /* events to send */
} stream_t;

static stream_t streams[MAX_STREAMS]; /* stream n sends in slot n % SLOTS of each interval */
static int stream_count, peer_count;
static int epoll_fd;
static const char event_text[] =
    "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":"
    "[{\"index\":0,\"delta\":{\"content\":\" token\"},\"finish_reason\":null}]}\n\n";

static ssize_t read_event(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t size, uint32_t *flags,
                          nghttp2_data_source *source, void *data) {
  (void)session, (void)id, (void)flags, (void)data;
  stream_t *stream = source->ptr;
  if (stream->due == 0 || size < sizeof event_text) return NGHTTP2_ERR_DEFERRED;
  stream->due--;
  memcpy(buffer, event_text, sizeof event_text - 1);
  return (ssize_t)sizeof event_text - 1;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *data) {
  if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST || stream_count == MAX_STREAMS)
    return 0;
  stream_t *stream = &streams[stream_count++];
  *stream = (stream_t){.peer = data, .id = frame->hd.stream_id};
  nghttp2_nv headers[] = {
      {(uint8_t *)":status", (uint8_t *)"200", 7, 3, 0},
      {(uint8_t *)"content-type", (uint8_t *)"text/event-stream", 12, 17, 0},
  };
  nghttp2_data_provider provider = {.source.ptr = stream, .read_callback = read_event};
  nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, stream);
  return nghttp2_submit_response(session, frame->hd.stream_id, headers, 2, &provider);
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *data) {
  (void)code, (void)data;
  stream_t *stream = nghttp2_session_get_stream_user_data(session, id);
  if (stream != NULL) stream->peer = NULL;
  return 0;
}

static void flush(peer_t *peer) {
  const uint8_t *bytes;
  ssize_t size;
  while (peer->filled < 131072 && (size = nghttp2_session_mem_send(peer->session, &bytes)) > 0) {
    memcpy(peer->out + peer->filled, bytes, (size_t)size);
    peer->filled += (size_t)size;
  }
  ssize_t sent = peer->filled ? send(peer->fd, peer->out, peer->filled, MSG_NOSIGNAL) : 0;
  if (sent > 0) memmove(peer->out, peer->out + sent, peer->filled -= (size_t)sent);
}

static void hang_up(peer_t *peer) {
  for (int index = 0; index < stream_count; index++)
    if (streams[index].peer == peer) streams[index].peer = NULL;
  nghttp2_session_del(peer->session);
  close(peer->fd);
  free(peer);
  if (--peer_count == 0) stream_count = 0;
}

static void answer(int listener, nghttp2_session_callbacks *callbacks) {
  int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK), on = 1;
  if (fd < 0) return;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  peer_t *peer = calloc(1, sizeof *peer);
  peer->fd = fd;
  peer_count++;
  nghttp2_session_server_new(&peer->session, callbacks, peer);
  nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1000}};
  nghttp2_submit_settings(peer->session, NGHTTP2_FLAG_NONE, settings, 1);
  flush(peer);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static void receive(peer_t *peer) {
  static uint8_t in[65536];
  ssize_t size = recv(peer->fd, in, sizeof in, 0);
  if (size < 0 && errno == EAGAIN) return;
  if (size <= 0 || nghttp2_session_mem_recv(peer->session, in, (size_t)size) < 0) {
    hang_up(peer);
    return;
  }
  flush(peer);
}

static void send_slot(long slot) {
  for (int index = (int)(slot % SLOTS); index < stream_count; index += SLOTS) {
    stream_t *stream = &streams[index];
    if (stream->peer == NULL) continue;
    stream->due++;
    nghttp2_session_resume_data(stream->peer->session, stream->id);
    flush(stream->peer);
  }
}

int main(int argc, char **argv) {
  if (argc < 3) die("usage: stream_server PORT INTERVAL-MS");
  int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 1024) != 0) die("listen");
  nghttp2_session_callbacks *callbacks;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
  epoll_fd = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN};
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
  double slot_us = atof(argv[2]) * 1e3 / SLOTS, next = now_us();
  for (long slot = 0;;) {
    struct epoll_event events[64];
    int count = epoll_wait(epoll_fd, events, 64, 1);
    for (int index = 0; index < count; index++) {
      if (events[index].data.ptr == NULL)
        answer(listener, callbacks);
      else
        receive(events[index].data.ptr);
    }
    for (; next <= now_us(); next += slot_us)
      send_slot(slot++);
  }
}
