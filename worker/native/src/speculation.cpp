#include "speculation.h"

#include "abort_guard.h"
#include "errors.h"

#include "ngram-map.h"

#include <algorithm>
#include <cstdio>

namespace rbee {

namespace {

constexpr int min_length = 3;
constexpr double loss_share = 0.02;
// In steps of one row: what may be lost before anything was earned, and what good guesses can earn at most.
constexpr double first_bank_steps = 2;
constexpr double max_bank_steps = 6;
// What a further row costs as long as it was not measured, as a share of a step of one row.
constexpr double row_cost = 0.35;
constexpr double weight_of_newest = 0.2;

double running_mean(double mean, double value) {
  return mean == 0 ? value : mean + weight_of_newest * (value - mean);
}

} // namespace

double Governor::expected_ms(int rows) const {
  const double measured = ms_by_rows_[static_cast<size_t>(rows)];
  return measured > 0 ? measured : plain_ms_ * (1 + row_cost * (rows - 1));
}

int Governor::length() const {
  if (plain_ms_ == 0) return 0;
  int length = length_;
  while (length >= min_length && expected_ms(length + 1) - plain_ms_ > bank_ms_) {
    length /= 2;
  }
  return length >= min_length ? length : 0;
}

void Governor::plain_step(double ms) {
  if (plain_ms_ == 0) bank_ms_ = first_bank_steps * ms;
  plain_ms_ = running_mean(plain_ms_, ms);
  bank_ms_ = std::min(bank_ms_ + loss_share * ms, max_bank_steps * plain_ms_);
}

void Governor::drafted_step(int drafted, int accepted, double ms) {
  const auto rows = static_cast<size_t>(drafted + 1);
  ms_by_rows_[rows] = running_mean(ms_by_rows_[rows], ms);
  const double saved = (accepted + 1) * plain_ms_ - ms;
  bank_ms_ = std::min(bank_ms_ + saved, max_bank_steps * plain_ms_);
  if (accepted == drafted) {
    length_ = std::min(max_draft_tokens, 2 * length_ + 1);
  } else if (accepted < drafted / 2) {
    length_ = std::max(min_length, length_ / 2);
  }
}

llama_tokens draft_from_history(const llama_tokens& history, llama_token last, int length, int evidence) {
  if (length < min_length) return {};
  // common takes no guess that is shorter than what it matched.
  const int wanted = std::max(length, evidence);
  llama_tokens draft = common_ngram_simple_draft(
      {static_cast<uint16_t>(evidence), static_cast<uint16_t>(wanted)}, history, last);
  if (draft.size() > static_cast<size_t>(length)) draft.resize(static_cast<size_t>(length));
  return draft;
}

DraftModel::DraftModel(std::unique_ptr<Model> model, const Context& target, const EngineOptions& options)
    : model_(std::move(model)), context_(
                                    *model_, options, [] { return false; }, target.thread_pool()) {
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
    std::fputs("the draft model failed and is not used any more\n", stderr);
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
