/*
 * check.h - the whole test framework: a check that fails ends its test, RUN() says which one, report() counts.
 * A check that fails on another thread than the test's own ends the program, since nobody would join it.
 */
#ifndef LLMPOOL_TEST_CHECK_H
#define LLMPOOL_TEST_CHECK_H

#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern jmp_buf check_escape;

void check_failed(const char *file, int line, const char *format, ...) __attribute__((noreturn, format(printf, 3, 4)));
/* Runs one test; TEST_ONLY in the environment, if set, names the one to run. */
void check_run(const char *name, void (*test)(void));
void check_run_long(const char *name, void (*test)(void));
/* Prints the counts; the value is the exit status of the program. */
int check_report(void);

#define RUN(test) check_run(#test, test)
/* For one that takes its time where check_is_long(). */
#define RUN_LONG(test) check_run_long(#test, test)

#define CHECK(condition)                                                                                               \
  do {                                                                                                                 \
    if (!(condition)) check_failed(__FILE__, __LINE__, "%s", #condition);                                              \
  } while (0)

#define CHECK_EQ(actual, expected)                                                                                     \
  do {                                                                                                                 \
    long long actual_ = (long long)(actual), expected_ = (long long)(expected);                                        \
    if (actual_ != expected_)                                                                                          \
      check_failed(__FILE__, __LINE__, "%s is %lld, expected %s = %lld", #actual, actual_, #expected, expected_);      \
  } while (0)

#define CHECK_STR(actual, expected)                                                                                    \
  do {                                                                                                                 \
    const char *actual_ = (actual), *expected_ = (expected);                                                           \
    if (actual_ == NULL || strcmp(actual_, expected_) != 0)                                                            \
      check_failed(__FILE__, __LINE__, "%s is \"%s\", expected \"%s\"", #actual, actual_ ? actual_ : "(null)",         \
                   expected_);                                                                                         \
  } while (0)

/* A status, shown by name, with what the library says about the failure. */
#define CHECK_STATUS(actual, expected)                                                                                 \
  do {                                                                                                                 \
    llmpool_status_t actual_ = (llmpool_status_t)(actual), expected_ = (expected);                                     \
    if (actual_ != expected_)                                                                                          \
      check_failed(__FILE__, __LINE__, "%s is %s (last error: %s), expected %s", #actual,                              \
                   llmpool_status_name(actual_), llmpool_last_error(), llmpool_status_name(expected_));                \
  } while (0)

#define CHECK_OK(call) CHECK_STATUS(call, LLMPOOL_OK)

/* The call is refused and llmpool_last_error() names the field. */
#define CHECK_REFUSED(call, status, field)                                                                             \
  do {                                                                                                                 \
    CHECK_STATUS(call, status);                                                                                        \
    if (strstr(llmpool_last_error(), (field)) == NULL)                                                                 \
      check_failed(__FILE__, __LINE__, "after %s the last error \"%s\" does not name %s", #call, llmpool_last_error(), \
                   (field));                                                                                           \
  } while (0)

/* Waits up to ten seconds for what another thread is about to make true. */
#define CHECK_SOON(condition)                                                                                          \
  do {                                                                                                                 \
    int waits_ = 0;                                                                                                    \
    while (!(condition)) {                                                                                             \
      if (++waits_ > 2000 * check_slower()) check_failed(__FILE__, __LINE__, "still not: %s", #condition);             \
      check_sleep_ms(5);                                                                                               \
    }                                                                                                                  \
  } while (0)

void check_sleep_ms(int milliseconds);
int64_t check_now_ms(void);
/* How many times slower than usual this run may be: TEST_SLOWER in the environment, for leak checkers; 1. */
int check_slower(void);
/* LLMPOOL_LONG_TESTS=1 in the environment: the whole of what otherwise takes some seconds. */
int check_is_long(void);

#endif
