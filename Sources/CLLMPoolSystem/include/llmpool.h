/* llmpool.h - where the C targets of a Swift program find it: SwiftPM has them look here. */
#include "../../../include/llmpool.h"
