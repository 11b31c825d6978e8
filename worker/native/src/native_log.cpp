#include "native_log.h"

#include "llama.h"
#include "log.h"
#include "printable.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>

namespace rbee {

namespace {

constexpr size_t max_error_chars = 2000;
constexpr size_t max_line_bytes = 4000;

// Loading happens on one thread from start to end, so its errors can be told from those of other threads.
thread_local std::string errors;
thread_local ggml_log_level last_level = GGML_LOG_LEVEL_NONE;
thread_local bool is_muted = false;
// Bytes of the line that this thread has begun and not ended.
thread_local size_t line_bytes = 0;

// Part of a line, without what ends it.
std::string printable_piece(const std::string& text) {
  const size_t end = text.find_last_not_of('\n');
  return printable(end == std::string::npos ? "" : text.substr(0, end + 1),
                   max_line_bytes - std::min(line_bytes, max_line_bytes));
}

void on_log(ggml_log_level level, const char* text, void* /*user_data*/) {
  if (level != GGML_LOG_LEVEL_CONT) {
    last_level = level;
  }
  if (is_muted || last_level < GGML_LOG_LEVEL_WARN || last_level == GGML_LOG_LEVEL_CONT) {
    return;
  }
  // The context is shared by all slots, so it may be larger than one sequence ever gets.
  if (std::strstr(text, "possible training context overflow") != nullptr) return;
  const std::string piece = printable_piece(text);
  const bool ends = text[0] != '\0' && text[std::strlen(text) - 1] == '\n';
  // In one call, so that the lines of other threads come before or after it.
  std::fputs((ends ? piece + '\n' : piece).c_str(), stderr);
  line_bytes = ends ? 0 : line_bytes + piece.size();
  if (last_level != GGML_LOG_LEVEL_ERROR || errors.size() >= max_error_chars) {
    return;
  }
  if (!errors.empty() && level != GGML_LOG_LEVEL_CONT) {
    errors += "; ";
  }
  errors += piece;
}

} // namespace

void install_log() {
  llama_log_set(on_log, nullptr);
  // common writes to stdout from a thread of its own, prompts included; an engine has nothing to say there.
  common_log_set_verbosity_thold(LOG_LEVEL_OUTPUT - 1);
}

void log_line(const std::string& text) {
  std::fputs((printable(text, max_line_bytes) + '\n').c_str(), stderr);
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
