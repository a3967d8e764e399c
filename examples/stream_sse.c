/*
 * stream_sse.c - the tokens of an answer while they arrive: stream_sse URL [API_KEY [MODEL]]
 * Releasing an event tells the server that it may send more; what is not released holds this answer back alone.
 */
#include <llmpool.h>
#include <stdio.h>
#include <string.h>

#define LINGER_MS 100

typedef struct {
  llmpool_t *pool;
  uint64_t id;
  int tokens;
  int at_the_end; /* "[DONE]" has come: nothing that matters follows */
  int failed;
} answer_t;

static void show_end(const llmpool_event_t *event, answer_t *answer) {
  if (event->status != LLMPOOL_OK && !answer->at_the_end) {
    fprintf(stderr, "%s: %s\n", llmpool_status_name(event->status), event->message);
    answer->failed = 1;
  }
  if (answer->failed) return;
  printf("%d tokens, the first after %.1f ms, the end after %.1f ms\n", answer->tokens,
         (double)event->timings->first_data / 1000, (double)event->timings->done / 1000);
}

/* Prints one event; 0 once it was the last. */
static int show(const llmpool_event_t *event, answer_t *answer) {
  switch (event->kind) {
  case LLMPOOL_EVENT_HEAD:
    if (event->http_status == 200) return 1;
    fprintf(stderr, "HTTP %u\n", event->http_status);
    answer->failed = 1;
    return 1;
  case LLMPOOL_EVENT_SSE:
    if (strcmp(event->data, "[DONE]") == 0) {
      answer->at_the_end = 1;
    } else {
      answer->tokens++;
      printf("%s\n", event->data);
      fflush(stdout);
    }
    return 1;
  case LLMPOOL_EVENT_DATA: /* no event stream, as an error's body */
    fprintf(stderr, "%s\n", event->data);
    return 1;
  default:
    show_end(event, answer);
    return 0;
  }
}

/* The end of the answer usually follows "[DONE]" at once and leaves a connection that can be used again; where it does
 * not, the answer is given up. Its DONE comes in either case. */
static void read_answer(llmpool_queue_t *queue, answer_t *answer) {
  for (int more = 1; more;) {
    llmpool_event_t event;
    int32_t count = llmpool_queue_drain(queue, &event, sizeof event, 1, answer->at_the_end ? LINGER_MS : -1);
    if (count == 1) {
      more = show(&event, answer);
      llmpool_events_release(&event, sizeof event, 1);
    } else if (answer->at_the_end) {
      llmpool_cancel(answer->pool, answer->id);
    }
  }
}

int main(int count, char **arguments) {
  char headers[512], body[512];
  llmpool_queue_t *queue;
  answer_t answer = {0};
  if (count < 2) return fprintf(stderr, "usage: %s URL [API_KEY [MODEL]]\n", arguments[0]), 2;

  snprintf(headers, sizeof headers, "content-type: application/json\r\nauthorization: Bearer %s\r\n",
           count > 2 ? arguments[2] : "none");
  snprintf(body, sizeof body,
           "{\"model\": \"%s\", \"stream\": true, \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}",
           count > 3 ? arguments[3] : "gpt-4o-mini");
  llmpool_request_t request = {.size = sizeof request, .flags = LLMPOOL_REQUEST_SSE, .url = arguments[1]};
  request.headers = headers;
  request.headers_size = strlen(headers);
  request.body = body;
  request.body_size = strlen(body);
  if (llmpool_shared(&answer.pool) != LLMPOOL_OK || llmpool_queue_open(NULL, &queue) != LLMPOOL_OK ||
      llmpool_submit(answer.pool, &request, queue, &answer.id) != LLMPOOL_OK)
    return fprintf(stderr, "%s\n", llmpool_last_error()), 1;

  read_answer(queue, &answer);
  llmpool_queue_close(queue);
  return answer.failed;
}
