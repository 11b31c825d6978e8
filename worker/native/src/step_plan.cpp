#include "step_plan.h"

#include <algorithm>
#include <numeric>

namespace rbee {

int well_computed_rows(const StepLimits& limits, int rows) {
  constexpr int half_tile = 16;
  constexpr int tile = 32;
  if (!limits.tiles || rows <= half_tile) return rows;
  return rows < tile ? half_tile : rows / tile * tile;
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
