// An answer in the middle of its generation, as another process can go on with it.
#pragma once

#include "events.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace rbee {

struct SequenceState {
  uint32_t seed = 0;
  int max_tokens = 0; // of the whole answer
  std::vector<llama_token> prompt;
  std::vector<llama_token> generated;
  std::vector<GeneratedToken> held; // the last of `generated`, whose text was not certain yet
  uint64_t draws = 0;               // random numbers the sampler has drawn from its seed
  // llama.cpp's own form of the KV cache; empty: it has to be computed again.
  std::vector<uint8_t> kv;
  size_t kv_tokens = 0; // tokens of prompt and generated that it holds
};

} // namespace rbee
