/*
 * test_breaker.c - the breaker of an origin over real sockets: what calls to a server that is down end with, what they
 * say, and that they go out again once it is back. When it opens, and what counts, is tested with the core.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"

static llmpool_t *pool_with(uint32_t failures, const char *statuses) {
  llmpool_options_t options = harness_options();
  options.breaker_failures = failures;
  options.breaker_statuses = statuses;
  return harness_pool(&options);
}

/* A port of its own, on which nobody listens yet. */
static int bound(int *port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  int one = 1, descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(descriptor >= 0 && setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0);
  CHECK(bind(descriptor, (struct sockaddr *)&address, size) == 0);
  CHECK(getsockname(descriptor, (struct sockaddr *)&address, &size) == 0);
  *port = ntohs(address.sin_port);
  return descriptor;
}

static void answer_one(int listener) {
  static const char answer[] = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
  char head[2048];
  int connection = accept(listener, NULL, NULL);
  CHECK(connection >= 0 && read(connection, head, sizeof head) > 0);
  CHECK(write(connection, answer, sizeof answer - 1) == (ssize_t)sizeof answer - 1);
  close(connection);
}

static void test_calls_to_a_dead_server(void) {
  llmpool_t *pool = pool_with(1, NULL);
  llmpool_queue_t *notices = harness_queue(), *queue = harness_queue();
  CHECK_OK(llmpool_watch(pool, notices, LLMPOOL_NOTICE_BREAKER_OPENED | LLMPOOL_NOTICE_BREAKER_CLOSED, 1));
  int port, listener = bound(&port);
  char url[64];
  snprintf(url, sizeof url, "http://127.0.0.1:%d/", port);
  llmpool_request_t request = harness_request(url);
  request.flags = LLMPOOL_REQUEST_NO_REDIAL;
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_E_CONNECT);
  llmpool_event_t notice = harness_next(notices);
  CHECK_EQ(notice.notice, LLMPOOL_NOTICE_BREAKER_OPENED);
  CHECK(strstr(notice.headers, "reason: connect\r\nfailures: 1\r\n") != NULL);
  CHECK(strstr(notice.message, "is down: its breaker is open after a failure, the last: connect") != NULL);
  harness_release(&notice);
  request.flags = 0;
  for (int i = 0; i < 100; i++) {
    llmpool_event_t done = harness_perform(pool, &request);
    CHECK_STATUS(done.status, LLMPOOL_E_CONNECT);
    CHECK_EQ(done.flags & LLMPOOL_EVENT_UNSEEN, LLMPOOL_EVENT_UNSEEN);
    CHECK_EQ(done.attempts, 0);
    CHECK(strstr(done.message, "is down; its breaker opened ") != NULL);
    CHECK(strstr(done.message, "Connection refused") != NULL);
    harness_release(&done);
  }
  llmpool_stats_t stats = harness_stats(pool);
  CHECK(stats.breakers_open == 1 && stats.breaker_rejections == 100 && stats.failed == 101 && stats.retries == 0);
  CHECK(listen(listener, 8) == 0);
  notice = harness_next(notices); /* within the second that its dials are apart at most */
  CHECK_EQ(notice.notice, LLMPOOL_NOTICE_BREAKER_CLOSED);
  CHECK(strstr(notice.message, "is back: its breaker is closed after ") != NULL);
  harness_release(&notice);
  harness_submit(pool, &request, queue);
  answer_one(listener);
  llmpool_event_t done = harness_next(queue);
  CHECK_STATUS(done.status, LLMPOOL_OK);
  harness_release(&done);
  CHECK_EQ(harness_stats(pool).breakers_open, 0);
  close(listener);
  CHECK_OK(llmpool_close(pool, 0));
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_queue_close(notices));
}

static void test_answers_that_are_listed(void) {
  server_t *server = server_start();
  llmpool_t *pool = pool_with(2, "502, 503");
  llmpool_request_t request = harness_request(server_url(server, "/status/503"));
  for (int i = 0; i < 2; i++) {
    llmpool_event_t done = harness_perform(pool, &request);
    CHECK_EQ(done.http_status, 503);
    harness_release(&done);
  }
  llmpool_event_t done = harness_perform(pool, &request);
  int answers = 2;
  for (; done.status == LLMPOOL_OK && answers < 20; answers++) { /* where the pause was over: it was the trial */
    harness_release(&done);
    done = harness_perform(pool, &request);
  }
  CHECK_STATUS(done.status, LLMPOOL_E_REFUSED);
  char said[64];
  snprintf(said, sizeof said, "after %d failures in a row, the last ", answers);
  CHECK(strstr(done.message, said) != NULL);
  CHECK(strstr(done.message, "an answer of 503") != NULL);
  harness_release(&done);
  CHECK_EQ(server_requests(server), answers);
  request.url = server_url(server, "/echo");
  for (int i = 0; i < 100 && harness_outcome(pool, &request) != LLMPOOL_OK; i++) usleep(50000);
  CHECK_STATUS(harness_outcome(pool, &request), LLMPOOL_OK);
  CHECK_OK(llmpool_close(pool, 0));
  server_stop(server);
}

static void test_arguments(void) {
  llmpool_options_t options = harness_options();
  CHECK_EQ(options.breaker_failures, 0);
  CHECK(options.breaker_statuses == NULL);
  llmpool_t *pool;
  static const char *const wrong[] = {"200", "503,", "5xx", "600", "499", ",", "503;504", "0503"};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    options.breaker_statuses = wrong[i];
    CHECK_STATUS(llmpool_open(&options, &pool), LLMPOOL_E_INVALID_ARGUMENT);
    CHECK(strstr(llmpool_last_error(), "breaker_statuses: expected numbers from 500 to 599") != NULL);
  }
  options.breaker_statuses = "";
  options.breaker_failures = 1001;
  CHECK_STATUS(llmpool_open(&options, &pool), LLMPOOL_E_INVALID_ARGUMENT);
  CHECK(strstr(llmpool_last_error(), "breaker_failures: expected 0 to 1000, got 1001") != NULL);
}

int main(void) {
  RUN(test_calls_to_a_dead_server);
  RUN(test_answers_that_are_listed);
  RUN(test_arguments);
  return check_report();
}
