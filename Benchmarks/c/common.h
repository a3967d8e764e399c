/* What every client of the benchmark shares: the clock, CPU of the process, percentiles, the line of JSON at the end.
 */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static inline double now_us(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (double)at.tv_sec * 1e6 + (double)at.tv_nsec / 1e3;
}

/* CPU of the process, all threads, user and system. */
static inline double cpu_us(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
         (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static inline void die(const char *what) {
  fprintf(stderr, "bench: %s\n", what);
  exit(1);
}

static inline int compare_floats(const void *left, const void *right) {
  float a = *(const float *)left, b = *(const float *)right;
  return (a > b) - (a < b);
}

typedef struct {
  float *latency_us; /* of each measured request */
  long count, warm;  /* measured, and before that */
  double wall0, cpu0, wall_us, cpu_us;
} measure_t;

static inline void measure_open(measure_t *measure, long capacity) {
  memset(measure, 0, sizeof *measure);
  measure->latency_us = calloc((size_t)capacity, sizeof(float));
  if (measure->latency_us == NULL) die("out of memory");
}

static inline void measure_start(measure_t *measure) {
  measure->wall0 = now_us();
  measure->cpu0 = cpu_us();
}

static inline void measure_stop(measure_t *measure) {
  measure->cpu_us = cpu_us() - measure->cpu0;
  measure->wall_us = now_us() - measure->wall0;
}

static inline double percentile(const measure_t *measure, double share) {
  long index = (long)(share * (double)(measure->count - 1) + 0.5);
  return measure->count == 0 ? 0 : (double)measure->latency_us[index];
}

static inline void measure_print(measure_t *measure) {
  qsort(measure->latency_us, (size_t)measure->count, sizeof(float), compare_floats);
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  printf("{\"count\": %ld, \"total\": %ld, \"cpu_us\": %.3f, \"per_second\": %.1f, \"p50_us\": %.1f, \"p90_us\": %.1f, "
         "\"p99_us\": %.1f, \"max_rss_kb\": %ld, \"switches\": %ld}\n",
         measure->count, measure->count + measure->warm, measure->cpu_us / (double)measure->count,
         (double)measure->count / measure->wall_us * 1e6, percentile(measure, 0.5), percentile(measure, 0.9),
         percentile(measure, 0.99), usage.ru_maxrss, usage.ru_nvcsw + usage.ru_nivcsw);
}

#endif
