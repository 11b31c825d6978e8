// Names for the beginnings of token sequences, by which others can tell who holds what without the tokens.
#pragma once

#include "llama.h"

#include <cstdint>
#include <vector>

namespace rbee {

// Tokens that one more name stands for.
constexpr size_t prefix_block_tokens = 32;

// One hash for every whole block of `tokens`, each of everything up to its end: two sequences share a
// beginning as long as they share hashes. 48 bits, so that a double holds them; FNV-1a over the ids, folded.
// Sequences of different scopes share none: the hashes of one tell nothing of what another holds.
std::vector<uint64_t> prefix_blocks(const std::vector<llama_token>& tokens, uint64_t scope);

} // namespace rbee
