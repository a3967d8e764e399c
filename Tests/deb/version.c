/* The version of llmpool that this program's calls reach, and that of a library beside it (other.c). */
#include <llmpool.h>
#include <stdio.h>

uint32_t other_version(void);

static void print(uint32_t version, const char *end) {
  printf("%u.%u.%u%s", version >> 16, version >> 8 & 0xff, version & 0xff, end);
}

int main(void) {
  print(llmpool_version(), " ");
  print(other_version(), "\n");
  return 0;
}
