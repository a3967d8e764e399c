/*
 * span.c - a chat completion as a span of OpenTelemetry, made of the fields of DONE: span URL [API_KEY [TRACEPARENT]]
 * It prints what a program would hand to the SDK that it has: a name, begin and end in nanoseconds of the epoch,
 * attributes by the conventions for HTTP clients, and an event for each time that the pool tells.
 */
#include <inttypes.h>
#include <llmpool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char body[] = "{\"model\": \"gpt-4o-mini\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}";

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void print_event(const char *name, uint64_t began, uint64_t microseconds) {
  if (microseconds > 0) printf("  event llmpool.%s at %" PRIu64 "\n", name, began + microseconds * 1000);
}

/* The request's own attributes. Of the query, whose values may be secret, nothing. */
static void print_request(const char *url) {
  char host[256] = "";
  unsigned port = strncmp(url, "https:", 6) == 0 ? 443 : 80;
  const char *place = strstr(url, "://");
  if (place != NULL) sscanf(place + 3, "%255[^:/?#]:%u", host, &port);
  printf("  http.request.method = POST\n  server.address = %s\n  server.port = %u\n", host, port);
  printf("  url.full = %.*s\n", (int)strcspn(url, "?#"), url);
}

static void print_answer(const llmpool_event_t *done) {
  static const char *versions[] = {"", "1.1", "2", "1.0"};
  if (done->attempts > 1) printf("  http.request.resend_count = %u\n", done->attempts - 1);
  if (done->http_status > 0) printf("  http.response.status_code = %u\n", done->http_status);
  if (done->http_status > 0 && done->http_version < 4)
    printf("  network.protocol.version = %s\n", versions[done->http_version]);
  if (done->status != LLMPOOL_OK)
    printf("  error.type = %s\n", llmpool_status_name(done->status));
  else if (done->http_status >= 400)
    printf("  error.type = %u\n", done->http_status);
}

static void print_span(const char *url, uint64_t began, const llmpool_event_t *done) {
  const llmpool_timings_t *times = done->timings;
  /* The times are those of the last attempt; of those before it RETRY notices tell. */
  uint64_t begin = done->attempts > 1 ? began + times->admitted * 1000 : began;
  int failed = done->status != LLMPOOL_OK || done->http_status >= 400;
  printf("POST, kind CLIENT, status %s, from %" PRIu64 " to %" PRIu64 "\n", failed ? "ERROR" : "UNSET", begin,
         began + times->done * 1000);
  print_request(url);
  print_answer(done);
  print_event("connected", began, times->secured > 0 ? times->secured : times->connected);
  print_event("admitted", began, times->admitted);
  print_event("sent", began, times->sent);
  print_event("first_byte", began, times->first_byte);
}

int main(int count, char **arguments) {
  char headers[1024];
  llmpool_t *pool;
  llmpool_event_t done;
  if (count < 2) return fprintf(stderr, "usage: %s URL [API_KEY [TRACEPARENT]]\n", arguments[0]), 2;

  snprintf(headers, sizeof headers, "content-type: application/json\r\nauthorization: Bearer %s\r\n%s%s%s",
           count > 2 ? arguments[2] : "none", count > 3 ? "traceparent: " : "", count > 3 ? arguments[3] : "",
           count > 3 ? "\r\n" : "");
  llmpool_request_t request = {.size = sizeof request, .url = arguments[1], .headers = headers};
  request.headers_size = strlen(headers);
  request.body = body;
  request.body_size = strlen(body);
  uint64_t began = now();
  if (llmpool_shared(&pool) != LLMPOOL_OK || llmpool_perform(pool, &request, &done, sizeof done, NULL) != LLMPOOL_OK)
    return fprintf(stderr, "%s\n", llmpool_last_error()), 1;

  print_span(arguments[1], began, &done);
  int failed = done.status != LLMPOOL_OK;
  if (failed) fprintf(stderr, "%s: %s\n", llmpool_status_name(done.status), done.message);
  llmpool_events_release(&done, sizeof done, 1);
  return failed;
}
