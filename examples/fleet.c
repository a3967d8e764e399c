/*
 * fleet.c - one budget for many processes, through Redis: fleet HOST PORT SCRIPT BUDGET URL COUNT
 * A thread asks the store for leases, as the library wants them, while the program sends COUNT requests of the budget,
 * with OPENAI_API_KEY from the environment.
 * SCRIPT is llmpool/_fleet/lease.lua of the Python package: what C and Python processes lend each other is one budget.
 */
#include <hiredis/hiredis.h>
#include <llmpool.h>
#include <openssl/sha.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define LIMITS 16
#define LEASE_MS "2000"
#define KEYS 7

typedef struct {
  llmpool_t *pool;
  llmpool_queue_t *queue;
  redisContext *redis;
  const char *host;
  int port;
  char *script;
  char sha[41];
  char member[160];
} fleet_t;

/* ---- what is said to the store: texts, one after the other in a buffer */

typedef struct {
  int count;
  size_t used;
  const char *texts[8 + KEYS + 16 + LIMITS * 13];
  char buffer[16384];
} command_t;

static void add(command_t *command, const char *format, ...) {
  va_list values;
  va_start(values, format);
  char *text = command->buffer + command->used;
  int size = vsnprintf(text, sizeof command->buffer - command->used, format, values);
  va_end(values);
  command->used += (size_t)size + 1;
  command->texts[command->count++] = text;
}

static void add_keys(command_t *command, const char *budget) {
  static const char *parts[KEYS] = {"state", "members", "ends", "gone", "high", "normal", "low"};
  unsigned char digest[SHA256_DIGEST_LENGTH];
  char tag[33];
  SHA256((const unsigned char *)budget, strlen(budget), digest);
  for (int i = 0; i < 16; i++) sprintf(tag + 2 * i, "%02x", digest[i]);
  for (int i = 0; i < KEYS; i++) add(command, "llmpool:{%s}:%s", tag, parts[i]);
}

static void add_limit(command_t *command, const llmpool_lease_limit_t *limit) {
  add(command, "%u", limit->unit);
  add(command, "%u", limit->told);
  const uint64_t whole[] = {limit->amount, limit->window_ms, limit->capacity};
  const int64_t may_be_negative[] = {limit->held, limit->spent};
  const uint64_t wanted[] = {limit->wanted_high, limit->wanted, limit->wanted_low, limit->least, limit->expected};
  for (int i = 0; i < 3; i++) add(command, "%llu", (unsigned long long)whole[i]);
  for (int i = 0; i < 2; i++) add(command, "%lld", (long long)may_be_negative[i]);
  for (int i = 0; i < 5; i++) add(command, "%llu", (unsigned long long)wanted[i]);
  add(command, "%lld", (long long)limit->remaining);
}

static void add_demand(command_t *command, const char *verb, const fleet_t *fleet, const char *budget,
                       const llmpool_lease_t *lease, const llmpool_lease_limit_t *limits, uint32_t count) {
  add(command, "%s", verb);
  add(command, "%s", fleet->member);
  add(command, "0"); /* the time: the server's */
  add(command, LEASE_MS);
  add(command, "%s", budget);
  uint64_t most = lease->max_concurrent == UINT64_MAX ? 0 : lease->max_concurrent;
  const uint64_t common[] = {lease->sequence, lease->in_flight,  lease->waiting,
                             most,            lease->stopped_ms, lease->members};
  for (int i = 0; i < 6; i++) add(command, "%llu", (unsigned long long)common[i]);
  for (uint32_t i = 0; i < count; i++) add_limit(command, &limits[i]);
}

/* ---- the store */

/* Whether there is a connection; what takes longer than 250 ms has failed. */
static int is_connected(fleet_t *fleet) {
  const struct timeval patience = {.tv_usec = 250000};
  if (fleet->redis && !fleet->redis->err) return 1;
  if (fleet->redis) redisFree(fleet->redis);
  fleet->redis = redisConnectWithTimeout(fleet->host, fleet->port, patience);
  if (!fleet->redis || fleet->redis->err) return 0;
  redisSetTimeout(fleet->redis, patience);
  return 1;
}

static int load(fleet_t *fleet) {
  redisReply *reply = redisCommand(fleet->redis, "SCRIPT LOAD %s", fleet->script);
  int is_loaded = reply && reply->type == REDIS_REPLY_STRING && reply->len == 40;
  if (is_loaded) memcpy(fleet->sha, reply->str, 41);
  freeReplyObject(reply);
  return is_loaded;
}

/* What the script says; NULL: the store does not answer. */
static redisReply *evaluate(fleet_t *fleet, const char *verb, const char *budget, const llmpool_lease_t *lease,
                            const llmpool_lease_limit_t *limits, uint32_t count) {
  for (int attempt = 0; attempt < 2; attempt++) {
    if (!is_connected(fleet) || (!fleet->sha[0] && !load(fleet))) return NULL;
    command_t command = {0};
    add(&command, "EVALSHA");
    add(&command, "%s", fleet->sha);
    add(&command, "%d", KEYS);
    add_keys(&command, budget);
    add_demand(&command, verb, fleet, budget, lease, limits, count);
    redisReply *reply = redisCommandArgv(fleet->redis, command.count, command.texts, NULL);
    if (reply && reply->type != REDIS_REPLY_ERROR) return reply;
    if (reply && strncmp(reply->str, "NOSCRIPT", 8) != 0) fprintf(stderr, "store: %s\n", reply->str);
    fleet->sha[0] = 0;
    freeReplyObject(reply);
  }
  return NULL;
}

/* ---- leases */

static void ask(fleet_t *fleet, const char *budget) {
  llmpool_lease_t lease = {.size = sizeof lease};
  llmpool_lease_limit_t limits[LIMITS];
  uint32_t count;
  if (llmpool_budget_demand(fleet->pool, budget, &lease, limits, sizeof *limits, LIMITS, &count) != LLMPOOL_OK) return;
  redisReply *reply = evaluate(fleet, "ask", budget, &lease, limits, count);
  if (reply && reply->type == REDIS_REPLY_ARRAY && reply->elements == 4 + 2 * count) {
    lease.valid_ms = (uint32_t)reply->element[0]->integer;
    lease.members = (uint64_t)reply->element[1]->integer;
    lease.places = (uint64_t)reply->element[2]->integer; /* -1, any number, is UINT64_MAX */
    lease.stopped_ms = (uint64_t)reply->element[3]->integer;
    for (uint32_t i = 0; i < count; i++) {
      limits[i].amount = (uint64_t)reply->element[4 + 2 * i]->integer;
      limits[i].granted = (uint64_t)reply->element[5 + 2 * i]->integer;
    }
    llmpool_budget_grant(fleet->pool, budget, &lease, limits, sizeof *limits, count);
  } /* else the safe share is spent, and the library wants a lease again after a second */
  freeReplyObject(reply);
}

/* Gives back what is held, so that others need not wait for the end of the lease. */
static void leave(fleet_t *fleet, const char *budget) {
  llmpool_lease_t lease = {.size = sizeof lease};
  llmpool_lease_limit_t limits[LIMITS];
  uint32_t count;
  if (llmpool_budget_demand(fleet->pool, budget, &lease, limits, sizeof *limits, LIMITS, &count) != LLMPOOL_OK) return;
  freeReplyObject(evaluate(fleet, "leave", budget, &lease, limits, count));
}

static void *run(void *argument) {
  fleet_t *fleet = argument;
  struct pollfd news = {.fd = llmpool_queue_fd(fleet->queue), .events = POLLIN};
  llmpool_event_t events[16];
  for (;;) {
    poll(&news, 1, -1);
    int32_t count = llmpool_queue_drain(fleet->queue, events, sizeof *events, 16, 0);
    if (count < 0) return NULL; /* it was closed */
    for (int32_t i = 0; i < count; i++) ask(fleet, events[i].data);
    if (count > 0) llmpool_events_release(events, sizeof *events, (uint32_t)count);
  }
}

/* ---- the program */

static char *contents(const char *path) {
  FILE *file = fopen(path, "r");
  if (!file) return NULL;
  char *text = calloc(1, 1 << 20);
  size_t size = fread(text, 1, (1 << 20) - 1, file);
  fclose(file);
  text[size] = 0;
  return text;
}

static int join(fleet_t *fleet, char **arguments, pthread_t *thread) {
  uint32_t number;
  fleet->host = arguments[1];
  fleet->port = atoi(arguments[2]);
  fleet->script = contents(arguments[3]);
  if (!fleet->script || getrandom(&number, sizeof number, 0) != sizeof number) return 0;
  char machine[64] = "";
  gethostname(machine, sizeof machine - 1);
  snprintf(fleet->member, sizeof fleet->member, "%s/%d/%08x", machine, (int)getpid(), number);
  llmpool_share_t share = {.size = sizeof share, .safe_share = 0.125};
  return llmpool_shared(&fleet->pool) == LLMPOOL_OK && llmpool_queue_open(NULL, &fleet->queue) == LLMPOOL_OK &&
         llmpool_watch(fleet->pool, fleet->queue, LLMPOOL_NOTICE_LEASE_WANTED, 0) == LLMPOOL_OK &&
         llmpool_budget_share(fleet->pool, NULL, &share) == LLMPOOL_OK && !pthread_create(thread, NULL, run, fleet);
}

static int call(fleet_t *fleet, const char *budget, const char *url) {
  llmpool_event_t done;
  const char *key = getenv("OPENAI_API_KEY");
  char headers[512];
  snprintf(headers, sizeof headers, "authorization: Bearer %s\r\n", key ? key : "");
  llmpool_request_t request = {.size = sizeof request, .url = url, .budget = budget};
  request.headers = headers;
  request.headers_size = strlen(headers);
  llmpool_status_t status = llmpool_perform(fleet->pool, &request, &done, sizeof done, NULL);
  if (status != LLMPOOL_OK) return fprintf(stderr, "%s\n", llmpool_last_error()), 0;
  int is_good = done.status == LLMPOOL_OK && done.http_status < 400;
  if (!is_good) fprintf(stderr, "HTTP %u %s\n", done.http_status, done.message ? done.message : "");
  llmpool_events_release(&done, sizeof done, 1);
  return is_good;
}

int main(int count, char **arguments) {
  if (count < 7) return fprintf(stderr, "usage: %s HOST PORT SCRIPT BUDGET URL COUNT\n", arguments[0]), 2;
  static fleet_t fleet;
  pthread_t thread;
  if (!join(&fleet, arguments, &thread)) return fprintf(stderr, "%s: %s\n", arguments[3], llmpool_last_error()), 1;

  const char *budget = arguments[4];
  llmpool_budget_t options = {.size = sizeof options};
  llmpool_limit_t limits[] = {{.unit = LLMPOOL_UNIT_REQUESTS, .amount = 1200, .window_ms = 60000}};
  llmpool_budget_configure(fleet.pool, budget, &options, limits, sizeof *limits, 1);
  int good = 0, total = atoi(arguments[6]);
  for (int i = 0; i < total; i++) good += call(&fleet, budget, arguments[5]);
  printf("%d of %d requests under the budget %s\n", good, total, budget);

  llmpool_queue_close(fleet.queue);
  pthread_join(thread, NULL);
  leave(&fleet, budget);
  if (fleet.redis) redisFree(fleet.redis);
  free(fleet.script);
  return good != total;
}
