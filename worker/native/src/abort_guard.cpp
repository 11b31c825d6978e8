#include "abort_guard.h"

#include "ggml.h"

#include <cstdio>
#include <stdexcept>

namespace rbee {

namespace {

thread_local bool guarded = false;

// Returning from here ends the process, as it would without us.
void on_abort(const char* message) {
  if (guarded) throw std::runtime_error(message);
  std::fprintf(stderr, "%s\n", message);
}

} // namespace

AbortGuard::AbortGuard() {
  ggml_set_abort_callback(on_abort);
  guarded = true;
}

AbortGuard::~AbortGuard() {
  guarded = false;
}

} // namespace rbee
