/*
 * lp_gate.h - the words of the gate (Gate.swift): its state, and a place for each thread that ever came to it. They are
 * here because they need thread-local storage and atomics on raw memory; what they mean is decided there.
 */
#ifndef LLMPOOL_LP_GATE_H
#define LLMPOOL_LP_GATE_H

#include "lp_engine.h"

#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* A GNU extension that is not seen without _GNU_SOURCE. */
int dup3(int old_descriptor, int new_descriptor, int flags);

/* A thread's place. Never freed: threads come and go, and one place serves one after the other. */
struct lp_place {
  uint32_t inside;     /* its thread is inside the gate; who waits for it to leave sleeps on this word */
  uint32_t taken;      /* by a thread that lives */
  uint32_t depth;      /* how often its thread has entered and not yet left */
  uint32_t is_ours;    /* the thread is the library's own */
  uint32_t is_forking; /* the thread has closed the gate */
  uint32_t pin;        /* held while sleeps_on is looked at */
  uint32_t *sleeps_on;
  sigset_t signals; /* as they were before it closed the gate */
  struct lp_place *next;
};

/* One cache line for each, so that threads do not disturb one another. Taken, by whoever makes it. All in C: in a build
 * without optimisation Swift would ask its runtime what a place is, under a lock that no fork waits for, as the thread
 * is not inside yet. */
static inline struct lp_place *lp_place_make(void) {
  size_t size = (sizeof(struct lp_place) + 63) & ~(size_t)63;
  struct lp_place *place = (struct lp_place *)aligned_alloc(64, size);
  if (!place) return NULL;
  memset(place, 0, size);
  place->taken = 1;
  return place;
}

/* In system.c. Each lock looks at the first: initial-exec makes that two instructions instead of a call, for eight
 * bytes of the room that the C library keeps for such variables of libraries that are loaded later. */
extern _Thread_local struct lp_place *lp_thread_place __attribute__((tls_model("initial-exec"), visibility("hidden")));
extern struct lp_place *lp_places __attribute__((visibility("hidden")));
extern uint32_t lp_gate __attribute__((visibility("hidden")));
extern uint32_t lp_forks __attribute__((visibility("hidden")));

/* Of the calling thread; NULL: none yet. */
static inline struct lp_place *lp_own_place(void) {
  return lp_thread_place;
}
static inline void lp_set_own_place(struct lp_place *place) {
  lp_thread_place = place;
}
static inline struct lp_place *lp_first_place(void) {
  return __atomic_load_n(&lp_places, __ATOMIC_SEQ_CST);
}
static inline void lp_add_place(struct lp_place *place) {
  place->next = lp_first_place();
  while (!__atomic_compare_exchange_n(&lp_places, &place->next, place, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
    continue;
}

static inline uint32_t lp_gate_state(void) {
  return __atomic_load_n(&lp_gate, __ATOMIC_SEQ_CST);
}
static inline void lp_gate_set(uint32_t state) {
  __atomic_store_n(&lp_gate, state, __ATOMIC_SEQ_CST);
  lp_futex_wake(&lp_gate, INT32_MAX);
}
/* 1 where it was as expected. */
static inline int lp_gate_change(uint32_t expected, uint32_t state) {
  return __atomic_compare_exchange_n(&lp_gate, &expected, state, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
/* From closed, and only from there: it may have ended meanwhile. Who waits is woken after, by which time another fork
 * may have closed it again. */
static inline void lp_gate_reopen(uint32_t closed, uint32_t open) {
  if (lp_gate_change(closed, open)) lp_futex_wake(&lp_gate, INT32_MAX);
}
static inline void lp_gate_wait(uint32_t expected, int64_t timeout_ns) {
  lp_futex_wait(&lp_gate, expected, timeout_ns);
}

/* How many forks led to this process. */
static inline uint32_t lp_fork_count(void) {
  return __atomic_load_n(&lp_forks, __ATOMIC_RELAXED);
}
static inline void lp_count_fork(void) {
  __atomic_add_fetch(&lp_forks, 1, __ATOMIC_RELAXED);
}

static inline void lp_place_set_inside(struct lp_place *place, uint32_t inside) {
  (void)__atomic_exchange_n(&place->inside, inside, __ATOMIC_SEQ_CST);
}
static inline uint32_t lp_place_inside(const struct lp_place *place) {
  return __atomic_load_n(&place->inside, __ATOMIC_SEQ_CST);
}
static inline void lp_place_wait(const struct lp_place *place, int64_t timeout_ns) {
  lp_futex_wait(&place->inside, 1, timeout_ns);
}
static inline void lp_place_wake(const struct lp_place *place) {
  lp_futex_wake(&place->inside, INT32_MAX);
}
static inline int lp_place_take(struct lp_place *place) {
  uint32_t expected = 0;
  return __atomic_compare_exchange_n(&place->taken, &expected, 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}
static inline void lp_place_give_back(struct lp_place *place) {
  __atomic_store_n(&place->taken, 0, __ATOMIC_RELEASE);
}
/* Both return the depth that there was before. */
static inline uint32_t lp_place_deepen(struct lp_place *place) {
  return place->depth++;
}
static inline uint32_t lp_place_rise(struct lp_place *place) {
  return place->depth--;
}
static inline void lp_place_sleep_on(struct lp_place *place, uint32_t *word) {
  while (__atomic_exchange_n(&place->pin, 1, __ATOMIC_SEQ_CST) != 0)
    continue;
  place->sleeps_on = word;
  __atomic_store_n(&place->pin, 0, __ATOMIC_SEQ_CST);
}
/* Ends the sleep of the place's thread, also one that is only about to begin. */
static inline void lp_place_end_sleep(struct lp_place *place) {
  while (__atomic_exchange_n(&place->pin, 1, __ATOMIC_SEQ_CST) != 0)
    continue;
  if (place->sleeps_on != NULL) {
    lp_atomic_increment(place->sleeps_on);
    lp_futex_wake(place->sleeps_on, INT32_MAX);
  }
  __atomic_store_n(&place->pin, 0, __ATOMIC_SEQ_CST);
}
/* In a forked child, of a thread that does not exist there. */
static inline void lp_place_clear(struct lp_place *place) {
  struct lp_place *next = place->next;
  memset(place, 0, sizeof *place);
  place->next = next;
}

/* Waits until the descriptor is readable, or the other one is, which means the end: then ECANCELED. */
static inline int lp_wait_readable_or_end(int descriptor, int end, int64_t timeout_ns) {
  struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
  struct pollfd readable[2] = {{descriptor, POLLIN, 0}, {end, POLLIN, 0}};
  int count = ppoll(readable, end < 0 ? 1 : 2, timeout_ns < 0 ? NULL : &timeout, NULL);
  if (count < 0) return errno;
  if (count == 0) return ETIMEDOUT;
  return readable[0].revents != 0 ? 0 : ECANCELED;
}

/* Takes the place of a descriptor that must not be used any more: its number stays in use and means nothing. */
static inline void lp_deaden(int descriptor, int dead) {
  (void)dup3(dead, descriptor, O_CLOEXEC);
}

/* Which file a descriptor means, 62 bits; 0: none. Eventfds and epolls are all the same file. */
static inline uint64_t lp_file(int descriptor) {
  struct stat information;
  if (fstat(descriptor, &information) != 0) return 0;
  uint64_t file = (uint64_t)information.st_ino + (uint64_t)information.st_dev * UINT64_C(0x9E3779B97F4A7C15);
  return (file & (UINT64_MAX >> 2)) | 1;
}

/* What is readable once the process ends: a socket, as each is a file of its own. */
static inline int lp_end_open(void) {
  return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}
static inline void lp_end_signal(int descriptor) {
  (void)shutdown(descriptor, SHUT_RD);
}

/* Of the C library, for destructors of thread-local objects in C++: they run before those of pthread keys. */
extern int __cxa_thread_atexit_impl(void (*destructor)(void *), void *object, void *library);
extern void *__dso_handle __attribute__((visibility("hidden")));
static inline void lp_at_thread_end(void (*destructor)(void *)) {
  (void)__cxa_thread_atexit_impl(destructor, NULL, &__dso_handle);
}

/* ---- forks ----
 * The handlers are there from the moment the library is loaded: who forks while another thread makes the first call of
 * all waits for it, and finds either nothing or everything done. In system.c. */
typedef void (*lp_hook)(void);
/* Calls `prepare` once, which nobody forks beside, and from then on the hooks: before a fork, after it in the parent,
 * and in the child. */
__attribute__((visibility("hidden"))) void lp_install(lp_hook prepare, lp_hook before, lp_hook parent, lp_hook child);

#endif
