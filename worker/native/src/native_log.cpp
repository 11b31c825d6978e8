#include "native_log.h"

#include "llama.h"
#include "log.h"

#include <cstdio>
#include <cstring>
#include <string>

namespace rbee {

namespace {

constexpr size_t max_error_chars = 2000;

// Loading happens on one thread from start to end, so its errors can be told from those of other threads.
thread_local std::string errors;
thread_local ggml_log_level last_level = GGML_LOG_LEVEL_NONE;
thread_local bool is_muted = false;

void on_log(ggml_log_level level, const char* text, void* /*user_data*/) {
  if (level != GGML_LOG_LEVEL_CONT) {
    last_level = level;
  }
  if (is_muted || last_level < GGML_LOG_LEVEL_WARN || last_level == GGML_LOG_LEVEL_CONT) {
    return;
  }
  // The context is shared by all slots, so it may be larger than one sequence ever gets.
  if (std::strstr(text, "possible training context overflow") != nullptr) return;
  std::fputs(text, stderr);
  if (last_level != GGML_LOG_LEVEL_ERROR || errors.size() >= max_error_chars) {
    return;
  }
  if (!errors.empty() && level != GGML_LOG_LEVEL_CONT) {
    errors += "; ";
  }
  errors += text;
  while (!errors.empty() && errors.back() == '\n') {
    errors.pop_back();
  }
}

} // namespace

void install_log() {
  llama_log_set(on_log, nullptr);
  // common writes to stdout from a thread of its own, prompts included; an engine has nothing to say there.
  common_log_set_verbosity_thold(LOG_LEVEL_OUTPUT - 1);
}

void mute_log(bool muted) {
  is_muted = muted;
}

void clear_log_errors() {
  errors.clear();
}

std::string log_errors() {
  return errors;
}

} // namespace rbee
