// What llama.cpp's tokenisers, as they are built here, ask of whoever calls them.
#pragma once

#include <exception>

namespace rbee {

// Leaves llama_tokenize when the caller's flag says so.
class TokenizingStopped : public std::exception {
 public:
  const char* what() const noexcept override { return "tokenising was stopped."; }
};

struct TokenizerHooks {
  bool (*canceled)(const void* flag) = nullptr;
  const void* flag = nullptr;
  bool upstream = false; // as llama.cpp does it, for tests that compare
};

inline thread_local TokenizerHooks tokenizer_hooks;

// To be called in loops that follow the text; cheap.
inline void tokenizer_checkpoint() {
  constexpr unsigned calls_per_look = 1024;
  thread_local unsigned calls = 0;
  if (++calls % calls_per_look != 0 || tokenizer_hooks.canceled == nullptr) return;
  if (tokenizer_hooks.canceled(tokenizer_hooks.flag)) throw TokenizingStopped();
}

} // namespace rbee
