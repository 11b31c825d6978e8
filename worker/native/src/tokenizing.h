// Ends tokenising that nobody waits for any more. llama.cpp asks in its long loops, see
// worker/native/compat/tokenizer.h.
#pragma once

#include "request.h"
#include "tokenizer_hooks.h"

namespace rbee {

// While it lives, tokenising on this thread throws TokenizingStopped once the flag is set.
class TokenizingCancel {
 public:
  explicit TokenizingCancel(const CancelFlag& flag) : outer_(tokenizer_hooks) {
    tokenizer_hooks.canceled = [](const void* asked) {
      return static_cast<const CancelFlag*>(asked)->load(std::memory_order_relaxed) != StopReason::none;
    };
    tokenizer_hooks.flag = &flag;
  }
  ~TokenizingCancel() { tokenizer_hooks = outer_; }
  TokenizingCancel(const TokenizingCancel&) = delete;
  TokenizingCancel& operator=(const TokenizingCancel&) = delete;

 private:
  const TokenizerHooks outer_;
};

} // namespace rbee
