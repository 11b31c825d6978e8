#include "engine.h"

#include "logprobs.h"
#include "native_log.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace rbee {

namespace {

// Tokens of one step. Prompts are read in pieces of this size.
constexpr int step_tokens = 512;
// Prompt tokens of one step while others generate: what they wait for at most.
constexpr int shared_prompt_tokens = 128;

double ms_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

} // namespace

Engine::Engine(std::unique_ptr<Model> model, const EngineOptions& options, std::function<void()> wake)
    : model_(std::move(model)), context_(*model_, options, step_tokens,
                                         [this] {
                                           // Called on the thread that decodes.
                                           const bool abort = should_abort();
                                           if (abort) mute_log(true);
                                           return abort;
                                         }),
      events_(std::move(wake)), batch_(context_.step_tokens()) {
  slots_.resize(static_cast<size_t>(options.slots));
  for (size_t i = 0; i < slots_.size(); i++) {
    slots_[i].id = static_cast<llama_seq_id>(i);
  }
  thread_ = std::thread([this] { run(); });
}

Engine::~Engine() {
  close();
}

std::shared_ptr<CancelFlag> Engine::announce(Handle handle) {
  auto flag = std::make_shared<CancelFlag>(StopReason::none);
  const std::lock_guard<std::mutex> lock(mutex_);
  flags_[handle] = flag;
  return flag;
}

void Engine::withdraw(Handle handle) {
  const std::lock_guard<std::mutex> lock(mutex_);
  flags_.erase(handle);
}

void Engine::submit(std::unique_ptr<Request> request) {
  const Handle handle = request->handle;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!closing_) {
      incoming_.push_back(std::move(request));
    }
  }
  if (request) {
    refuse(handle, Ending(StopReason::canceled));
  } else {
    work_.notify_one();
  }
}

void Engine::refuse(Handle handle, Ending ending) {
  withdraw(handle);
  events_.push_ending(handle, std::move(ending));
}

bool Engine::cancel(Handle handle, StopReason reason) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = flags_.find(handle);
  if (found == flags_.end()) {
    return false;
  }
  StopReason none = StopReason::none;
  found->second->compare_exchange_strong(none, reason);
  return true;
}

void Engine::close() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    closing_ = true;
  }
  work_.notify_one();
  if (thread_.joinable()) {
    thread_.join();
  }
}

bool Engine::should_abort() const {
  if (closing_.load(std::memory_order_relaxed)) {
    return true;
  }
  // Only when nobody else would suffer.
  return !in_step_.empty() && std::all_of(in_step_.begin(), in_step_.end(), [](const auto& flag) {
    return flag->load(std::memory_order_relaxed) != StopReason::none;
  });
}

void Engine::run() {
  while (receive()) {
    end_canceled();
    fill_batch();
    if (batch_.n_tokens > 0) {
      step();
    }
  }
  for (Slot& slot : slots_) {
    if (slot.request) {
      finish(slot, Ending(StopReason::canceled));
    }
  }
  std::vector<std::unique_ptr<Request>> late;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    late.swap(incoming_);
  }
  for (const auto& request : late) {
    refuse(request->handle, Ending(StopReason::canceled));
  }
}

// Waits for work when there is none; takes what came in. Returns false when the engine closes.
bool Engine::receive() {
  const bool idle =
      std::none_of(slots_.begin(), slots_.end(), [](const Slot& slot) { return bool(slot.request); });
  std::vector<std::unique_ptr<Request>> taken;
  {
    std::unique_lock<std::mutex> lock(mutex_);
    if (idle) {
      work_.wait(lock, [this] { return closing_ || !incoming_.empty(); });
    }
    taken.swap(incoming_);
  }
  for (auto& request : taken) {
    start(std::move(request));
  }
  return !closing_;
}

// Puts a request into the free slot whose cache shares the longest prefix with its prompt, the least recently
// used among equals.
void Engine::start(std::unique_ptr<Request> request) {
  Slot* best = nullptr;
  size_t shared = 0;
  for (Slot& slot : slots_) {
    if (slot.request) {
      continue;
    }
    const auto pair =
        std::mismatch(slot.cache.begin(), slot.cache.end(), request->prompt.begin(), request->prompt.end());
    const size_t prefix = request->repeatable ? 0 : static_cast<size_t>(pair.first - slot.cache.begin());
    if (best == nullptr || prefix > shared || (prefix == shared && slot.last_used < best->last_used)) {
      best = &slot;
      shared = prefix;
    }
  }
  if (best == nullptr) {
    refuse(request->handle, Ending("ALL_SLOTS_BUSY", "All slots are busy."));
    return;
  }
  best->request = std::move(request);
  best->prompt_done = shared;
  best->last_used = ++uses_;
  reuse_cache(*best);
}

// Keeps of the slot's cache what the prompt shares with it; at least one token is always read, for its
// logits.
void Engine::reuse_cache(Slot& slot) {
  Request& request = *slot.request;
  slot.prompt_done = std::min(slot.prompt_done, request.prompt.size() - 1);
  forget(slot, slot.prompt_done);
  slot.prompt_done = slot.cache.size();
  request.cached_tokens = static_cast<int>(slot.prompt_done);
}

// Drops the cache behind the first `keep` tokens. Recurrent state cannot be cut: then everything goes.
void Engine::forget(Slot& slot, size_t keep) {
  if (keep >= slot.cache.size()) {
    return;
  }
  llama_memory_t memory = llama_get_memory(context_.get());
  if (keep == 0 || !llama_memory_seq_rm(memory, slot.id, static_cast<llama_pos>(keep), -1)) {
    llama_memory_seq_rm(memory, slot.id, -1, -1);
    keep = 0;
  }
  slot.cache.resize(keep);
}

void Engine::end_canceled() {
  for (Slot& slot : slots_) {
    if (!slot.request) {
      continue;
    }
    const StopReason reason = slot.request->cancel->load(std::memory_order_relaxed);
    if (reason != StopReason::none) {
      finish(slot, Ending(reason));
    }
  }
}

void Engine::fill_batch() {
  batch_.n_tokens = 0;
  in_step_.clear();
  std::vector<Slot*> readers;
  for (Slot& slot : slots_) {
    slot.batch_index = -1;
    slot.chunk = 0;
    if (slot.generating()) {
      add_to_batch(slot, slot.next, true);
    } else if (slot.reading()) {
      readers.push_back(&slot);
    }
  }
  // Nobody waits for more than a short step, neither those who generate nor those whose prompt is short.
  const bool others = batch_.n_tokens > 0 || readers.size() > 1;
  int budget = others ? std::min(shared_prompt_tokens, step_tokens - batch_.n_tokens) : step_tokens;
  // Shortest rest first, and an equal share for each: a short prompt is read within a step or two, whatever
  // long ones wait beside it.
  std::sort(readers.begin(), readers.end(), [](const Slot* a, const Slot* b) {
    return a->request->prompt.size() - a->prompt_done < b->request->prompt.size() - b->prompt_done;
  });
  for (size_t i = 0; i < readers.size(); i++) {
    Slot& slot = *readers[i];
    const int rest = static_cast<int>(slot.request->prompt.size() - slot.prompt_done);
    const int share = std::max(1, budget / static_cast<int>(readers.size() - i));
    slot.chunk = std::min({rest, share, budget});
    budget -= slot.chunk;
    for (int k = 0; k < slot.chunk; k++) {
      add_to_batch(slot, slot.request->prompt[slot.prompt_done + static_cast<size_t>(k)], k + 1 == rest);
    }
  }
}

void Engine::add_to_batch(Slot& slot, llama_token token, bool output) {
  const int i = batch_.n_tokens++;
  if (in_step_.empty() || in_step_.back() != slot.request->cancel) {
    in_step_.push_back(slot.request->cancel);
  }
  batch_.token[i] = token;
  batch_.pos[i] = static_cast<llama_pos>(slot.cache.size());
  batch_.n_seq_id[i] = 1;
  batch_.seq_id[i][0] = slot.id;
  batch_.logits[i] = output ? 1 : 0;
  if (output) {
    slot.batch_index = i;
  }
  slot.cache.push_back(token);
}

void Engine::step() {
  const bool reads =
      std::any_of(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.chunk > 0; });
  if (reads) {
    events_.flush();
  }
  const int status = llama_decode(context_.get(), batch_);
  mute_log(false);
  if (status != 0) {
    decode_failed(status);
    return;
  }
  for (Slot& slot : slots_) {
    slot.prompt_done += static_cast<size_t>(slot.chunk);
    if (slot.batch_index >= 0) {
      sample(slot);
    }
  }
}

// What this step was to put into the memory may be there in part, so it is taken out again.
void Engine::decode_failed(int status) {
  constexpr int aborted = 2;
  for (Slot& slot : slots_) {
    if (!slot.request || (slot.batch_index < 0 && slot.chunk == 0)) {
      continue;
    }
    forget(slot, slot.cache.size() - static_cast<size_t>(std::max(slot.chunk, 1)));
    if (status == aborted) {
      const StopReason reason = slot.request->cancel->load();
      finish(slot, Ending(reason == StopReason::none ? StopReason::canceled : reason));
    } else {
      finish(slot,
             Ending("INTERNAL", "llama_decode failed with status " + std::to_string(status) + ".", status));
    }
  }
}

void Engine::sample(Slot& slot) {
  Request& request = *slot.request;
  llama_token token = LLAMA_TOKEN_NULL;
  try {
    token = common_sampler_sample(request.sampler.get(), context_.get(), slot.batch_index);
    common_sampler_accept(request.sampler.get(), token, /*is_generated=*/true);
  } catch (const std::exception& error) {
    finish(slot, Ending("INTERNAL", std::string("Sampling failed: ") + error.what()));
    return;
  }
  if (llama_vocab_is_eog(model_->vocab(), token)) {
    finish(slot, Ending(StopReason::eos));
    return;
  }
  if (request.generated++ == 0) {
    request.first_token_at = Clock::now();
  }
  GeneratedToken generated{token, {}, std::nullopt, {}};
  if (request.logprobs >= 0) {
    fill_logprobs(generated, *model_, llama_get_logits_ith(context_.get(), slot.batch_index),
                  request.logprobs);
  }
  request.held.push_back(std::move(generated));
  emit(slot, request.text.push(model_->piece(token)));
  if (request.text.stopped()) {
    finish(slot, Ending(StopReason::stop));
  } else if (request.generated == request.max_tokens) {
    finish(slot, Ending(StopReason::length));
  } else {
    slot.next = token;
  }
}

// Sends the oldest held tokens, with these texts.
void Engine::emit(Slot& slot, const std::vector<std::string>& texts) {
  Request& request = *slot.request;
  for (const std::string& text : texts) {
    GeneratedToken token = std::move(request.held.front());
    request.held.pop_front();
    token.text = text;
    const bool first = request.generated == static_cast<int>(request.held.size()) + 1;
    events_.push_token(request.handle, std::move(token), first);
  }
}

void Engine::finish(Slot& slot, Ending ending) {
  // Whatever was generated is handed out, however the answer ended.
  emit(slot, slot.request->text.finish());
  const std::unique_ptr<Request> request = std::move(slot.request);
  const Clock::time_point now = Clock::now();
  ending.prompt_tokens = static_cast<int>(request->prompt.size());
  ending.cached_tokens = request->cached_tokens;
  ending.generated_tokens = request->generated;
  ending.duration_ms = ms_between(request->submitted_at, now);
  if (request->generated > 0) {
    ending.first_token_ms = ms_between(request->submitted_at, request->first_token_at);
  }
  if (request->generated > 1) {
    ending.tokens_per_second = (request->generated - 1) * 1000.0 / ms_between(request->first_token_at, now);
  }
  slot.next = LLAMA_TOKEN_NULL;
  withdraw(request->handle);
  events_.push_ending(request->handle, std::move(ending));
}

} // namespace rbee
