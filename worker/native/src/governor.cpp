#include "governor.h"

#include <algorithm>

namespace rbee {

namespace {

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
  while (length >= min_draft_tokens && expected_ms(length + 1) - plain_ms_ > bank_ms_) {
    length /= 2;
  }
  return length >= min_draft_tokens ? length : 0;
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
    length_ = std::max(min_draft_tokens, length_ / 2);
  }
}

} // namespace rbee
