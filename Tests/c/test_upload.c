/*
 * test_upload.c - bodies in pieces by llmpool_write(): framing, back-pressure in bounded memory, lengths, early
 * answers, clocks, retries; over HTTP/1.1 and HTTP/2.
 */
#include "harness.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#define MIB (1 << 20)

static server_t *server;
static llmpool_t *pool;
static llmpool_queue_t *queue;

static llmpool_request_t upload_to(const char *path) {
  llmpool_request_t request = harness_request(server_url(server, path));
  request.flags = LLMPOOL_REQUEST_UPLOAD;
  return request;
}

static void with_length(llmpool_request_t *request, size_t length) {
  static char header[64];
  request->headers = header;
  request->headers_size = (size_t)sprintf(header, "Content-Length: %zu\r\n", length);
}

/* The DONE of the only request, over WRITABLE events; its http_status is checked. */
static llmpool_event_t done_with(uint32_t http_status) {
  llmpool_event_t event = harness_next(queue);
  while (event.kind == LLMPOOL_EVENT_WRITABLE) {
    harness_release(&event);
    event = harness_next(queue);
  }
  CHECK_EQ(event.kind, LLMPOOL_EVENT_DONE);
  CHECK_STATUS(event.status, LLMPOOL_OK);
  CHECK_EQ(event.http_status, http_status);
  return event;
}

static void done_with_text(const char *text) {
  llmpool_event_t event = done_with(200);
  CHECK_STR(event.data, text);
  harness_release(&event);
}

static void fails_with(llmpool_status_t status) {
  llmpool_event_t event = harness_next(queue);
  while (event.kind == LLMPOOL_EVENT_WRITABLE) {
    harness_release(&event);
    event = harness_next(queue);
  }
  CHECK_EQ(event.kind, LLMPOOL_EVENT_DONE);
  CHECK_STATUS(event.status, status);
  harness_release(&event);
}

/* ---- pieces ---- */

static void send_pieces(llmpool_t *to, const llmpool_request_t *request) {
  uint64_t id = harness_submit(to, request, queue);
  CHECK_OK(llmpool_write(to, id, "one, ", 5, 0));
  check_sleep_ms(20);
  CHECK_OK(llmpool_write(to, id, NULL, 0, 0)); /* nothing, which does not end a chunked body */
  check_sleep_ms(20);
  CHECK_OK(llmpool_write(to, id, "two", 3, 0));
  CHECK_OK(llmpool_write(to, id, ", three", 7, 1));
}

static void test_chunked(void) {
  llmpool_request_t request = upload_to("/echo");
  for (int i = 0; i < 2; i++) { /* the second shows that the connection is in step */
    send_pieces(pool, &request);
    llmpool_event_t done = done_with(200);
    CHECK_STR(done.data, "one, two, three");
    size_t size;
    const char *method = llmpool_event_header(&done, "x-method", &size);
    CHECK(method && size == 4 && memcmp(method, "POST", 4) == 0);
    CHECK(i == 0 || done.flags & LLMPOOL_EVENT_REUSED);
    harness_release(&done);
  }
}

static void test_with_content_length(void) {
  llmpool_request_t request = upload_to("/echo");
  with_length(&request, 15);
  request.method = "PUT";
  send_pieces(pool, &request);
  done_with_text("one, two, three");
}

static void test_the_end_alone(void) {
  llmpool_request_t request = upload_to("/echo");
  uint64_t id = harness_submit(pool, &request, queue);
  CHECK_OK(llmpool_write(pool, id, "all", 3, 0));
  check_sleep_ms(30);
  CHECK_OK(llmpool_write(pool, id, NULL, 0, 1));
  done_with_text("all");
  id = harness_submit(pool, &request, queue);
  CHECK_OK(llmpool_write(pool, id, NULL, 0, 1));
  done_with_text("");
}

/* ---- back-pressure ---- */

static void fill_piece(char *piece, size_t size, size_t at) {
  for (size_t i = 0; i < size; i++)
    piece[i] = (char)((at + i) * 31 % 251);
}

/* Writes so many bytes in pieces, waiting for WRITABLE where it must; returns how often that was. */
static int write_all(llmpool_t *to, uint64_t id, size_t total, size_t piece_size, uint64_t *sum_out) {
  char *piece = malloc(piece_size);
  int waits = 0;
  *sum_out = 0;
  for (size_t at = 0; at < total;) {
    size_t size = total - at < piece_size ? total - at : piece_size;
    fill_piece(piece, size, at);
    llmpool_status_t status = llmpool_write(to, id, piece, size, at + size == total);
    if (status == LLMPOOL_E_AGAIN) {
      llmpool_event_t event = harness_next(queue);
      CHECK_EQ(event.kind, LLMPOOL_EVENT_WRITABLE);
      CHECK_EQ(event.request_id, id);
      harness_release(&event);
      waits++;
      continue;
    }
    CHECK_OK(status);
    *sum_out = server_sum(*sum_out, piece, size);
    at += size;
  }
  free(piece);
  return waits;
}

static void test_1_mib_waits_and_no_more(void) {
  static char piece[65536];
  llmpool_request_t request = upload_to("/noread");
  uint64_t id = harness_submit(pool, &request, queue);
  size_t taken = 0;
  llmpool_status_t status;
  while ((status = llmpool_write(pool, id, piece, sizeof piece, 0)) == LLMPOOL_OK) {
    taken += sizeof piece;
    CHECK(taken < 64 * MIB);
    check_sleep_ms(2); /* so that the engine fills the kernel's buffers first */
  }
  CHECK_STATUS(status, LLMPOOL_E_AGAIN);
  CHECK(taken >= MIB);
  CHECK_STATUS(llmpool_write(pool, id, "x", 1, 1), LLMPOOL_E_AGAIN); /* nothing is taken, the end neither */
  CHECK_OK(llmpool_cancel(pool, id));
  fails_with(LLMPOOL_E_CANCELLED);
}

/* Before it has a connection a request takes 1 MiB, exactly. */
static void test_the_limit_while_waiting_for_a_connection(void) {
  llmpool_options_t options = harness_options();
  options.max_connections = 1;
  llmpool_t *tiny = harness_pool(&options);
  llmpool_queue_t *other = harness_queue();
  llmpool_request_t blocker = harness_request(server_url(server, "/never"));
  uint64_t blocking = harness_submit(tiny, &blocker, other);
  llmpool_request_t request = upload_to("/sum/0");
  uint64_t id = harness_submit(tiny, &request, queue);
  static char piece[MIB / 4];
  uint64_t sum = 0;
  for (int i = 0; i < 4; i++) {
    fill_piece(piece, sizeof piece, (size_t)i);
    CHECK_OK(llmpool_write(tiny, id, piece, sizeof piece, 0));
    sum = server_sum(sum, piece, sizeof piece);
  }
  CHECK_STATUS(llmpool_write(tiny, id, "x", 1, 1), LLMPOOL_E_AGAIN);
  CHECK_OK(llmpool_cancel(tiny, blocking));
  llmpool_event_t event = harness_next(queue);
  CHECK_EQ(event.kind, LLMPOOL_EVENT_WRITABLE);
  harness_release(&event);
  CHECK_OK(llmpool_write(tiny, id, "x", 1, 1));
  char expected[64];
  sprintf(expected, "%d %llx", MIB + 1, (unsigned long long)server_sum(sum, "x", 1));
  done_with_text(expected);
  CHECK_OK(llmpool_queue_close(other));
  CHECK_OK(llmpool_close(tiny, 0));
}

static long resident_kib(void) {
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  CHECK(file && fscanf(file, "%*d %ld", &pages) == 1);
  fclose(file);
  return pages * 4;
}

static void check_many_bytes(llmpool_request_t request, size_t total) {
  char expected[64];
  uint64_t sum;
  long before = resident_kib();
  uint64_t id = harness_submit(pool, &request, queue);
  int waits = write_all(pool, id, total, 50000, &sum);
  long grown = resident_kib() - before;
  if (check_slower() == 1) CHECK(waits > 0); /* how often depends on who is slower, the server or we */
  if (check_slower() == 1) CHECK(grown < 6 * 1024);
  sprintf(expected, "%zu %llx", total, (unsigned long long)sum);
  done_with_text(expected);
}

static void test_many_bytes_to_a_slow_server(void) {
  check_many_bytes(upload_to("/sum/1"), 24 * MIB);
  llmpool_request_t request = upload_to("/sum/1");
  with_length(&request, 24 * MIB + 17);
  check_many_bytes(request, 24 * MIB + 17);
}

/* ---- refusals ---- */

static void test_lengths_that_do_not_agree(void) {
  llmpool_request_t request = upload_to("/echo");
  with_length(&request, 10);
  uint64_t id = harness_submit(pool, &request, queue);
  CHECK_REFUSED(llmpool_write(pool, id, "01234567890", 11, 0), LLMPOOL_E_INVALID_ARGUMENT, "size");
  CHECK_OK(llmpool_write(pool, id, "01234", 5, 0));
  CHECK_REFUSED(llmpool_write(pool, id, "567", 3, 1), LLMPOOL_E_INVALID_ARGUMENT, "size"); /* too short */
  CHECK_REFUSED(llmpool_write(pool, id, "567890", 6, 1), LLMPOOL_E_INVALID_ARGUMENT, "size");
  CHECK_OK(llmpool_write(pool, id, "56789", 5, 1)); /* a refused piece left nothing behind */
  done_with_text("0123456789");
}

static void test_requests_that_take_no_pieces(void) {
  llmpool_request_t request = harness_request(server_url(server, "/never"));
  uint64_t id = harness_submit(pool, &request, queue);
  CHECK_REFUSED(llmpool_write(pool, id, "x", 1, 0), LLMPOOL_E_INVALID_ARGUMENT, "UPLOAD");
  CHECK_OK(llmpool_cancel(pool, id));
  fails_with(LLMPOOL_E_CANCELLED);
  CHECK_STATUS(llmpool_write(pool, id, "x", 1, 0), LLMPOOL_E_NOT_FOUND);
  request = upload_to("/echo");
  id = harness_submit(pool, &request, queue);
  CHECK_REFUSED(llmpool_write(pool, id, NULL, 1, 0), LLMPOOL_E_INVALID_ARGUMENT, "data");
  CHECK_OK(llmpool_write(pool, id, "x", 1, 1));
  done_with_text("x");
  CHECK_STATUS(llmpool_write(pool, id, "x", 1, 0), LLMPOOL_E_NOT_FOUND);
  request.url = server_url(server, "/never");
  id = harness_submit(pool, &request, queue);
  CHECK_OK(llmpool_write(pool, id, "x", 1, 1));
  CHECK_REFUSED(llmpool_write(pool, id, "x", 1, 0), LLMPOOL_E_INVALID_ARGUMENT, "last");
  CHECK_REFUSED(llmpool_write(pool, id, NULL, 0, 1), LLMPOOL_E_INVALID_ARGUMENT, "last");
  CHECK_OK(llmpool_cancel(pool, id));
  fails_with(LLMPOOL_E_CANCELLED);
  request.body = "x";
  request.body_size = 1;
  uint64_t unused;
  CHECK_REFUSED(llmpool_submit(pool, &request, queue, &unused), LLMPOOL_E_INVALID_ARGUMENT, "body");
}

/* ---- early answers ---- */

static void test_an_early_refusal_ends_the_upload(void) {
  static char piece[65536];
  server_t *own = server_start();
  llmpool_request_t request = harness_request(server_url(own, "/early/413"));
  request.flags = LLMPOOL_REQUEST_UPLOAD;
  uint64_t id = harness_submit(pool, &request, queue);
  for (int i = 0; i < 1000; i++)
    if (llmpool_write(pool, id, piece, sizeof piece, 0) != LLMPOOL_OK) break;
  llmpool_event_t done = done_with(413);
  CHECK_STR(done.data, "early");
  CHECK_EQ(done.attempts, 1);
  harness_release(&done);
  CHECK_STATUS(llmpool_write(pool, id, piece, sizeof piece, 0), LLMPOOL_E_NOT_FOUND);
  CHECK_SOON(server_connections_open(own) == 0); /* its rest was never sent: nothing can follow on it */
  server_stop(own);
}

static void test_an_early_success_goes_on_sending(void) {
  llmpool_request_t request = upload_to("/early/200");
  request.flags |= LLMPOOL_REQUEST_STREAM;
  uint64_t id = harness_submit(pool, &request, queue), sum;
  CHECK_OK(llmpool_write(pool, id, "first", 5, 0));
  llmpool_event_t event = harness_next(queue);
  CHECK_EQ(event.kind, LLMPOOL_EVENT_HEAD); /* while the body is still coming */
  harness_release(&event);
  write_all(pool, id, 3 * MIB, 50000, &sum);
  size_t size = 0;
  do {
    event = harness_next(queue);
    size += event.data_size;
    if (event.kind == LLMPOOL_EVENT_DONE) CHECK_STATUS(event.status, LLMPOOL_OK);
    harness_release(&event);
  } while (event.kind != LLMPOOL_EVENT_DONE);
  CHECK_EQ(size, 5);
}

/* ---- clocks ---- */

/* The read clock runs once all is sent, and the machine may be late: a clock that does not stand is so each time. */
static void check_write_clock_stands(llmpool_t *to, llmpool_request_t request) {
  request.write_timeout_ms = 150;
  request.read_timeout_ms = 150;
  for (int attempt = 1;; attempt++) {
    uint64_t id = harness_submit(to, &request, queue);
    check_sleep_ms(300);
    llmpool_status_t first = llmpool_write(to, id, "slow", 4, 0);
    check_sleep_ms(300);
    llmpool_status_t last = llmpool_write(to, id, "ly", 2, 1);
    llmpool_event_t done = harness_next(queue);
    int stood = first == LLMPOOL_OK && last == LLMPOOL_OK && done.status == LLMPOOL_OK;
    if (stood || attempt == 5) {
      CHECK_OK(first);
      CHECK_OK(last);
      CHECK_STATUS(done.status, LLMPOOL_OK);
      CHECK_STR(done.data, "slowly");
    }
    harness_release(&done);
    if (stood) return;
  }
}

static void test_the_write_clock_stands_while_nothing_waits(void) {
  check_write_clock_stands(pool, upload_to("/echo"));
}

/* The application goes on bringing what fits while the server takes nothing. */
static void check_write_clock_runs(llmpool_t *to, llmpool_request_t request) {
  static char piece[65536];
  request.write_timeout_ms = 300;
  uint64_t id = harness_submit(to, &request, queue);
  check_sleep_ms(100); /* it has waited for the application before */
  int64_t end = check_now_ms() + 5000 * check_slower();
  while (llmpool_write(to, id, piece, sizeof piece, 0) != LLMPOOL_E_NOT_FOUND && check_now_ms() < end)
    check_sleep_ms(10);
  fails_with(LLMPOOL_E_WRITE_TIMEOUT);
}

static void test_the_write_clock_runs_while_the_server_takes_nothing(void) {
  check_write_clock_runs(pool, upload_to("/noread"));
}

static void test_total_timeout_of_an_upload_that_waits(void) {
  llmpool_request_t request = upload_to("/echo");
  request.total_timeout_ms = 150;
  harness_submit(pool, &request, queue);
  fails_with(LLMPOOL_E_TOTAL_TIMEOUT);
}

/* ---- retries ---- */

/* A piece is gone for good: not even a request that asked for it is sent again. */
static void test_no_retry_after_a_piece(void) {
  static const char *const plan[] = {"503 Busy\nretry-after: 0", "", NULL};
  server_t *own = server_start();
  server_plan(own, plan);
  llmpool_request_t request = harness_request(server_url(own, "/plan"));
  request.flags = LLMPOOL_REQUEST_UPLOAD | LLMPOOL_REQUEST_RETRY_STATUS | LLMPOOL_REQUEST_RETRY_SENT;
  uint64_t id = harness_submit(pool, &request, queue);
  CHECK_OK(llmpool_write(pool, id, "piece", 5, 1));
  llmpool_event_t done = done_with(503);
  CHECK_EQ(done.attempts, 1);
  harness_release(&done);
  id = harness_submit(pool, &request, queue);
  CHECK_OK(llmpool_write(pool, id, "piece", 5, 1));
  fails_with(LLMPOOL_E_READ);
  CHECK_EQ(server_requests(own), 2);
  server_stop(own);
}

/* ---- HTTP/2 ---- */

static llmpool_request_t h2_upload(const nghttpd_t *nghttpd) {
  llmpool_request_t request = harness_request(nghttpd_url(nghttpd, "/echo"));
  request.flags = LLMPOOL_REQUEST_UPLOAD;
  return request;
}

static void check_h2_large(llmpool_t *h2, const nghttpd_t *nghttpd) {
  enum { SIZE = 8 * MIB };
  llmpool_request_t request = h2_upload(nghttpd);
  uint64_t sum, received = 0;
  size_t size = 0;
  request.flags |= LLMPOOL_REQUEST_STREAM;
  uint64_t id = harness_submit(h2, &request, queue);
  write_all(h2, id, SIZE, 100000, &sum);
  for (;;) {
    llmpool_event_t event = harness_next(queue);
    uint32_t kind = event.kind;
    if (kind == LLMPOOL_EVENT_DATA) received = server_sum(received, event.data, event.data_size);
    if (kind == LLMPOOL_EVENT_DATA) size += event.data_size;
    if (kind == LLMPOOL_EVENT_DONE) CHECK_STATUS(event.status, LLMPOOL_OK);
    harness_release(&event);
    if (kind == LLMPOOL_EVENT_DONE) break;
  }
  CHECK_EQ(size, SIZE);
  CHECK(received == sum);
}

/* Allows 1000 bytes of a stream, and takes no more for ever. */
static void *narrow_server(void *argument) {
  static const unsigned char settings[] = {0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 1000 >> 8, 1000 & 255};
  char buffer[4096];
  int fd = accept(*(int *)argument, NULL, NULL);
  CHECK(fd >= 0);
  CHECK_EQ(send(fd, settings, sizeof settings, MSG_NOSIGNAL), sizeof settings);
  while (recv(fd, buffer, sizeof buffer, 0) > 0) {
  }
  close(fd);
  return NULL;
}

static void test_a_server_that_closes_its_window(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 1) == 0);
  CHECK(getsockname(listener, (struct sockaddr *)&address, &size) == 0);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, narrow_server, &listener) == 0);
  char url[64], piece[1000] = "";
  snprintf(url, sizeof url, "http://127.0.0.1:%d/", ntohs(address.sin_port));
  llmpool_t *h2 = harness_pool_h2(harness_options());
  CHECK_OK(llmpool_warm(h2, url, 1));
  check_sleep_ms(100); /* its settings are here */
  llmpool_request_t request = harness_request(url);
  request.flags = LLMPOOL_REQUEST_UPLOAD;
  request.write_timeout_ms = 150;
  uint64_t id = harness_submit(h2, &request, queue);
  check_sleep_ms(300);
  CHECK_OK(llmpool_write(h2, id, piece, sizeof piece, 0));
  check_sleep_ms(300); /* all is gone that came: the clock stands, though the window is closed */
  CHECK_OK(llmpool_write(h2, id, piece, 1, 0));
  int64_t start = check_now_ms();
  fails_with(LLMPOOL_E_WRITE_TIMEOUT);
  CHECK(check_now_ms() - start < 5000 * check_slower());
  CHECK_OK(llmpool_close(h2, 0));
  pthread_join(thread, NULL);
  close(listener);
}

static void test_over_http2(void) {
  nghttpd_t *nghttpd = nghttpd_start();
  if (!nghttpd) return;
  llmpool_t *h2 = harness_pool_h2(harness_options());
  llmpool_request_t request = h2_upload(nghttpd);
  send_pieces(h2, &request);
  done_with_text("one, two, three");
  with_length(&request, 15);
  send_pieces(h2, &request);
  done_with_text("one, two, three");
  check_h2_large(h2, nghttpd);
  check_write_clock_stands(h2, h2_upload(nghttpd));
  CHECK_EQ(harness_stats(h2).opened, 1);
  CHECK_OK(llmpool_close(h2, 0));
  nghttpd_stop(nghttpd);
}

/* ---- main ---- */

static void set_up(void) {
  harness_set_up(&server, &pool, &queue);
}

static void tear_down(void) {
  harness_tear_down(server, pool, queue);
}

int main(void) {
  RUN(set_up);
  if (!queue) return check_report();
  RUN(test_chunked);
  RUN(test_with_content_length);
  RUN(test_the_end_alone);
  RUN(test_1_mib_waits_and_no_more);
  RUN(test_the_limit_while_waiting_for_a_connection);
  RUN(test_many_bytes_to_a_slow_server);
  RUN(test_lengths_that_do_not_agree);
  RUN(test_requests_that_take_no_pieces);
  RUN(test_an_early_refusal_ends_the_upload);
  RUN(test_an_early_success_goes_on_sending);
  RUN(test_the_write_clock_stands_while_nothing_waits);
  RUN(test_the_write_clock_runs_while_the_server_takes_nothing);
  RUN(test_total_timeout_of_an_upload_that_waits);
  RUN(test_no_retry_after_a_piece);
  RUN(test_a_server_that_closes_its_window);
  RUN(test_over_http2);
  RUN(tear_down);
  return check_report();
}
