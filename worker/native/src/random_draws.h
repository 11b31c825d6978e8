// The state of a sampler's random generator, as a number: how often it drew since it was seeded.
#pragma once

#include "sampling.h"

#include <cstdint>

namespace rbee {

// Counts the sampler's draws in `draws`, which must live as long as the sampler.
void count_draws(common_sampler* sampler, uint64_t& draws);

// Draws and forgets, so that a freshly seeded sampler goes on where one that drew so often stood. Takes as
// long as the draws did. What `count_draws` counts becomes `draws`.
void repeat_draws(common_sampler* sampler, uint64_t draws);

} // namespace rbee
