#include "random_draws.h"

namespace rbee {

namespace {

// A stage behind all others of the chain: common draws once every time the chain is applied, and applies it
// twice for a token that the grammar refuses at first.
llama_sampler_i counting_stage() {
  llama_sampler_i stage = {};
  stage.name = [](const llama_sampler*) { return "count-draws"; };
  stage.apply = [](llama_sampler* self, llama_token_data_array*) { ++*static_cast<uint64_t*>(self->ctx); };
  stage.free = [](llama_sampler*) {}; // the counter is somebody else's
  return stage;
}

} // namespace

void count_draws(common_sampler* sampler, uint64_t& draws) {
  static llama_sampler_i stage = counting_stage();
  llama_sampler_chain_add(common_sampler_get(sampler), llama_sampler_init(&stage, &draws));
}

void repeat_draws(common_sampler* sampler, uint64_t draws) {
  llama_sampler* chain = common_sampler_get(sampler);
  for (uint64_t i = 0; i < draws; i++) {
    llama_token_data only = {0, 0.0F, 0.0F};
    llama_token_data_array candidates = {&only, 1, -1, false};
    llama_sampler_apply(chain, &candidates);
  }
}

} // namespace rbee
