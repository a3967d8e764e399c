/* system.c - what the headers of this directory cannot hold: variables, and what runs when the library is loaded. */
#include "lp_system.h"

_Thread_local struct lp_place *lp_thread_place;
struct lp_place *lp_places;
uint32_t lp_gate;
uint32_t lp_forks;

static struct {
  lp_hook before, parent, child;
} hooks;
static uint32_t installed;
static pthread_mutex_t installing = PTHREAD_MUTEX_INITIALIZER;

void lp_install(lp_hook prepare, lp_hook before, lp_hook parent, lp_hook child) {
  if (__atomic_load_n(&installed, __ATOMIC_ACQUIRE)) return;
  sigset_t all, signals;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &signals); /* the handler of one might fork, or come here */
  pthread_mutex_lock(&installing);
  if (!installed) {
    prepare();
    hooks.before = before;
    hooks.parent = parent;
    hooks.child = child;
    __atomic_store_n(&installed, 1, __ATOMIC_RELEASE);
  }
  pthread_mutex_unlock(&installing);
  pthread_sigmask(SIG_SETMASK, &signals, NULL);
}

/* A fork before there is anything: `installing` is held until it is over. */
static int holds_installing;
static sigset_t signals_before_fork;

static void before_fork(void) {
  if (!__atomic_load_n(&installed, __ATOMIC_ACQUIRE)) {
    sigset_t all, signals;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &signals);
    pthread_mutex_lock(&installing);
    if (!installed) {
      holds_installing = 1;
      signals_before_fork = signals;
      return;
    }
    pthread_mutex_unlock(&installing);
    pthread_sigmask(SIG_SETMASK, &signals, NULL);
  }
  hooks.before();
}

static void after_fork(lp_hook hook) {
  if (!holds_installing) return hook();
  sigset_t signals = signals_before_fork;
  holds_installing = 0;
  pthread_mutex_unlock(&installing);
  pthread_sigmask(SIG_SETMASK, &signals, NULL);
}
static void after_fork_in_parent(void) {
  after_fork(hooks.parent);
}
static void after_fork_in_child(void) {
  after_fork(hooks.child);
}

__attribute__((constructor)) static void loaded(void) {
  pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

#pragma weak nghttp2_option_set_no_rfc9113_leading_and_trailing_ws_validation
void lp_nghttp2_allow_blanks(nghttp2_option *option) {
  if (!nghttp2_option_set_no_rfc9113_leading_and_trailing_ws_validation) return;
  nghttp2_option_set_no_rfc9113_leading_and_trailing_ws_validation(option, 1);
}
