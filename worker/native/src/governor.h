// Whether guessing ahead pays.
#pragma once

#include "step_plan.h"

#include <array>

namespace rbee {

// The shortest guess worth a step of its own.
constexpr int min_draft_tokens = 3;

// Decides whether guessing pays, from what steps took and what became of earlier guesses. It may lose at most
// a fiftieth of the time spent generating: that share of every step goes into a bank that also takes what
// good guesses saved, and a guess is made only when the bank covers its failure.
class Governor {
 public:
  // Tokens to guess now; 0: do not guess.
  int length() const;
  // A step of one row took `ms`.
  void plain_step(double ms);
  // A step with `drafted` guesses took `ms`, and `accepted` of them were right.
  void drafted_step(int drafted, int accepted, double ms);

 private:
  double expected_ms(int rows) const;

  double plain_ms_ = 0; // of a step of one row, running mean; 0: not known yet
  double bank_ms_ = 0;
  int length_ = 7;
  std::array<double, max_draft_tokens + 2> ms_by_rows_{}; // running means; 0: not known yet
};

} // namespace rbee
