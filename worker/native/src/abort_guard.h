// llama.cpp asserts on what it does not expect of a model, and an assertion ends the process.
#pragma once

namespace rbee {

// While one lives, a failed assertion on this thread throws std::runtime_error instead. Only for loading:
// there no other thread computes, and what was half built is thrown away. Does not nest.
class AbortGuard {
 public:
  AbortGuard();
  ~AbortGuard();
  AbortGuard(const AbortGuard&) = delete;
  AbortGuard& operator=(const AbortGuard&) = delete;
};

} // namespace rbee
