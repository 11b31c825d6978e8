// A model that makes embeddings of texts, or scores of pairs of them, instead of continuing them.
#pragma once

#include "context.h"
#include "model.h"
#include "step_clock.h"

#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace rbee {

struct EmbedderOptions {
  bool wanted = false;                  // also of a model that could continue text
  int ctx_size = 0;                     // tokens of one text; 0: as for answers
  int threads = 0;                      // 0: the machine's physical cores
  std::string pooling = "auto";         // none, mean, cls, last, rank, or the model's own
  std::string flash_attention = "auto"; // auto, on or off
};

class Embedder {
 public:
  // Creates the context. Throws EngineError: INVALID_REQUEST, INVALID_MODEL, INSUFFICIENT_RAM.
  Embedder(std::unique_ptr<Model> model, const EmbedderOptions& options);

  const Model& model() const { return *model_; }
  // Tokens that the texts of one call may have, together and each.
  int context() const { return context_tokens_; }
  // Texts that one call may have.
  int batch() const;
  // Values of one embedding.
  int width() const;
  // What is made of a text's tokens: none, mean, cls, last or rank.
  const char* pooling() const;
  MemoryUse memory() const { return memory_use(context_.get()); }
  Heartbeat heartbeat() const { return clock_.heartbeat(); }

  // One text's embedding after the other, each `width()` values, not normalised; without pooling that many
  // for each token; of a ranking model the scores of its classes. Blocks while it computes; one call at a
  // time, others wait. Throws EngineError: INVALID_REQUEST, INTERNAL.
  std::vector<std::vector<float>> embed(const std::vector<std::vector<llama_token>>& texts);

 private:
  // Nothing has been measured yet: a second for each token.
  static constexpr double assumed_row_ms = 1000;

  std::vector<std::vector<float>> compute(const std::vector<std::vector<llama_token>>& texts, int total);
  std::vector<float> result_of(int sequence, int first_row, int rows) const;

  std::unique_ptr<Model> model_;
  int context_tokens_;
  ThreadPools thread_pools_;
  std::mutex one_at_a_time_;
  StepClock clock_{assumed_row_ms};
  llama_context_ptr context_; // last: it uses all the others until it is gone
};

} // namespace rbee
