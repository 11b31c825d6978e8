#include "logprobs.h"

#include "text_stream.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace rbee {

void fill_logprobs(GeneratedToken& token, const Model& model, const float* logits, int count) {
  const int size = llama_vocab_n_tokens(model.vocab());
  const float max = *std::max_element(logits, logits + size);
  const double sum = std::accumulate(
      logits, logits + size, 0.0, [max](double total, float logit) { return total + std::exp(logit - max); });
  const auto logprob = [&](llama_token id) { return static_cast<float>(logits[id] - max - std::log(sum)); };

  std::vector<llama_token> ids(static_cast<size_t>(size));
  std::iota(ids.begin(), ids.end(), 0);
  const auto middle = ids.begin() + std::min(count, size);
  std::partial_sort(ids.begin(), middle, ids.end(),
                    [&](llama_token a, llama_token b) { return logits[a] > logits[b]; });

  token.logprob = logprob(token.id);
  for (auto id = ids.begin(); id != middle; ++id) {
    token.top.push_back({*id, sanitise_utf8(model.piece(*id)), logprob(*id)});
  }
}

} // namespace rbee
