#include "expect_test.h"

#include <cstdio>
#include <cstdlib>

static int failures = 0;

void expect(bool condition, const char* what, const std::string& got) {
  if (!condition) {
    std::printf("FAILED: %s; got \"%s\"\n", what, got.c_str());
    failures++;
  }
}

int failure_count() {
  return failures;
}

int main() {
  text_stream_tests();
  step_plan_tests();
  governor_tests();
  process_memory_tests();
  printable_tests();
  step_clock_tests();
#ifdef RBEE_LLAMA_FOLDER
  tokenizer_tests();
#endif
  sandbox_tests();
  std::printf("%d failures\n", failures);
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
