/*
 * demo_client.c - a C library that makes LLM calls, as it may sit in a Python process: it knows nothing of Python, asks
 * for the process's pool, and so shares connections, limits and counters with whoever else does.
 */
#include <llmpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 32

typedef struct {
  llmpool_t *pool;
  llmpool_queue_t *queue;
  llmpool_request_t request;
  int succeeded, failed;
  char first_failure[160];
} demo_t;

/* Makes the shared pool trust the authority in the file, unless it already does. */
static llmpool_status_t trust(llmpool_t *pool, const char *ca) {
  llmpool_options_t options;
  llmpool_status_t status = llmpool_options_get(pool, &options, sizeof options);
  if (status != LLMPOOL_OK || ca == NULL || options.ca_file != NULL) return status;
  options.ca_file = ca;
  return llmpool_configure(pool, &options);
}

static void note_failure(demo_t *demo, const llmpool_event_t *event) {
  if (demo->failed++ > 0) return;
  snprintf(demo->first_failure, sizeof demo->first_failure, "%s: %s, HTTP %u", llmpool_status_name(event->status),
           event->message ? event->message : "", event->http_status);
}

/* Waits for at least one answer; how many came. */
static int take(demo_t *demo) {
  llmpool_event_t events[BATCH];
  int32_t count = llmpool_queue_drain(demo->queue, events, sizeof *events, BATCH, -1);
  if (count <= 0) return count;
  for (int32_t i = 0; i < count; i++) {
    if (events[i].status == LLMPOOL_OK && events[i].http_status == 200)
      demo->succeeded++;
    else
      note_failure(demo, &events[i]);
  }
  llmpool_events_release(events, sizeof *events, (uint32_t)count);
  return count;
}

static llmpool_status_t run_calls(demo_t *demo, int calls, int in_flight) {
  int submitted = 0, waiting = 0;
  while (submitted < calls || waiting > 0) {
    while (submitted < calls && waiting < in_flight) {
      uint64_t id;
      llmpool_status_t status = llmpool_submit(demo->pool, &demo->request, demo->queue, &id);
      if (status != LLMPOOL_OK) return status;
      submitted++;
      waiting++;
    }
    int taken = take(demo);
    if (taken < 0) return taken;
    waiting -= taken;
  }
  return LLMPOOL_OK;
}

static void write_report(const demo_t *demo, char *report, size_t size) {
  llmpool_stats_t stats = {.size = sizeof stats};
  llmpool_stats(demo->pool, NULL, &stats);
  snprintf(report, size,
           "succeeded %d\nfailed %d\nfirst failure %s\n"
           "pool: submitted %llu, succeeded %llu, failed %llu, connections opened %llu, open now %llu, "
           "reused %llu, TLS handshakes %llu\n",
           demo->succeeded, demo->failed, demo->failed ? demo->first_failure : "none",
           (unsigned long long)stats.submitted, (unsigned long long)stats.succeeded, (unsigned long long)stats.failed,
           (unsigned long long)stats.opened, (unsigned long long)(stats.in_use + stats.idle),
           (unsigned long long)stats.reused, (unsigned long long)stats.tls_handshakes);
}

/*
 * Makes so many chat-completion calls, in_flight of them at a time, through the shared pool, and writes a short report.
 * Returns how many failed, or a negative llmpool_status_t. The model is that of LLMPOOL_DEMO_MODEL.
 */
int demo_run(const char *url, const char *ca_or_null, const char *api_key, int calls, int in_flight, char *report,
             size_t report_size) {
  const char *model = getenv("LLMPOOL_DEMO_MODEL");
  char body[512];
  char headers[512];
  demo_t demo = {.request = {.size = sizeof demo.request, .method = "POST", .url = url}};
  snprintf(headers, sizeof headers, "content-type: application/json\r\nauthorization: Bearer %s\r\n", api_key);
  snprintf(body, sizeof body, "{\"model\": \"%s\", \"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}",
           model ? model : "gpt-mock");
  demo.request.headers = headers;
  demo.request.headers_size = strlen(headers);
  demo.request.body = body;
  demo.request.body_size = strlen(body);

  llmpool_status_t status = llmpool_shared(&demo.pool);
  if (status == LLMPOOL_OK) status = trust(demo.pool, ca_or_null);
  if (status == LLMPOOL_OK) status = llmpool_queue_open(NULL, &demo.queue);
  if (status == LLMPOOL_OK) status = run_calls(&demo, calls, in_flight > 0 ? in_flight : 1);
  if (status == LLMPOOL_OK)
    write_report(&demo, report, report_size);
  else
    snprintf(report, report_size, "%s: %s\n", llmpool_status_name(status), llmpool_last_error());
  if (demo.queue) llmpool_queue_close(demo.queue);
  return status == LLMPOOL_OK ? demo.failed : status;
}
