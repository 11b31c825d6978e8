#include "prefix_blocks.h"

namespace rbee {

std::vector<uint64_t> prefix_blocks(const std::vector<llama_token>& tokens, uint64_t scope) {
  constexpr uint64_t offset_basis = 0xcbf29ce484222325;
  constexpr uint64_t prime = 0x100000001b3;
  constexpr int bits = 48;
  std::vector<uint64_t> blocks;
  blocks.reserve(tokens.size() / prefix_block_tokens);
  uint64_t hash = offset_basis;
  for (uint64_t rest = scope; rest != 0; rest >>= 8) {
    hash = (hash ^ (rest & 0xff)) * prime;
  }
  for (size_t i = 0; i < tokens.size(); i++) {
    auto id = static_cast<uint32_t>(tokens[i]);
    for (int byte = 0; byte < 4; byte++) {
      hash = (hash ^ (id & 0xff)) * prime;
      id >>= 8;
    }
    if ((i + 1) % prefix_block_tokens == 0) {
      blocks.push_back((hash ^ (hash >> bits)) & ((uint64_t{1} << bits) - 1));
    }
  }
  return blocks;
}

} // namespace rbee
