#include "embedder.h"

#include "abort_guard.h"
#include "batch.h"
#include "errors.h"
#include "native_log.h"

#include <algorithm>

namespace rbee {

namespace {

// Texts of one call: each costs memory for its output, whether it is there or not.
constexpr int max_texts = 64;

struct Pooling {
  const char* name;
  enum llama_pooling_type type;
};

constexpr Pooling poolings[] = {
    {"auto", LLAMA_POOLING_TYPE_UNSPECIFIED}, {"none", LLAMA_POOLING_TYPE_NONE},
    {"mean", LLAMA_POOLING_TYPE_MEAN},        {"cls", LLAMA_POOLING_TYPE_CLS},
    {"last", LLAMA_POOLING_TYPE_LAST},        {"rank", LLAMA_POOLING_TYPE_RANK},
};

enum llama_pooling_type pooling_named(const std::string& name) {
  for (const Pooling& pooling : poolings) {
    if (name == pooling.name) return pooling.type;
  }
  throw EngineError("INVALID_REQUEST",
                    "pooling is \"" + name + "\"; expected auto, none, mean, cls, last or rank.");
}

llama_flash_attn_type flash_attention_named(const std::string& name) {
  if (name == "on") return LLAMA_FLASH_ATTN_TYPE_ENABLED;
  return name == "off" ? LLAMA_FLASH_ATTN_TYPE_DISABLED : LLAMA_FLASH_ATTN_TYPE_AUTO;
}

} // namespace

Embedder::Embedder(std::unique_ptr<Model> model, const EmbedderOptions& options)
    : model_(std::move(model)), context_tokens_(checked_ctx_size(*model_, options.ctx_size)),
      thread_pools_(make_thread_pools(*model_, options.threads)) {
  if (llama_model_has_encoder(model_->get()) && llama_model_has_decoder(model_->get())) {
    throw EngineError("INVALID_MODEL", "This model translates; it cannot make embeddings.");
  }
  clear_log_errors();
  const AbortGuard guard;
  llama_context_params params = llama_context_default_params();
  // A text has to be computed in one step where its tokens attend to those behind them.
  params.n_ctx = static_cast<uint32_t>(context_tokens_);
  params.n_batch = params.n_ctx;
  params.n_ubatch = params.n_ctx;
  params.n_seq_max = max_texts;
  params.kv_unified = true;
  params.embeddings = true;
  params.pooling_type = pooling_named(options.pooling);
  params.flash_attn_type = flash_attention_named(options.flash_attention);
  params.no_perf = true;
  params.n_threads = threads_for_rows(*model_, options.threads);
  params.n_threads_batch = params.n_threads;
  context_.reset(llama_init_from_model(model_->get(), params));
  if (!context_) {
    throw EngineError("INSUFFICIENT_RAM", "The context of " + std::to_string(context_tokens_) +
                                              " tokens cannot be created: " + log_errors());
  }
  llama_attach_threadpool(context_.get(), thread_pools_.rows.get(), thread_pools_.rows.get());
}

int Embedder::batch() const {
  return max_texts;
}

int Embedder::width() const {
  if (llama_pooling_type(context_.get()) == LLAMA_POOLING_TYPE_RANK) {
    return std::max(1, static_cast<int>(llama_model_n_cls_out(model_->get())));
  }
  return llama_model_n_embd_out(model_->get());
}

const char* Embedder::pooling() const {
  const enum llama_pooling_type type = llama_pooling_type(context_.get());
  for (const Pooling& pooling : poolings) {
    if (pooling.type == type) return pooling.name;
  }
  return "none";
}

std::vector<std::vector<float>> Embedder::embed(const std::vector<std::vector<llama_token>>& texts) {
  const std::lock_guard<std::mutex> lock(one_at_a_time_);
  size_t total = 0;
  for (const auto& text : texts) {
    if (text.empty()) throw EngineError("INVALID_REQUEST", "A text has no tokens for this model.");
    total += text.size();
  }
  if (total > static_cast<size_t>(context_tokens_) || texts.size() > max_texts) {
    throw EngineError("INVALID_REQUEST", "The texts have " + std::to_string(total) +
                                             " tokens, too large for the context of " +
                                             std::to_string(context_tokens_) + ".");
  }
  if (texts.empty()) return {};
  clock_.begin(static_cast<int>(total));
  try {
    auto results = compute(texts, static_cast<int>(total));
    clock_.end();
    clock_.wait();
    return results;
  } catch (...) {
    clock_.wait();
    throw;
  }
}

std::vector<std::vector<float>> Embedder::compute(const std::vector<std::vector<llama_token>>& texts,
                                                  int total) {
  Batch batch(total);
  for (size_t i = 0; i < texts.size(); i++) {
    for (size_t position = 0; position < texts[i].size(); position++) {
      batch.add(texts[i][position], static_cast<llama_pos>(position), static_cast<llama_seq_id>(i), true);
    }
  }
  // What an earlier call left would be attended to.
  if (llama_memory_t memory = llama_get_memory(context_.get())) llama_memory_clear(memory, true);
  const int status = llama_decode(context_.get(), batch);
  if (status != 0) {
    throw EngineError("INTERNAL", "The embeddings cannot be computed: " + log_errors(), status);
  }
  std::vector<std::vector<float>> results;
  int row = 0;
  for (size_t i = 0; i < texts.size(); i++) {
    const int rows = static_cast<int>(texts[i].size());
    results.push_back(result_of(static_cast<int>(i), row, rows));
    row += rows;
  }
  return results;
}

std::vector<float> Embedder::result_of(int sequence, int first_row, int rows) const {
  const auto values = [this](const float* begin) {
    if (begin == nullptr) throw EngineError("INTERNAL", "The model gave no embedding.");
    return std::vector<float>(begin, begin + width());
  };
  if (llama_pooling_type(context_.get()) != LLAMA_POOLING_TYPE_NONE) {
    return values(llama_get_embeddings_seq(context_.get(), sequence));
  }
  std::vector<float> all;
  for (int row = first_row; row < first_row + rows; row++) {
    const std::vector<float> one = values(llama_get_embeddings_ith(context_.get(), row));
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

} // namespace rbee
