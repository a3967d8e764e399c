/* check.c - see check.h. */
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

#define TEST_SECONDS_MAX 60
#define LONG_TEST_SECONDS_MAX 3000

jmp_buf check_escape;
static pthread_t test_thread;
static const char *test_name = "";
static int passed, failed;

void check_failed(const char *file, int line, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "%s:%d: in %s: ", file, line, test_name);
  vfprintf(stderr, format, arguments);
  fprintf(stderr, "\n");
  va_end(arguments);
  if (pthread_equal(pthread_self(), test_thread)) longjmp(check_escape, 1);
  _exit(1);
}

static void too_slow(int signal_number) {
  (void)signal_number;
  static const char text[] = "a test hangs: ";
  ssize_t unused = write(2, text, sizeof text - 1);
  unused = write(2, test_name, strlen(test_name));
  unused = write(2, "\n", 1);
  (void)unused;
  _exit(1);
}

static void run_within(const char *name, void (*test)(void), int seconds) {
  const char *only = getenv("TEST_ONLY");
  if (only && strcmp(only, name) != 0) return;
  test_thread = pthread_self();
  test_name = name;
  signal(SIGALRM, too_slow);
  alarm((unsigned)(seconds * check_slower()));
  if (setjmp(check_escape) == 0) {
    test();
    passed++;
    printf("ok     %s\n", name);
  } else {
    failed++;
    printf("FAILED %s\n", name);
  }
  fflush(stdout);
  alarm(0);
}

void check_run(const char *name, void (*test)(void)) {
  run_within(name, test, TEST_SECONDS_MAX);
}

void check_run_long(const char *name, void (*test)(void)) {
  run_within(name, test, check_is_long() ? LONG_TEST_SECONDS_MAX : TEST_SECONDS_MAX);
}

int check_is_long(void) {
  const char *wanted = getenv("LLMPOOL_LONG_TESTS");
  return wanted && strcmp(wanted, "1") == 0;
}

int check_slower(void) {
  const char *factor = getenv("TEST_SLOWER");
  return factor ? atoi(factor) : 1;
}

int check_report(void) {
  printf("%d passed, %d failed\n", passed, failed);
  fflush(stdout);
  return failed == 0 && passed > 0 ? 0 : 1;
}

void check_sleep_ms(int milliseconds) {
  struct timespec time = {milliseconds / 1000, (milliseconds % 1000) * 1000000L};
  nanosleep(&time, NULL);
}

int64_t check_now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}
