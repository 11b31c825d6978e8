// Speculative decoding: several tokens are guessed, one step computes them all, and those that the sampler
// would have chosen itself are kept. Guesses come from the answer's own history (prompt lookup) or from a
// draft model.
#pragma once

#include "context.h"
#include "governor.h"
#include "model.h"
#include "speculative.h"

#include <memory>
#include <vector>

namespace rbee {

enum class Speculation { off, automatic, on };

// The last tokens that must have occurred before for what followed them to be a guess. Prose repeats three of
// them all the time and goes on differently; eight are a copy.
constexpr int weak_evidence = 3;
constexpr int strong_evidence = 8;

// What followed the last occurrence of the last `evidence` tokens of `history` and `last`; maybe empty.
llama_tokens draft_from_history(const llama_tokens& history, llama_token last, int length, int evidence);

// A small model that guesses what the large one will say. Follows all its sequences.
class DraftModel {
 public:
  // Throws EngineError INVALID_MODEL when the vocabularies differ, and what Model and Context throw.
  DraftModel(std::unique_ptr<Model> model, const Context& target, const EngineOptions& options);

  // Computes what the target computed. On failure nothing more is guessed.
  void follow(const llama_batch& batch);
  // Forgets a sequence behind its first `keep` tokens.
  void forget(llama_seq_id sequence, size_t keep);
  llama_tokens draft(llama_seq_id sequence, const llama_tokens& history, llama_token last, int length);
  MemoryUse memory() const { return context_.memory(); }

 private:
  std::unique_ptr<Model> model_;
  Context context_;
  common_speculative_ptr speculative_;
};

} // namespace rbee
