/* A program that knows nothing of the source tree. */
#include <llmpool.h>
#include <stdio.h>

int main(void) {
  llmpool_options_t options;
  llmpool_t *pool;
  if (llmpool_options_init(&options, sizeof options) != LLMPOOL_OK) return 1;
  if (llmpool_open(&options, &pool) != LLMPOOL_OK) return 2;
  if (llmpool_close(pool, 0) != LLMPOOL_OK) return 3;
  printf("llmpool %x\n", llmpool_version());
  return llmpool_version() == (LLMPOOL_VERSION_MAJOR << 16 | LLMPOOL_VERSION_MINOR << 8 | LLMPOOL_VERSION_PATCH) ? 0
                                                                                                                 : 4;
}
