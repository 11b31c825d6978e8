// A model's context: its KV cache, compute buffers and threads.
#pragma once

#include "ggml-cpu.h"
#include "model.h"

#include <cstddef>
#include <functional>
#include <memory>

namespace rbee {

struct EngineOptions {
  int slots = 4;
  int ctx_size = 0; // tokens per slot; 0: what the model was trained for, at most 4096
  int threads = 0;  // 0: the machine's physical cores; one for very small models
};

// Bytes that llama.cpp allocated.
struct MemoryUse {
  size_t weights = 0;
  size_t kv = 0;
  size_t compute = 0;
};

class Context {
 public:
  // Creates the context and decodes one token with it, so that ready means ready. `should_abort` is asked
  // again and again while a step is computed, on the thread that computes; backends other than the CPU do not
  // ask. Throws EngineError: INVALID_REQUEST, INVALID_MODEL, INSUFFICIENT_RAM.
  Context(Model& model, const EngineOptions& options, int step_tokens, std::function<bool()> should_abort);
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  llama_context* get() const { return context_.get(); }
  // Tokens that one slot may hold.
  int slot_tokens() const { return slot_tokens_; }
  // Tokens that one step may have.
  int step_tokens() const { return step_tokens_; }
  MemoryUse memory() const;

 private:
  using ThreadPool = std::unique_ptr<ggml_threadpool, void (*)(ggml_threadpool*)>;

  static ThreadPool make_thread_pool(int threads);
  void warm_up(const llama_vocab* vocab);

  std::function<bool()> should_abort_;
  int slot_tokens_;
  int step_tokens_;
  ThreadPool thread_pool_;
  llama_context_ptr context_; // last: it uses all the others until it is gone
};

} // namespace rbee
