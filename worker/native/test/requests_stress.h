// The requests of the stress test: random, but the same for the same seed.
#pragma once

#include "model.h"
#include "request.h"

#include <random>
#include <string>
#include <vector>

namespace rbee::stress {

struct Random : std::mt19937 {
  using std::mt19937::mt19937;

  // From 0 to `count` - 1.
  int below(int count) { return static_cast<int>((*this)() % static_cast<unsigned>(count)); }
  bool chance(int percent) { return below(100) < percent; }
};

struct Wish {
  RequestOptions options;
  bool refused = false; // prepare_request has to throw INVALID_REQUEST
};

// Draws requests for one engine, from one thread.
class Requests {
 public:
  Requests(Random random, const Model& model, int context);

  // One that a slot can answer, or one that is to be refused.
  Wish draw();
  // Story text of at most two contexts. Most prompts begin alike, so that slots find something to share.
  std::string story(int tokens);

  Random random;
  const Model& model;
  const int context; // tokens of a slot

 private:
  std::vector<std::vector<llama_token>> stories_;
};

} // namespace rbee::stress
