/* harness.c - see harness.h. */
#include "harness.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define EVENT_SECONDS_MAX 10

llmpool_options_t harness_options(void) {
  llmpool_options_t options;
  CHECK_OK(llmpool_options_init(&options, sizeof options));
  options.proxy = "";
  return options;
}

llmpool_t *harness_pool(const llmpool_options_t *options) {
  llmpool_options_t defaults = harness_options();
  llmpool_t *pool = NULL;
  CHECK_OK(llmpool_open(options ? options : &defaults, &pool));
  CHECK(pool != NULL);
  return pool;
}

llmpool_queue_t *harness_queue(void) {
  llmpool_queue_t *queue = NULL;
  CHECK_OK(llmpool_queue_open(NULL, &queue));
  CHECK(queue != NULL);
  return queue;
}

llmpool_request_t harness_request(const char *url) {
  llmpool_request_t request = {.size = sizeof request, .url = url};
  return request;
}

llmpool_event_t harness_perform(llmpool_t *pool, const llmpool_request_t *request) {
  llmpool_event_t done;
  memset(&done, 0xa5, sizeof done); /* the library fills in every field */
  CHECK_OK(llmpool_perform(pool, request, &done, sizeof done, NULL));
  CHECK_EQ(done.kind, LLMPOOL_EVENT_DONE);
  return done;
}

llmpool_status_t harness_outcome(llmpool_t *pool, const llmpool_request_t *request) {
  llmpool_event_t done = harness_perform(pool, request);
  llmpool_status_t status = done.status;
  CHECK(status == LLMPOOL_OK || (done.message != NULL && done.message[0] != 0));
  harness_release(&done);
  return status;
}

uint64_t harness_submit(llmpool_t *pool, const llmpool_request_t *request, llmpool_queue_t *queue) {
  uint64_t id = 0;
  CHECK_OK(llmpool_submit(pool, request, queue, &id));
  CHECK(id != 0);
  return id;
}

llmpool_event_t harness_next(llmpool_queue_t *queue) {
  llmpool_event_t event;
  memset(&event, 0xa5, sizeof event);
  CHECK_EQ(llmpool_queue_drain(queue, &event, sizeof event, 1, EVENT_SECONDS_MAX * 1000 * check_slower()), 1);
  return event;
}

void harness_release(llmpool_event_t *event) {
  llmpool_events_release(event, sizeof *event, 1);
  CHECK(event->opaque == NULL);
}

llmpool_stats_t harness_stats(llmpool_t *pool) {
  llmpool_stats_t stats = {.size = sizeof stats};
  CHECK_OK(llmpool_stats(pool, NULL, &stats));
  CHECK_EQ(stats.submitted,
           stats.pending + stats.active + stats.backing_off + stats.succeeded + stats.failed + stats.cancelled);
  CHECK_EQ(stats.opened, stats.connecting + stats.in_use + stats.idle + stats.closed);
  return stats;
}

void harness_set_up(server_t **server, llmpool_t **pool, llmpool_queue_t **queue) {
  *server = server_start();
  *pool = harness_pool(NULL);
  *queue = harness_queue();
}

void harness_tear_down(server_t *server, llmpool_t *pool, llmpool_queue_t *queue) {
  llmpool_event_t event;
  CHECK_EQ(llmpool_queue_drain(queue, &event, sizeof event, 1, 0), 0);
  llmpool_stats_t stats = harness_stats(pool);
  CHECK_EQ(stats.pending + stats.active + stats.backing_off, 0);
  CHECK_EQ(stats.connecting + stats.in_use, 0);
  CHECK_OK(llmpool_queue_close(queue));
  CHECK_OK(llmpool_close(pool, 0));
  server_stop(server);
}

llmpool_t *harness_pool_h2(llmpool_options_t options) {
  options.http_versions = LLMPOOL_HTTP_2;
  return harness_pool(&options);
}

static int connects(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int connected = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
  close(fd);
  return connected;
}

/* Of a moment ago: nghttpd cannot choose one itself. */
static int free_port(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
  CHECK(getsockname(fd, (struct sockaddr *)&address, &size) == 0);
  close(fd);
  return ntohs(address.sin_port);
}

nghttpd_t *nghttpd_start(void) {
  const char *program = access("/usr/sbin/nghttpd", X_OK) == 0 ? "/usr/sbin/nghttpd" : "/usr/bin/nghttpd";
  if (access(program, X_OK) != 0) return NULL;
  nghttpd_t *nghttpd = calloc(1, sizeof *nghttpd);
  strcpy(nghttpd->directory, "/tmp/llmpool-test-XXXXXX");
  CHECK(mkdtemp(nghttpd->directory) != NULL);
  nghttpd_file(nghttpd, "types", "text/event-stream sse\n", 22);
  nghttpd->port = free_port();
  char port[8], types[100];
  snprintf(port, sizeof port, "%d", nghttpd->port);
  snprintf(types, sizeof types, "--mime-types-file=%s/types", nghttpd->directory);
  char *arguments[] = {
      (char *)program, "--no-tls", "--echo-upload", "-a", "127.0.0.1", "-d", nghttpd->directory, types, port, NULL};
  nghttpd->process = fork();
  if (nghttpd->process == 0) { /* it ends with this program, however that ends */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int null = open("/dev/null", O_RDWR);
    dup2(null, 1);
    dup2(null, 2);
    execv(program, arguments);
    _exit(127);
  }
  CHECK(nghttpd->process > 0);
  CHECK_SOON(connects(nghttpd->port));
  return nghttpd;
}

void nghttpd_file(nghttpd_t *nghttpd, const char *name, const void *bytes, size_t size) {
  char path[128];
  snprintf(path, sizeof path, "%s/%s", nghttpd->directory, name);
  FILE *file = fopen(path, "w");
  CHECK(file != NULL);
  CHECK_EQ(fwrite(bytes, 1, size, file), size);
  CHECK(fclose(file) == 0);
}

const char *nghttpd_url(const nghttpd_t *nghttpd, const char *path) {
  static char url[128];
  snprintf(url, sizeof url, "http://127.0.0.1:%d%s", nghttpd->port, path);
  return url;
}

void nghttpd_stop(nghttpd_t *nghttpd) {
  char command[128];
  kill(nghttpd->process, SIGTERM);
  waitpid(nghttpd->process, NULL, 0);
  snprintf(command, sizeof command, "rm -rf '%s'", nghttpd->directory);
  CHECK(system(command) == 0);
  free(nghttpd);
}
