/* lp_engine.h - futexes, atomics on raw memory, epoll constants, what an old nghttp2 has not. */
#ifndef LLMPOOL_LP_ENGINE_H
#define LLMPOOL_LP_ENGINE_H

#include "lp_libraries.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <nghttp2/nghttp2.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Waits while *word == expected; timeout_ns < 0: for ever. Returns 0 or an errno value. */
static inline int lp_futex_wait(const uint32_t *word, uint32_t expected, int64_t timeout_ns) {
  struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
  long result = syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout_ns < 0 ? NULL : &timeout, NULL, 0);
  return result == 0 ? 0 : errno;
}

static inline void lp_futex_wake(const uint32_t *word, int count) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

static inline uint32_t lp_atomic_load(const uint32_t *word) {
  return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}
static inline void lp_atomic_increment(uint32_t *word) {
  __atomic_add_fetch(word, 1, __ATOMIC_RELEASE);
}

/* A blank around a value is no fault. nghttp2 has the option since 1.50; before, it does not look for them. */
void lp_nghttp2_allow_blanks(nghttp2_option *option);

/* eventfd: its flags are enumerators of an anonymous enum. */
static inline int lp_eventfd(void) {
  return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}
static inline void lp_eventfd_signal(int descriptor) {
  (void)eventfd_write(descriptor, 1);
}
static inline void lp_eventfd_clear(int descriptor) {
  eventfd_t value;
  (void)eventfd_read(descriptor, &value);
}

/* A GNU extension that Swift does not see without _GNU_SOURCE. */
int ppoll(struct pollfd *descriptors, nfds_t count, const struct timespec *timeout, const sigset_t *mask);

/* Waits until the descriptor is readable; timeout_ns < 0: for ever. Returns 0, ETIMEDOUT or an errno. */
static inline int lp_wait_readable(int descriptor, int64_t timeout_ns) {
  struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
  struct pollfd readable = {descriptor, POLLIN, 0};
  int count = ppoll(&readable, 1, timeout_ns < 0 ? NULL : &timeout, NULL);
  return count > 0 ? 0 : count == 0 ? ETIMEDOUT : errno;
}

/* struct epoll_event is packed, and its data a union: both are easier from here. */
static inline int lp_epoll_control(int epoll, int operation, int descriptor, uint32_t events, uint64_t tag) {
  struct epoll_event event;
  event.events = events;
  event.data.u64 = tag;
  return epoll_ctl(epoll, operation, descriptor, &event);
}
static inline int lp_epoll_create(void) {
  return epoll_create1(EPOLL_CLOEXEC);
}
static inline uint64_t lp_epoll_tag(const struct epoll_event *event) {
  return event->data.u64;
}
static inline uint32_t lp_epoll_events(const struct epoll_event *event) {
  return event->events;
}
static const uint32_t LP_EPOLLIN = EPOLLIN, LP_EPOLLOUT = EPOLLOUT, LP_EPOLLRDHUP = EPOLLRDHUP, LP_EPOLLERR = EPOLLERR,
                      LP_EPOLLHUP = EPOLLHUP, LP_EPOLLET = (uint32_t)EPOLLET;

#endif
