/* system.c - what the headers of this directory cannot hold: variables. */
#include "lp_system.h"

static _Thread_local struct lp_place *own_place;
static struct lp_place *first_place;
static uint32_t gate;

struct lp_place *lp_own_place(void) {
  return own_place;
}
void lp_set_own_place(struct lp_place *place) {
  own_place = place;
}
struct lp_place *lp_first_place(void) {
  return __atomic_load_n(&first_place, __ATOMIC_SEQ_CST);
}
void lp_add_place(struct lp_place *place) {
  place->next = lp_first_place();
  while (!__atomic_compare_exchange_n(&first_place, &place->next, place, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
    continue;
}
uint32_t *lp_gate_word(void) {
  return &gate;
}
