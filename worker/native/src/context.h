// A model's context: its KV cache, compute buffers and threads.
#pragma once

#include "ggml-cpu.h"
#include "model.h"
#include "state_format.h"
#include "step_plan.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace rbee {

struct EngineOptions {
  int slots = 4;
  int ctx_size = 0; // tokens per slot; 0: what the model was trained for, at most 4096
  int threads = 0;  // 0: the machine's physical cores; one for single tokens of very small models
  std::string cache_type = "auto";      // of keys and values in the KV cache, as ggml calls it
  std::string flash_attention = "auto"; // auto, on or off
  bool kv_unified = false;              // one cache that all slots share instead of one for each
  std::string draft_model;              // path of a small model that guesses ahead; empty: none
};

// Bytes that llama.cpp allocated.
struct MemoryUse {
  size_t weights = 0;
  size_t mapped =
      0; // of the weights, those used where the file is mapped: not copied, and not private memory
  size_t kv = 0;
  size_t compute = 0;
};

// Threads that compute. ggml without a pool makes new ones for every step.
using ThreadPool = std::shared_ptr<ggml_threadpool>;

// For steps of many rows (prompts, several answers) and for those of one; often the same pool.
struct ThreadPools {
  ThreadPool rows;
  ThreadPool row;
};

// `wanted` 0: the machine's physical cores, fewer for very small models.
int threads_for_rows(const Model& model, int wanted);
ThreadPools make_thread_pools(const Model& model, int wanted);

// `wanted` 0: what the model was trained for, at most 4096. Throws EngineError INVALID_REQUEST for more than
// that.
int checked_ctx_size(const Model& model, int wanted);

MemoryUse memory_use(const llama_context* context);

class Context {
 public:
  // Creates the context and decodes one token with it, so that ready means ready. `should_abort` is asked
  // again and again while a step is computed, on the thread that computes; backends other than the CPU do not
  // ask. `threads` are those of another context that never computes at the same time. Throws EngineError:
  // INVALID_REQUEST, INVALID_MODEL, INSUFFICIENT_RAM.
  Context(Model& model, const EngineOptions& options, std::function<bool()> should_abort,
          const ThreadPools* threads = nullptr);
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  llama_context* get() const { return context_.get(); }
  // Tokens that one slot may hold.
  int slot_tokens() const { return slot_tokens_; }
  // Tokens that all slots together may hold.
  int cells() const { return cells_; }
  // Rows that one step may have.
  int capacity() const { return capacity_; }
  const StepLimits& step_limits() const { return step_limits_; }
  const ThreadPools& thread_pools() const { return thread_pools_; }
  MemoryUse memory() const { return memory_use(get()); }
  // What the first step took, of one row.
  double warm_up_ms() const { return warm_up_ms_; }

  // What the memory holds of a sequence, as a context of the same model and cache type can take it over.
  std::vector<uint8_t> save_sequence(llama_seq_id sequence) const;
  // How a saved sequence looks; none: this model's cannot be checked, so it is not taken over.
  const std::optional<StateFormat>& state_format() const { return state_format_; }
  // Fills an empty sequence with what was saved of one of `tokens` tokens and fits `state_format`. Returns
  // false, and leaves anything in it, when there is no room.
  bool restore_sequence(llama_seq_id sequence, std::vector<uint8_t> saved, size_t tokens);

 private:
  void warm_up(const llama_model* model);

  std::function<bool()> should_abort_;
  int slot_tokens_;
  int cells_;
  uint32_t streams_ = 1; // caches side by side, one for each slot or one for all
  std::optional<StateFormat> state_format_;
  bool plain_memory_ = false; // attention over everything, no sliding window, no recurrent state
  int capacity_;
  StepLimits step_limits_;
  ThreadPools thread_pools_;
  double warm_up_ms_ = 0;
  llama_context_ptr context_; // last: it uses all the others until it is gone
};

} // namespace rbee
