#include "speculation.h"

#include "abort_guard.h"
#include "errors.h"
#include "native_log.h"

#include "ngram-map.h"

#include <algorithm>

namespace rbee {

llama_tokens draft_from_history(const llama_tokens& history, llama_token last, int length, int evidence) {
  if (length < min_draft_tokens) return {};
  // common takes no guess that is shorter than what it matched.
  const int wanted = std::max(length, evidence);
  llama_tokens draft = common_ngram_simple_draft(
      {static_cast<uint16_t>(evidence), static_cast<uint16_t>(wanted)}, history, last);
  if (draft.size() > static_cast<size_t>(length)) draft.resize(static_cast<size_t>(length));
  return draft;
}

DraftModel::DraftModel(std::unique_ptr<Model> model, const Context& target, const EngineOptions& options)
    : model_(std::move(model)), context_(
                                    *model_, options, [] { return false; }, &target.thread_pools()) {
  common_params_speculative params;
  params.types = {COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE};
  params.draft.n_max = max_draft_tokens;
  // Guesses that the small model itself doubts are not worth a row.
  params.draft.p_min = 0.5F;
  params.draft.ctx_tgt = target.get();
  params.draft.ctx_dft = context_.get();
  const AbortGuard guard;
  try {
    speculative_.reset(common_speculative_init(params, static_cast<uint32_t>(options.slots)));
  } catch (const std::exception& error) {
    throw EngineError("INVALID_MODEL", std::string("The draft model cannot be used: ") + error.what());
  }
}

void DraftModel::follow(const llama_batch& batch) {
  if (speculative_ && !common_speculative_process(speculative_.get(), batch)) {
    log_line("the draft model failed and is not used any more");
    speculative_.reset();
  }
}

void DraftModel::forget(llama_seq_id sequence, size_t keep) {
  llama_memory_seq_rm(llama_get_memory(context_.get()), sequence, static_cast<llama_pos>(keep), -1);
}

llama_tokens DraftModel::draft(llama_seq_id sequence, const llama_tokens& history, llama_token last,
                               int length) {
  llama_tokens result;
  if (!speculative_ || length <= 0) return result;
  common_speculative_get_draft_params(speculative_.get(), sequence) = {
      true, length, static_cast<llama_pos>(history.size()), last, &history, &result};
  common_speculative_draft(speculative_.get());
  // The step that checks the guesses puts them in again.
  forget(sequence, history.size());
  if (result.size() > static_cast<size_t>(length)) result.resize(static_cast<size_t>(length));
  return result;
}

} // namespace rbee
