#include "together.h"

#include <llmpool.h>

long long together_submitted(void) {
  llmpool_t *pool;
  llmpool_stats_t stats = {.size = sizeof stats};
  if (llmpool_shared(&pool) != LLMPOOL_OK || llmpool_stats(pool, NULL, &stats) != LLMPOOL_OK) return -1;
  return (long long)stats.submitted;
}

int together_perform(const char *url) {
  llmpool_t *pool;
  llmpool_event_t done;
  llmpool_request_t request = {.size = sizeof request};
  request.url = url;
  if (llmpool_shared(&pool) != LLMPOOL_OK) return -1;
  if (llmpool_perform(pool, &request, &done, sizeof done, NULL) != LLMPOOL_OK) return -1;
  int status = done.status == LLMPOOL_OK ? (int)done.http_status : done.status;
  llmpool_events_release(&done, sizeof done, 1);
  return status;
}
