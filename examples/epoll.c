/*
 * epoll.c - many requests from one thread with an event loop of its own: epoll URL COUNT
 * The queue's descriptor is one more in the program's epoll; a wake brings as many events as have arrived.
 */
#include <llmpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#define BATCH 64

/* Takes what has arrived; how many requests that were. */
static int take(llmpool_queue_t *queue, int *failed) {
  llmpool_event_t events[BATCH];
  int32_t count = llmpool_queue_drain(queue, events, sizeof *events, BATCH, 0);
  for (int32_t i = 0; i < count; i++) {
    if (events[i].status == LLMPOOL_OK && events[i].http_status < 400) continue;
    (*failed)++;
    fprintf(stderr, "request %llu: %s, HTTP %u\n", (unsigned long long)events[i].user_data,
            llmpool_status_name(events[i].status), events[i].http_status);
  }
  if (count > 0) llmpool_events_release(events, sizeof *events, (uint32_t)count);
  return count < 0 ? 0 : count;
}

int main(int count, char **arguments) {
  llmpool_t *pool;
  llmpool_queue_t *queue;
  if (count < 3) return fprintf(stderr, "usage: %s URL COUNT\n", arguments[0]), 2;
  if (llmpool_shared(&pool) != LLMPOOL_OK || llmpool_queue_open(NULL, &queue) != LLMPOOL_OK)
    return fprintf(stderr, "%s\n", llmpool_last_error()), 1;

  int loop = epoll_create1(EPOLL_CLOEXEC), total = atoi(arguments[2]), done = 0, failed = 0;
  struct epoll_event interest = {.events = EPOLLIN};
  epoll_ctl(loop, EPOLL_CTL_ADD, llmpool_queue_fd(queue), &interest);
  llmpool_request_t request = {.size = sizeof request, .url = arguments[1]};
  for (int i = 0; i < total; i++) {
    uint64_t id;
    request.user_data = (uint64_t)i;
    if (llmpool_submit(pool, &request, queue, &id) != LLMPOOL_OK)
      return fprintf(stderr, "%s\n", llmpool_last_error()), 1;
  }
  while (done < total)
    if (epoll_wait(loop, &interest, 1, -1) == 1) done += take(queue, &failed);

  llmpool_stats_t stats = {.size = sizeof stats};
  llmpool_stats(pool, NULL, &stats);
  printf("%d requests, %d failed, over %llu connections\n", total, failed, (unsigned long long)stats.opened);
  llmpool_queue_close(queue);
  return failed != 0;
}
