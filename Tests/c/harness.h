/* harness.h - what the tests of the library share: pools, requests and queues in one line each. */
#ifndef LLMPOOL_TEST_HARNESS_H
#define LLMPOOL_TEST_HARNESS_H

#include "check.h"
#include "llmpool.h"
#include "server.h"

/* The defaults, with no proxy of the environment. */
llmpool_options_t harness_options(void);
llmpool_t *harness_pool(const llmpool_options_t *options); /* NULL: harness_options() */
llmpool_queue_t *harness_queue(void);
llmpool_request_t harness_request(const char *url);
/* The request performed; its DONE event is to be released. */
llmpool_event_t harness_perform(llmpool_t *pool, const llmpool_request_t *request);
/* The status with which the request ends; the event is released. */
llmpool_status_t harness_outcome(llmpool_t *pool, const llmpool_request_t *request);
uint64_t harness_submit(llmpool_t *pool, const llmpool_request_t *request, llmpool_queue_t *queue);
/* The next event of the queue, within ten seconds. */
llmpool_event_t harness_next(llmpool_queue_t *queue);
void harness_release(llmpool_event_t *event);
/* A snapshot whose identities hold: checked. */
llmpool_stats_t harness_stats(llmpool_t *pool);

/* What a program of tests shares among them. */
void harness_set_up(server_t **server, llmpool_t **pool, llmpool_queue_t **queue);
/* Each test took what was its own: nothing waits in the queue, nothing is left in the pool. */
void harness_tear_down(server_t *server, llmpool_t *pool, llmpool_queue_t *queue);

/* nghttpd on loopback without TLS, which knows HTTP/2 alone: it serves the files of a directory of its own, and sends
 * back what is posted. */
typedef struct {
  int port, process;
  char directory[64];
} nghttpd_t;
/* NULL where it is not installed. */
nghttpd_t *nghttpd_start(void);
void nghttpd_file(nghttpd_t *nghttpd, const char *name, const void *bytes, size_t size);
/* A pool that speaks HTTP/2 from the first byte. */
llmpool_t *harness_pool_h2(llmpool_options_t options);
const char *nghttpd_url(const nghttpd_t *nghttpd, const char *path);
void nghttpd_stop(nghttpd_t *nghttpd);

#endif
