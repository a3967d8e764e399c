/* lp_memory.h - memory for nghttp2. For each request it takes and gives back the same few small blocks, all of a batch
 * one after the other: malloc keeps seven of a size at hand, and the rest goes a long way. Here free blocks wait in
 * lists, by size, for one thread at a time. */
#ifndef LLMPOOL_LP_MEMORY_H
#define LLMPOOL_LP_MEMORY_H

#include "lp_libraries.h"

#include <nghttp2/nghttp2.h>
#include <stdint.h>

enum { LP_BLOCK_STEP = 64, LP_BLOCK_KINDS = 8, LP_BLOCKS_KEPT = 128 };

struct lp_block;
struct lp_memory {
  struct lp_block *free[LP_BLOCK_KINDS];
  uint32_t count[LP_BLOCK_KINDS];
};

/* What sessions are made with, all of which must end before the memory does. */
nghttp2_mem lp_memory_of_sessions(struct lp_memory *memory);
/* Gives back what is free. */
void lp_memory_end(struct lp_memory *memory);

#endif
