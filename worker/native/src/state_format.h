// How llama.cpp writes the memory of one sequence, learnt from what this context wrote itself, so that what
// comes from elsewhere can be checked before llama.cpp reads it: that reserves what the first number asks
// for, and takes any position for granted.
#pragma once

#include "ggml.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace rbee {

// A sequence as Context::save_sequence gives it: a mark and the sequence's id; of attention, the number of
// caches, which is one; the number of cells; each cell's position and owners; whether values are transposed,
// and the number of layers; then for each layer what a type and sizes say, and the values of all cells.
class StateFormat {
 public:
  // `sample`: a saved sequence of one token. None for what this class cannot read: several kinds of memory in
  // one, or cells with more than a position.
  static std::optional<StateFormat> learn(const std::vector<uint8_t>& sample, bool recurrent);

  // Whether `saved` is a sequence of `tokens` tokens of the same model in the same types, with all of its
  // values finite. Reads all of it, so not on a thread that others wait for.
  bool fits(const std::vector<uint8_t>& saved, size_t tokens) const;

 private:
  struct Layer {
    std::vector<uint8_t> header;
    ggml_type type;
    uint64_t cell_bytes;
  };

  bool recurrent_ = false;
  std::vector<uint8_t> mark_;
  std::vector<uint8_t> layout_;
  std::vector<Layer> layers_;
};

} // namespace rbee
