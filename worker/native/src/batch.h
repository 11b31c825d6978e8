// The tokens of one step.
#pragma once

#include "llama.h"

namespace rbee {

struct Batch : llama_batch {
  explicit Batch(int capacity) : llama_batch(llama_batch_init(capacity, 0, 1)) {}
  ~Batch() { llama_batch_free(*this); }
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  // `output`: the step is to compute this row's logits or embedding.
  void add(llama_token next, llama_pos position, llama_seq_id sequence, bool output) {
    const int row = n_tokens++;
    token[row] = next;
    pos[row] = position;
    n_seq_id[row] = 1;
    seq_id[row][0] = sequence;
    logits[row] = output ? 1 : 0;
  }
};

} // namespace rbee
