// What is said of work that its budget has ended.
#pragma once

#include "budget.h"
#include "errors.h"

#include <string>

namespace rbee {

// `what` begins the sentence: "The grammar".
inline EngineError budget_error(const std::string& what, Spent spent) {
  switch (spent) {
  case Spent::canceled:
    return {"REQUEST_CANCELED", "The request was canceled."};
  case Spent::stack:
    return {"INVALID_REQUEST", what + " is nested too deep."};
  case Spent::memory:
    return {"INVALID_REQUEST", what + " takes too much memory."};
  default:
    return {"INVALID_REQUEST", what + " takes too long."};
  }
}

} // namespace rbee
