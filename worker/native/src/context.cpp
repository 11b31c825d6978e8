#include "context.h"

#include "abort_guard.h"
#include "errors.h"
#include "native_log.h"

#include "common.h"
#include "llama-ext.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

namespace rbee {

namespace {

constexpr int default_ctx_size = 4096;

// Weights of models that one thread computes best: a step takes less time than bringing threads together
// does, and threads that wait for each other spin, which JavaScript and HTTP pay for. Measured with the story
// models.
constexpr uint64_t one_thread_bytes = 16 * 1000 * 1000;

// On the CPU flash attention costs more for every position than it saves where heads are small: with 8 and 32
// values a head, decoding 400 tokens is 1.6 and 1.4 times as fast without it, with 64 it is 0.8 times as fast
// (llama-bench, -fa 0,1; stories260K-F32, rbee-stories-1.4M-Q8_0, and the shape of TinyLlama 1.1B in Q4_0).
constexpr int small_head_size = 32;

llama_flash_attn_type flash_attention_for(const Model& model) {
  const int heads = llama_model_n_head(model.get());
  const bool small = heads > 0 && llama_model_n_embd(model.get()) / heads <= small_head_size;
  return small && !model.on_gpu() ? LLAMA_FLASH_ATTN_TYPE_DISABLED : LLAMA_FLASH_ATTN_TYPE_AUTO;
}

int checked_ctx_size(const Model& model, int wanted) {
  const int trained = llama_model_n_ctx_train(model.get());
  if (wanted == 0) return trained > 0 ? std::min(trained, default_ctx_size) : default_ctx_size;
  if (trained > 0 && wanted > trained && !model.recurrent()) {
    throw EngineError("INVALID_REQUEST", "ctx_size is " + std::to_string(wanted) +
                                             ", this model was trained for " + std::to_string(trained) +
                                             " tokens.");
  }
  return wanted;
}

int threads_for(const Model& model, int wanted) {
  if (wanted > 0) return wanted;
  return llama_model_size(model.get()) < one_thread_bytes ? 1 : common_cpu_get_num_physical_cores();
}

} // namespace

Context::Context(Model& model, const EngineOptions& options, int step_tokens,
                 std::function<bool()> should_abort)
    : should_abort_(std::move(should_abort)), slot_tokens_(checked_ctx_size(model, options.ctx_size)),
      step_tokens_(std::max(step_tokens, options.slots)),
      thread_pool_(make_thread_pool(threads_for(model, options.threads))) {
  if (llama_model_has_encoder(model.get()) || !llama_model_has_decoder(model.get())) {
    throw EngineError("INVALID_MODEL", "This model has an encoder; it cannot continue text.");
  }
  clear_log_errors();
  const AbortGuard guard;
  const auto slots = static_cast<uint32_t>(options.slots);
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<uint32_t>(slot_tokens_) * slots;
  params.n_batch = static_cast<uint32_t>(step_tokens_);
  params.n_ubatch = params.n_batch;
  params.n_seq_max = slots;
  // Only the last token of each sequence needs logits. Rounded up, because the compute buffer is laid out by
  // this number: with any that is no multiple of 32, ggml's AMX kernels read a prompt 1.5 times as slowly.
  constexpr uint32_t output_rows = 32;
  params.n_outputs_max = (slots + output_rows - 1) / output_rows * output_rows;
  params.n_outputs_max_per_seq = 1;
  // A cache for each slot: in a common one every step attends to the cells of all slots, which makes eight
  // streams of stories260K four times as slow.
  params.kv_unified = false;
  params.flash_attn_type = flash_attention_for(model);
  params.no_perf = true;
  params.n_threads = threads_for(model, options.threads);
  params.n_threads_batch = params.n_threads;
  context_.reset(llama_init_from_model(model.get(), params));
  if (!context_) {
    throw EngineError("INSUFFICIENT_RAM", "The context of " + std::to_string(options.slots) + " slots with " +
                                              std::to_string(slot_tokens_) +
                                              " tokens each cannot be created: " + log_errors());
  }
  llama_attach_threadpool(context_.get(), thread_pool_.get(), nullptr);
  warm_up(model.vocab());
  // Only now: the owner, whom it asks, is still being made.
  llama_set_abort_callback(
      context_.get(), [](void* self) { return static_cast<const Context*>(self)->should_abort_(); }, this);
}

MemoryUse Context::memory() const {
  MemoryUse use;
  for (const auto& [type, data] : llama_get_memory_breakdown(context_.get())) {
    use.weights += data.model;
    use.kv += data.context;
    use.compute += data.compute;
  }
  return use;
}

// ggml without a pool makes new threads for every step. Looked up by name because the CPU backend may be a
// plugin.
Context::ThreadPool Context::make_thread_pool(int threads) {
  ggml_backend_reg_t registry =
      ggml_backend_dev_backend_reg(ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU));
  const auto create = reinterpret_cast<decltype(&ggml_threadpool_new)>(
      ggml_backend_reg_get_proc_address(registry, "ggml_threadpool_new"));
  const auto destroy = reinterpret_cast<decltype(&ggml_threadpool_free)>(
      ggml_backend_reg_get_proc_address(registry, "ggml_threadpool_free"));
  ggml_threadpool_params params = ggml_threadpool_params_default(threads);
  return ThreadPool(create(&params), destroy);
}

// One token decoded and forgotten: brings the weights into memory and finds a model that cannot compute
// before anybody waits for it.
void Context::warm_up(const llama_vocab* vocab) {
  const llama_token begin = llama_vocab_bos(vocab);
  llama_token token = begin != LLAMA_TOKEN_NULL ? begin : 0;
  const int status = llama_decode(context_.get(), llama_batch_get_one(&token, 1));
  if (status != 0) {
    throw EngineError("INVALID_MODEL",
                      "The model cannot compute: llama_decode gave status " + std::to_string(status) + ". " +
                          log_errors(),
                      status);
  }
  const float* logits = llama_get_logits_ith(context_.get(), 0);
  if (!std::all_of(logits, logits + llama_vocab_n_tokens(vocab),
                   [](float logit) { return std::isfinite(logit); })) {
    throw EngineError("INVALID_MODEL", "The model computes values that are no numbers; its file is damaged.");
  }
  llama_memory_clear(llama_get_memory(context_.get()), true);
}

} // namespace rbee
