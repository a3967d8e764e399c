/* Of a library of somebody's that uses llmpool: the pool that it sees. */
#include <llmpool.h>

llmpool_t *one_pool(void);

llmpool_t *one_pool(void) {
  llmpool_t *pool = NULL;
  return llmpool_shared(&pool) == LLMPOOL_OK ? pool : NULL;
}
