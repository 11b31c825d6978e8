// Runs work that follows a stranger's input, within a budget and on a stack that is deep enough for it.
#pragma once

#include "budget_error.h"
#include "deep_stack.h"

#include <functional>
#include <string>
#include <utility>

namespace rbee {

// Runs `work` within `limits`, on a thread of its own; waits for it. Throws what it throws, and EngineError
// for what the limits end: INVALID_REQUEST, with `what` in its message, or REQUEST_CANCELED. Returns how many
// bytes are held more than before.
inline ptrdiff_t bounded(const std::string& what, BudgetLimits limits, const std::function<void()>& work) {
  Spent spent = Spent::nothing;
  ptrdiff_t bytes = 0;
  std::exception_ptr error;
  on_deep_stack([&] {
    Budget budget(std::move(limits));
    try {
      work();
    } catch (...) {
      error = std::current_exception();
    }
    spent = budget.spent();
    bytes = budget.bytes();
  });
  if (spent != Spent::nothing) throw budget_error(what, spent);
  if (error) std::rethrow_exception(error);
  return bytes;
}

} // namespace rbee
