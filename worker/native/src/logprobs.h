// Log probabilities of a token and its rivals.
#pragma once

#include "events.h"
#include "model.h"

namespace rbee {

// Fills `token.logprob` and the `count` likeliest alternatives from one row of logits: log softmax over the
// whole vocabulary, natural logarithm, before any sampler changed it.
void fill_logprobs(GeneratedToken& token, const Model& model, const float* logits, int count);

} // namespace rbee
