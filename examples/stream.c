/*
 * stream.c - an answer while it arrives: stream URL [API_KEY [MODEL]]
 * Releasing a DATA event tells the server that it may send more; what is not released holds this answer back alone.
 */
#include <llmpool.h>
#include <stdio.h>
#include <string.h>

/* Prints one event; 0 once it was the last. */
static int show(const llmpool_event_t *event, int *failed) {
  switch (event->kind) {
  case LLMPOOL_EVENT_HEAD:
    printf("%u %s\n%.*s\n", event->http_status, event->reason, (int)event->headers_size, event->headers);
    return 1;
  case LLMPOOL_EVENT_DATA:
    fwrite(event->data, 1, event->data_size, stdout);
    fflush(stdout);
    return 1;
  default:
    *failed = event->status != LLMPOOL_OK;
    if (*failed) fprintf(stderr, "%s: %s\n", llmpool_status_name(event->status), event->message);
    return 0;
  }
}

int main(int count, char **arguments) {
  char headers[512], body[512];
  llmpool_t *pool;
  llmpool_queue_t *queue;
  uint64_t id;
  if (count < 2) return fprintf(stderr, "usage: %s URL [API_KEY [MODEL]]\n", arguments[0]), 2;

  snprintf(headers, sizeof headers, "content-type: application/json\r\nauthorization: Bearer %s\r\n",
           count > 2 ? arguments[2] : "none");
  snprintf(body, sizeof body,
           "{\"model\": \"%s\", \"stream\": true, \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}",
           count > 3 ? arguments[3] : "gpt-4o-mini");
  llmpool_request_t request = {.size = sizeof request, .flags = LLMPOOL_REQUEST_STREAM, .url = arguments[1]};
  request.headers = headers;
  request.headers_size = strlen(headers);
  request.body = body;
  request.body_size = strlen(body);
  if (llmpool_shared(&pool) != LLMPOOL_OK || llmpool_queue_open(NULL, &queue) != LLMPOOL_OK ||
      llmpool_submit(pool, &request, queue, &id) != LLMPOOL_OK)
    return fprintf(stderr, "%s\n", llmpool_last_error()), 1;

  int more = 1, failed = 0;
  while (more) {
    llmpool_event_t event;
    if (llmpool_queue_drain(queue, &event, sizeof event, 1, -1) < 1) continue;
    more = show(&event, &failed);
    llmpool_events_release(&event, sizeof event, 1);
  }
  llmpool_queue_close(queue);
  return failed;
}
