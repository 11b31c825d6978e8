// Preparations: closing while many of them run and wait, and what becomes of requests when the engine's
// thread fails.
#pragma once

#include "ledger_stress.h"

#include <string>

namespace rbee::stress {

// Each makes engines of its own of this model.
void close_while_preparing(const std::string& path, Random& random, Totals& totals);
void fail_while_generating(const std::string& path, Totals& totals);

} // namespace rbee::stress
