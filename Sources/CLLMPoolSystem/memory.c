#include "lp_memory.h"

#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define LP_BLOCKS_ARE_MALLOCS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LP_BLOCKS_ARE_MALLOCS 1
#endif
#endif
#ifndef LP_BLOCKS_ARE_MALLOCS
#define LP_BLOCKS_ARE_MALLOCS 0 /* 1: AddressSanitizer sees each */
#endif

/* Before the bytes that nghttp2 has. */
struct lp_block {
  _Alignas(16) struct lp_block *next;
  uint32_t kind; /* LP_BLOCK_KINDS: too large for a list */
};

static struct lp_block *block_of(void *bytes) {
  return (struct lp_block *)bytes - 1;
}

static size_t room_of(uint32_t kind) {
  return (size_t)(kind + 1) * LP_BLOCK_STEP - sizeof(struct lp_block);
}

static void *take(size_t size, void *user) {
  struct lp_memory *memory = user;
  if (size > SIZE_MAX - sizeof(struct lp_block)) return NULL;
  size_t whole = size + sizeof(struct lp_block);
  uint32_t kind = LP_BLOCK_KINDS;
  if (!LP_BLOCKS_ARE_MALLOCS && whole <= (size_t)LP_BLOCK_KINDS * LP_BLOCK_STEP) {
    kind = (uint32_t)((whole - 1) / LP_BLOCK_STEP);
    whole = (size_t)(kind + 1) * LP_BLOCK_STEP;
    struct lp_block *free = memory->free[kind];
    if (free) {
      memory->free[kind] = free->next;
      memory->count[kind]--;
      return free + 1;
    }
  }
  struct lp_block *block = malloc(whole);
  if (!block) return NULL;
  block->kind = kind;
  return block + 1;
}

static void give_back(void *bytes, void *user) {
  struct lp_memory *memory = user;
  if (!bytes) return;
  struct lp_block *block = block_of(bytes);
  uint32_t kind = block->kind;
  if (kind == LP_BLOCK_KINDS || memory->count[kind] == LP_BLOCKS_KEPT) {
    free(block);
    return;
  }
  block->next = memory->free[kind];
  memory->free[kind] = block;
  memory->count[kind]++;
}

static void *take_zeroed(size_t count, size_t size, void *user) {
  size_t sum;
  if (__builtin_mul_overflow(count, size, &sum)) return NULL;
  void *bytes = take(sum, user);
  return bytes ? memset(bytes, 0, sum) : NULL;
}

static void *take_again(void *bytes, size_t size, void *user) {
  if (!bytes) return take(size, user);
  struct lp_block *block = block_of(bytes);
  if (block->kind == LP_BLOCK_KINDS) {
    if (size > SIZE_MAX - sizeof *block) return NULL;
    block = realloc(block, size + sizeof *block);
    return block ? block + 1 : NULL;
  }
  size_t room = room_of(block->kind);
  if (size <= room) return bytes;
  void *larger = take(size, user);
  if (!larger) return NULL;
  memcpy(larger, bytes, room);
  give_back(bytes, user);
  return larger;
}

nghttp2_mem lp_memory_of_sessions(struct lp_memory *memory) {
  return (nghttp2_mem){.mem_user_data = memory,
                       .malloc = take,
                       .free = give_back,
                       .calloc = take_zeroed,
                       .realloc = take_again};
}

void lp_memory_end(struct lp_memory *memory) {
  for (int kind = 0; kind < LP_BLOCK_KINDS; kind++) {
    struct lp_block *next = memory->free[kind];
    while (next) {
      struct lp_block *block = next;
      next = block->next;
      free(block);
    }
  }
}
