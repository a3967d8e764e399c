// The header in C++, with every warning an error.
#include <llmpool.h>

#include <string>

int main() {
  llmpool_request_t request{};
  request.size = sizeof request;
  return std::string(llmpool_status_name(LLMPOOL_E_TLS)) == "LLMPOOL_E_TLS" && llmpool_last_error() ? 0 : 1;
}
