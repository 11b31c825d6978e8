// How many tokens a step takes, and of which prompts. Pure functions over plain numbers.
#pragma once

#include <cstddef>
#include <vector>

namespace rbee {

// Tokens guessed in one step at most: with the token before them as many rows as AMX computes at once.
constexpr int max_draft_tokens = 15;

// What a step may hold on the device at hand. A row is one token of a step.
struct StepLimits {
  int alone;  // rows while nobody waits for the step's end but the one whose prompt is read
  int shared; // rows while others generate or wait with prompts of their own
  // The weights are multiplied in AMX tiles. Steps of up to 16 rows and of multiples of 32 are fast there,
  // others are not: with TinyLlama 1.1B in Q4_0 32 rows take 144 ms, 33 rows 378 ms (llama-bench -p 32,33).
  bool tiles;
};

// The most rows up to `rows` that are computed well.
int well_computed_rows(const StepLimits& limits, int rows);

// How many of the `cached` tokens that a prompt of `tokens` begins with need not be read again. Fewer than
// all where the rest of a long prompt would end in most of a tile: a whole one is read faster than its pieces
// (TinyLlama 1.1B in Q4_0 behind 300 tokens, llama-bench: 128 rows 581 ms, 96 and 16 and 15 rows 659 ms).
size_t reused_tokens(const StepLimits& limits, size_t cached, size_t tokens);

// How many tokens of each waiting prompt are read in a step that has `taken` rows already. `rests` are the
// tokens still to be read, in ascending order, so that a short prompt is read within a step or two whatever
// long ones wait beside it. At least one token is read when any is left.
std::vector<int> share_prompt_tokens(const StepLimits& limits, int taken, const std::vector<int>& rests);

} // namespace rbee
