/* system.c - what the headers of this directory cannot hold: variables. */
#include "lp_system.h"

_Thread_local struct lp_place *lp_thread_place;
struct lp_place *lp_places;
uint32_t lp_gate;
uint32_t lp_forks;
