// What the slots of an engine hold of the KV cache: who may keep it, and who takes it over.
#include "engine.h"

#include <algorithm>
#include <utility>

namespace rbee {

// In a common cache the free slots give up what they still hold, the longest unused first, until every
// running answer will find room to its end. Returns false when the running ones leave too little.
bool Engine::make_room() {
  if (!options_.kv_unified) return true;
  while (true) {
    size_t reserved = 0;
    Slot* oldest = nullptr;
    for (Slot& other : slots_) {
      reserved += other.reserved();
      if (!other.request && !other.cache.empty() && (!oldest || other.last_used < oldest->last_used)) {
        oldest = &other;
      }
    }
    if (reserved <= static_cast<size_t>(context_.cells())) return true;
    if (oldest == nullptr) return false;
    forget(*oldest, 0);
  }
}

// Keeps of the slot's cache what the prompt shares with it, or takes the state that came with the request; at
// least one token is always read, for its logits.
void Engine::take_over_cache(Slot& slot, size_t shared) {
  Request& request = *slot.request;
  if (!import_kv(slot)) {
    // What the draft model did not follow it has to read as well.
    const bool usable = !draft_model_ || slot.drafted_along;
    const size_t tokens = request.prompt.size();
    forget(slot, usable ? reused_tokens(context_.step_limits(), std::min(shared, tokens - 1), tokens) : 0);
    slot.drafted_along = true;
  }
  slot.prompt_done = slot.cache.size();
  request.cached_tokens = static_cast<int>(std::min(slot.prompt_done, request.prompt_tokens));
}

// Returns false when there is no state to be taken over, or none that fits this context.
bool Engine::import_kv(Slot& slot) {
  Request& request = *slot.request;
  if (request.kv.empty()) return false;
  forget(slot, 0);
  const size_t tokens = std::min(request.kv_tokens, request.prompt.size() - 1);
  const bool fits = context_.restore_sequence(slot.id, std::move(request.kv), request.kv_tokens);
  request.kv = {};
  slot.cache.assign(request.prompt.begin(),
                    request.prompt.begin() + static_cast<std::ptrdiff_t>(request.kv_tokens));
  if (!fits) {
    slot.cache.resize(1); // whatever was put in
    forget(slot, 0);
    return false;
  }
  forget(slot, tokens);
  slot.drafted_along = false;
  return true;
}

// Drops the cache behind the first `keep` tokens. Recurrent state cannot be cut, nor one of which a sliding
// window has left too little: then everything goes.
void Engine::forget(Slot& slot, size_t keep) {
  if (keep >= slot.cache.size()) {
    return;
  }
  llama_memory_t memory = llama_get_memory(context_.get());
  const auto end = static_cast<llama_pos>(keep);
  const llama_pos window = llama_model_n_swa(model_->get());
  const bool cut = keep > 0 &&
                   (window <= 0 || llama_memory_seq_pos_min(memory, slot.id) <= std::max(0, end - window)) &&
                   llama_memory_seq_rm(memory, slot.id, end, -1);
  if (!cut) {
    llama_memory_seq_rm(memory, slot.id, -1, -1);
    keep = 0;
  }
  slot.cache.resize(keep);
  if (draft_model_) draft_model_->forget(slot.id, keep);
}

std::vector<uint64_t> Engine::held_blocks() {
  std::future<std::vector<uint64_t>> blocks;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closing_ || !failure_.empty()) return {};
    blocks = looks_.emplace_back().get_future();
  }
  work_.notify_one();
  return blocks.get();
}

std::vector<uint64_t> Engine::blocks_of_slots() const {
  std::vector<uint64_t> all;
  for (const Slot& slot : slots_) {
    const std::vector<uint64_t> blocks = prefix_blocks(slot.cache, slot.cache_scope);
    all.insert(all.end(), blocks.begin(), blocks.end());
  }
  return all;
}

} // namespace rbee
