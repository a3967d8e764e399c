/* lp_status.h - the statuses of llmpool.h as functions: their one table is a macro. */
#ifndef LLMPOOL_LP_STATUS_H
#define LLMPOOL_LP_STATUS_H

#include "llmpool.h"

static inline const char *lp_status_name(int32_t status) {
  switch (status) {
#define X(name, value, message)                                                                                        \
  case value:                                                                                                          \
    return "LLMPOOL_" #name;
    LLMPOOL_STATUS_MAP(X)
#undef X
  }
  return "LLMPOOL_E_UNKNOWN";
}

static inline const char *lp_status_message(int32_t status) {
  switch (status) {
#define X(name, value, message)                                                                                        \
  case value:                                                                                                          \
    return message;
    LLMPOOL_STATUS_MAP(X)
#undef X
  }
  return "unknown status";
}

#endif
