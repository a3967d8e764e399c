/* Of a library of somebody's: the version of llmpool that its calls reach. */
#include <llmpool.h>

uint32_t other_version(void);

uint32_t other_version(void) { return llmpool_version(); }
