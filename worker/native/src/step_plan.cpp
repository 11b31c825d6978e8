#include "step_plan.h"

#include <algorithm>
#include <numeric>

namespace rbee {

namespace {

constexpr int half_tile = 16;
constexpr int tile = 32;

} // namespace

int well_computed_rows(const StepLimits& limits, int rows) {
  if (!limits.tiles || rows <= half_tile) return rows;
  return rows < tile ? half_tile : rows / tile * tile;
}

size_t reused_tokens(const StepLimits& limits, size_t cached, size_t tokens) {
  const size_t rest = tokens - cached;
  const size_t last_rows = rest % static_cast<size_t>(limits.alone);
  const size_t over = rest % tile;
  const size_t missing = tile - over;
  const bool worth_it = limits.tiles && last_rows > tile && over > half_tile;
  return worth_it && missing <= cached ? cached - missing : cached;
}

std::vector<int> share_prompt_tokens(const StepLimits& limits, int taken, const std::vector<int>& rests) {
  const bool alone = taken == 0 && rests.size() <= 1;
  const int wanted = std::accumulate(rests.begin(), rests.end(), taken);
  const int rows = well_computed_rows(limits, std::min(alone ? limits.alone : limits.shared, wanted));
  int budget = rests.empty() ? 0 : std::max(1, rows - taken);
  std::vector<int> shares(rests.size(), 0);
  for (size_t i = 0; i < rests.size(); i++) {
    const int equal = std::max(1, budget / static_cast<int>(rests.size() - i));
    shares[i] = std::min({rests[i], equal, budget});
    budget -= shares[i];
  }
  return shares;
}

} // namespace rbee
