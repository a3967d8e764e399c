/*
 * test_abi.c - what the library says of its errors and of itself. Sizes, offsets and values, on which compiled programs
 * rely as well, are held by scripts/abi.
 */
#include "check.h"
#include "llmpool.h"

static void test_status_texts(void) {
#define X(name, value, message)                                                                                        \
  CHECK_STR(llmpool_status_name(value), "LLMPOOL_" #name);                                                             \
  CHECK_STR(llmpool_status_message(value), message);
  LLMPOOL_STATUS_MAP(X)
#undef X
}

static void test_unknown_statuses_have_texts(void) {
  const llmpool_status_t unknown[] = {1, 7, -8, -19, -89, -91, -1000, INT32_MAX, INT32_MIN};
  for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
    CHECK(llmpool_status_name(unknown[i]) != NULL && llmpool_status_name(unknown[i])[0] != 0);
    CHECK(llmpool_status_message(unknown[i]) != NULL && llmpool_status_message(unknown[i])[0] != 0);
  }
}

static void test_version(void) {
  CHECK_EQ(llmpool_version(), LLMPOOL_VERSION_MAJOR << 16 | LLMPOOL_VERSION_MINOR << 8 | LLMPOOL_VERSION_PATCH);
}

static void test_last_error_is_never_null(void) {
  CHECK(llmpool_last_error() != NULL);
  CHECK(llmpool_open(NULL, NULL) != LLMPOOL_OK);
  CHECK(llmpool_last_error()[0] != 0);
}

int main(void) {
  RUN(test_status_texts);
  RUN(test_unknown_statuses_have_texts);
  RUN(test_version);
  RUN(test_last_error_is_never_null);
  return check_report();
}
