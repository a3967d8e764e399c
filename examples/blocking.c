/*
 * blocking.c - one chat completion, and wait for it: blocking URL [API_KEY [MODEL]]
 * llmpool_perform() may be called from any number of threads; they share the connections of the pool.
 */
#include <llmpool.h>
#include <stdio.h>
#include <string.h>

int main(int count, char **arguments) {
  char headers[512], body[512];
  llmpool_t *pool;
  llmpool_event_t done;
  if (count < 2) return fprintf(stderr, "usage: %s URL [API_KEY [MODEL]]\n", arguments[0]), 2;

  snprintf(headers, sizeof headers, "content-type: application/json\r\nauthorization: Bearer %s\r\n",
           count > 2 ? arguments[2] : "none");
  snprintf(body, sizeof body, "{\"model\": \"%s\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}",
           count > 3 ? arguments[3] : "gpt-4o-mini");
  llmpool_request_t request = {.size = sizeof request, .url = arguments[1]};
  request.headers = headers;
  request.headers_size = strlen(headers);
  request.body = body;
  request.body_size = strlen(body);
  if (llmpool_shared(&pool) != LLMPOOL_OK || llmpool_perform(pool, &request, &done, sizeof done, NULL) != LLMPOOL_OK)
    return fprintf(stderr, "%s\n", llmpool_last_error()), 1;

  if (done.status == LLMPOOL_OK)
    printf("%u after %.1f ms: %s\n", done.http_status, (double)done.timings->done / 1000, done.data);
  else
    fprintf(stderr, "%s: %s\n", llmpool_status_name(done.status), done.message);
  int failed = done.status != LLMPOOL_OK;
  llmpool_events_release(&done, sizeof done, 1);
  return failed;
}
