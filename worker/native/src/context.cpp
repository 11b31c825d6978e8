#include "context.h"

#include "abort_guard.h"
#include "errors.h"
#include "native_log.h"

#include "common.h"
#include "llama-ext.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

namespace rbee {

namespace {

// ggml names buffers that lie where a file is mapped "CPU_Mapped", "MTL0_Mapped", ….
bool is_mapped(ggml_backend_buffer_type_t type) {
  return std::string(ggml_backend_buft_name(type)).find("_Mapped") != std::string::npos;
}

constexpr int default_ctx_size = 4096;

// Weights of models for which one thread computes a token best: a step takes less time than bringing threads
// together does, and threads that wait for each other spin, which JavaScript and HTTP pay for. Many rows are
// worth a second one: a prompt of ten tokens is read 1.2 to 1.4 times as fast. Measured with the story
// models.
constexpr uint64_t small_model_bytes = 16 * 1000 * 1000;
constexpr int small_model_threads = 2;

// On the CPU flash attention costs more for every position than it saves where heads are small: with 8 and 32
// values a head, decoding 400 tokens is 1.6 and 1.4 times as fast without it, with 64 it is 0.8 times as fast
// (llama-bench, -fa 0,1; stories260K-F32, rbee-stories-1.4M-Q8_0, and the shape of TinyLlama 1.1B in Q4_0).
constexpr int small_head_size = 32;

// Rows that are always free for prompts and guesses, however many slots generate.
constexpr int spare_rows = 32;

// Where in a saved sequence the number of caches stands.
constexpr size_t streams_at = 2 * sizeof(uint32_t);

int head_size(const Model& model) {
  const int heads = llama_model_n_head(model.get());
  return heads > 0 ? llama_model_n_embd(model.get()) / heads : 0;
}

EngineError invalid_option(const std::string& what) {
  return {"INVALID_REQUEST", what};
}

bool has_small_heads(const Model& model) {
  const int head = head_size(model);
  return !model.on_gpu() && head > 0 && head <= small_head_size;
}

ggml_type cache_type_for(const Model& model, const std::string& name) {
  // Halves are converted one by one where heads are small: F32 decodes stories260K 1.2 times as fast.
  if (name == "auto") return has_small_heads(model) ? GGML_TYPE_F32 : GGML_TYPE_F16;
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q5_1,
                               GGML_TYPE_Q5_0, GGML_TYPE_Q4_1, GGML_TYPE_Q4_0, GGML_TYPE_IQ4_NL}) {
    if (name != ggml_type_name(type)) continue;
    const int head = head_size(model);
    if (head % ggml_blck_size(type) != 0) {
      throw invalid_option("cache_type " + name + " packs " + std::to_string(ggml_blck_size(type)) +
                           " values, this model's heads have " + std::to_string(head) + ".");
    }
    return type;
  }
  throw invalid_option("cache_type is \"" + name +
                       "\"; expected auto, f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0 or iq4_nl.");
}

llama_flash_attn_type flash_attention_for(const Model& model, const EngineOptions& options, ggml_type cache) {
  if (options.flash_attention == "on") return LLAMA_FLASH_ATTN_TYPE_ENABLED;
  if (options.flash_attention == "off") {
    if (ggml_is_quantized(cache)) {
      throw invalid_option("cache_type " + options.cache_type + " needs flash attention, which is off.");
    }
    return LLAMA_FLASH_ATTN_TYPE_DISABLED;
  }
  if (options.flash_attention != "auto") {
    throw invalid_option("flash_attention is \"" + options.flash_attention + "\"; expected auto, on or off.");
  }
  if (ggml_is_quantized(cache)) return LLAMA_FLASH_ATTN_TYPE_ENABLED;
  return has_small_heads(model) ? LLAMA_FLASH_ATTN_TYPE_DISABLED : LLAMA_FLASH_ATTN_TYPE_AUTO;
}

// Whether weights lie in the buffers of ggml's AMX kernels.
bool uses_tiles(const llama_context* context) {
  for (const auto& [type, data] : llama_get_memory_breakdown(context)) {
    if (data.model > 0 && std::strcmp(ggml_backend_buft_name(type), "AMX") == 0) return true;
  }
  return false;
}

bool is_small(const Model& model) {
  return llama_model_size(model.get()) < small_model_bytes;
}

// Looked up by name because the CPU backend may be a plugin.
ThreadPool make_thread_pool(int threads) {
  ggml_backend_reg_t registry =
      ggml_backend_dev_backend_reg(ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU));
  const auto create = reinterpret_cast<decltype(&ggml_threadpool_new)>(
      ggml_backend_reg_get_proc_address(registry, "ggml_threadpool_new"));
  const auto destroy = reinterpret_cast<decltype(&ggml_threadpool_free)>(
      ggml_backend_reg_get_proc_address(registry, "ggml_threadpool_free"));
  ggml_threadpool_params params = ggml_threadpool_params_default(threads);
  return ThreadPool(create(&params), destroy);
}

} // namespace

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

int threads_for_rows(const Model& model, int wanted) {
  if (wanted > 0) return wanted;
  const int cores = common_cpu_get_num_physical_cores();
  return is_small(model) ? std::min(cores, small_model_threads) : cores;
}

namespace {

int threads_for_row(const Model& model, int wanted) {
  return wanted == 0 && is_small(model) ? 1 : threads_for_rows(model, wanted);
}

} // namespace

// Two pools where the numbers differ: a thread of a pool that has nothing to do in a step is woken all the
// same. llama.cpp parks the one that it does not use.
ThreadPools make_thread_pools(const Model& model, int wanted) {
  const int row = threads_for_row(model, wanted);
  const int rows = threads_for_rows(model, wanted);
  ThreadPools pools{make_thread_pool(rows), nullptr};
  pools.row = row == rows ? pools.rows : make_thread_pool(row);
  return pools;
}

MemoryUse memory_use(const llama_context* context) {
  MemoryUse use;
  size_t mapped = 0;
  for (const auto& [type, data] : llama_get_memory_breakdown(context)) {
    use.weights += data.model;
    use.kv += data.context;
    use.compute += data.compute;
    if (is_mapped(type)) mapped += data.model;
  }
  // What the CPU's kernels keep in a layout of their own is a copy, and its part of the file can be given up.
  const size_t copied = use.weights - mapped;
  use.mapped = mapped > copied ? mapped - copied : 0;
  return use;
}

Context::Context(Model& model, const EngineOptions& options, std::function<bool()> should_abort,
                 const ThreadPools* threads)
    : should_abort_(std::move(should_abort)), slot_tokens_(checked_ctx_size(model, options.ctx_size)),
      cells_(slot_tokens_ * options.slots),
      // A CPU reads prompts as fast in steps of 128 rows as in larger ones, and in steps of 64 nearly so.
      step_limits_(model.on_gpu() ? StepLimits{512, 128, false} : StepLimits{128, 64, false}),
      thread_pools_(threads != nullptr ? *threads : make_thread_pools(model, options.threads)) {
  if (llama_model_has_encoder(model.get()) || !llama_model_has_decoder(model.get())) {
    throw EngineError("INVALID_MODEL", "This model has an encoder; it cannot continue text.");
  }
  clear_log_errors();
  const AbortGuard guard;
  const auto slots = static_cast<uint32_t>(options.slots);
  step_limits_.shared = std::max(step_limits_.shared, options.slots + spare_rows);
  capacity_ = std::max(step_limits_.alone, step_limits_.shared);
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<uint32_t>(cells_);
  params.n_batch = static_cast<uint32_t>(capacity_);
  params.n_ubatch = params.n_batch;
  params.n_seq_max = slots;
  // Only the last token of each sequence and guesses need logits. Rounded up, because the compute buffer is
  // laid out by this number: with any that is no multiple of 32, ggml's AMX kernels read a prompt 1.5 times
  // as slowly.
  constexpr uint32_t output_rows = 32;
  params.n_outputs_max = (slots + max_draft_tokens + output_rows - 1) / output_rows * output_rows;
  params.n_outputs_max_per_seq = 1; // counts for samplers on the device only
  params.type_k = cache_type_for(model, options.cache_type);
  params.type_v = params.type_k;
  // In a common cache every step attends to the cells of all slots, which makes eight streams of stories260K
  // four times as slow; but one of them may use what the others leave.
  params.kv_unified = options.kv_unified;
  if (options.kv_unified) {
    const int trained = llama_model_n_ctx_train(model.get());
    slot_tokens_ = trained > 0 ? std::min(cells_, std::max(trained, slot_tokens_)) : cells_;
  }
  params.flash_attn_type = flash_attention_for(model, options, params.type_k);
  params.no_perf = true;
  params.n_threads = threads_for_row(model, options.threads);
  params.n_threads_batch = threads_for_rows(model, options.threads);
  context_.reset(llama_init_from_model(model.get(), params));
  if (!context_) {
    throw EngineError("INSUFFICIENT_RAM", "The context of " + std::to_string(options.slots) + " slots with " +
                                              std::to_string(slot_tokens_) +
                                              " tokens each cannot be created: " + log_errors());
  }
  step_limits_.tiles = uses_tiles(context_.get());
  streams_ = options.kv_unified ? 1 : slots;
  plain_memory_ = !model.recurrent() && llama_model_n_swa(model.get()) == 0;
  llama_attach_threadpool(context_.get(), thread_pools_.row.get(), thread_pools_.rows.get());
  warm_up(model.get());
  // Only now: the owner, whom it asks, is still being made.
  llama_set_abort_callback(
      context_.get(), [](void* self) { return static_cast<const Context*>(self)->should_abort_(); }, this);
}

// llama.cpp writes a mark, the sequence's id, the number of caches side by side, and for each of them a count
// of cells and what they hold: for all but the sequence's own nothing. Without those empty ones it does not
// matter how many slots there were.
std::vector<uint8_t> Context::save_sequence(llama_seq_id sequence) const {
  std::vector<uint8_t> saved(llama_state_seq_get_size(context_.get(), sequence));
  saved.resize(llama_state_seq_get_data(context_.get(), saved.data(), saved.size(), sequence));
  if (!plain_memory_ || streams_ == 1) return saved;
  constexpr size_t counts = streams_at + sizeof(uint32_t);
  const size_t before = sizeof(uint32_t) * static_cast<size_t>(sequence);
  const size_t after = sizeof(uint32_t) * (streams_ - 1) - before;
  if (saved.size() <= counts + before + after) return {};
  saved.resize(saved.size() - after);
  const auto own = saved.begin() + counts;
  saved.erase(own, own + static_cast<std::ptrdiff_t>(before));
  const uint32_t one = 1;
  std::memcpy(saved.data() + streams_at, &one, sizeof(one));
  return saved;
}

bool Context::restore_sequence(llama_seq_id sequence, std::vector<uint8_t> saved, size_t tokens) {
  uint32_t saved_streams = 0;
  if (saved.size() <= streams_at + sizeof(saved_streams)) return false;
  std::memcpy(&saved_streams, saved.data() + streams_at, sizeof(saved_streams));
  if (plain_memory_ && saved_streams == 1) {
    std::memcpy(saved.data() + streams_at, &streams_, sizeof(streams_));
    saved.resize(saved.size() + sizeof(uint32_t) * (streams_ - 1), 0);
  }
  const size_t read = llama_state_seq_set_data(context_.get(), saved.data(), saved.size(), sequence);
  const llama_pos last = llama_memory_seq_pos_max(llama_get_memory(context_.get()), sequence);
  return read == saved.size() && last == static_cast<llama_pos>(tokens) - 1;
}

// One token decoded and forgotten: brings the weights into memory and finds a model that cannot compute
// before anybody waits for it. Also shows how a saved sequence looks.
void Context::warm_up(const llama_model* model) {
  const llama_vocab* vocab = llama_model_get_vocab(model);
  const llama_token begin = llama_vocab_bos(vocab);
  llama_token token = begin != LLAMA_TOKEN_NULL ? begin : 0;
  const auto start = std::chrono::steady_clock::now();
  const int status = llama_decode(context_.get(), llama_batch_get_one(&token, 1));
  if (status != 0) {
    throw EngineError("INVALID_MODEL",
                      "The model cannot compute: llama_decode gave status " + std::to_string(status) + ". " +
                          log_errors(),
                      status);
  }
  const float* logits = llama_get_logits_ith(context_.get(), 0);
  warm_up_ms_ = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  if (!std::all_of(logits, logits + llama_vocab_n_tokens(vocab),
                   [](float logit) { return std::isfinite(logit); })) {
    throw EngineError("INVALID_MODEL", "The model computes values that are no numbers; its file is damaged.");
  }
  const bool recurrent = llama_model_is_recurrent(model) && !llama_model_is_hybrid(model);
  if (plain_memory_ || recurrent) state_format_ = StateFormat::learn(save_sequence(0), recurrent);
  llama_memory_clear(llama_get_memory(context_.get()), true);
}

} // namespace rbee
