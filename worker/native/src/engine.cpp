#include "engine.h"

#include "errors.h"
#include "native_log.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iterator>
#include <utility>

#ifdef __linux__
#include <pthread.h>
#endif

namespace rbee {

namespace {

double ms_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

} // namespace

Engine::Engine(std::unique_ptr<Model> model, std::unique_ptr<Model> draft_model, const EngineOptions& options,
               std::function<void()> wake)
    : options_(options), model_(std::move(model)), context_(*model_, options,
                                                            [this] {
                                                              // Called on the thread that decodes.
                                                              const bool abort = should_abort();
                                                              if (abort) mute_log(true);
                                                              return abort;
                                                            }),
      events_(std::move(wake)), clock_(context_.warm_up_ms()), batch_(context_.capacity()) {
  if (const char* stall_file = std::getenv("RBEE_TEST_STALL_FILE")) stall_file_ = stall_file;
  if (draft_model) {
    if (model_->recurrent() || draft_model->recurrent()) {
      throw EngineError("INVALID_MODEL", "Guesses have to be taken back; recurrent models cannot do that.");
    }
    draft_model_ = std::make_unique<DraftModel>(std::move(draft_model), context_, options);
  }
  slots_.resize(static_cast<size_t>(options.slots));
  for (size_t i = 0; i < slots_.size(); i++) {
    slots_[i].id = static_cast<llama_seq_id>(i);
  }
  thread_ = std::thread([this] { run(); });
}

Engine::~Engine() {
  close();
}

MemoryUse Engine::memory() const {
  MemoryUse use = context_.memory();
  if (draft_model_) {
    const MemoryUse draft = draft_model_->memory();
    use.weights += draft.weights;
    use.mapped += draft.mapped;
    use.kv += draft.kv;
    use.compute += draft.compute;
  }
  return use;
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

void Engine::end_unprepared(Handle handle, StopReason reason) {
  withdraw(handle);
  events_.push_ending(handle, Ending(reason));
}

void Engine::submit(std::unique_ptr<Request> request) {
  Ending refused(StopReason::canceled);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!failure_.empty()) {
      refused = Ending("INTERNAL", failure_);
    } else if (!closing_) {
      incoming_.push_back(std::move(request));
    }
  }
  if (request) {
    refuse(*request, std::move(refused));
  } else {
    work_.notify_one();
  }
}

std::string Engine::failure() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return failure_;
}

// Ends a request that never had a slot.
void Engine::refuse(const Request& request, Ending ending) {
  ending.prompt_tokens = static_cast<int>(request.prompt_tokens);
  ending.generated_tokens = static_cast<int>(request.generated.size() - request.held.size());
  ending.duration_ms = ms_between(request.submitted_at, Clock::now());
  withdraw(request.handle);
  events_.push_ending(request.handle, std::move(ending));
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

std::optional<SequenceState> Engine::export_sequence(Handle handle, bool with_kv, bool stop) {
  std::future<std::optional<SequenceState>> state;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closing_ || !failure_.empty() || flags_.count(handle) == 0) return std::nullopt;
    exports_.push_back({handle, with_kv, stop, {}});
    state = exports_.back().state.get_future();
  }
  work_.notify_one();
  return state.get();
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
#ifdef __linux__
  pthread_setname_np(pthread_self(), "rbee-engine"); // what profilers show
#endif
  Ending ending(StopReason::canceled);
  try {
    serve();
  } catch (const std::exception& error) {
    ending = Ending("INTERNAL", std::string("The engine failed: ") + error.what());
  } catch (...) {
    ending = Ending("INTERNAL", "The engine failed for an unknown reason.");
  }
  if (!ending.error_message.empty()) {
    log_line(ending.error_message);
    const std::lock_guard<std::mutex> lock(mutex_);
    failure_ = ending.error_message;
  }
  clock_.wait();
  end_all(ending);
}

void Engine::serve() {
  while (receive()) {
    end_canceled();
    Slots together;
    Slots strict;
    for (Slot& slot : slots_) {
      if (slot.request) (slot.request->strict ? strict : together).push_back(&slot);
    }
    compute(together);
    // Each by itself: what it computes must not depend on its neighbours.
    for (Slot* slot : strict) {
      compute({slot});
    }
  }
}

// Nobody waits for a thread that is gone.
void Engine::end_all(const Ending& ending) {
  for (Slot& slot : slots_) {
    if (!slot.request) continue;
    const Handle handle = slot.request->handle;
    try {
      finish(slot, ending);
    } catch (...) {
      // What broke the thread may be this very request; its caller is told all the same.
      withdraw(handle);
      events_.push_ending(handle, ending);
    }
  }
  std::deque<std::unique_ptr<Request>> late = std::move(received_);
  std::vector<Export> unanswered;
  std::vector<std::promise<std::vector<uint64_t>>> looks;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::move(incoming_.begin(), incoming_.end(), std::back_inserter(late));
    incoming_.clear();
    unanswered.swap(exports_);
    looks.swap(looks_);
  }
  for (const auto& request : late) {
    refuse(*request, ending);
  }
  for (Export& wanted : unanswered) {
    wanted.state.set_value(std::nullopt);
  }
  for (auto& look : looks) {
    look.set_value({});
  }
}

// Waits for work when there is none; takes what came in. Returns false when the engine closes.
bool Engine::receive() {
  const bool idle =
      std::none_of(slots_.begin(), slots_.end(), [](const Slot& slot) { return bool(slot.request); });
  std::vector<Export> exports;
  std::vector<std::promise<std::vector<uint64_t>>> looks;
  {
    std::unique_lock<std::mutex> lock(mutex_);
    if (idle) {
      clock_.wait();
      work_.wait(lock,
                 [this] { return closing_ || !incoming_.empty() || !exports_.empty() || !looks_.empty(); });
    }
    std::move(incoming_.begin(), incoming_.end(), std::back_inserter(received_));
    incoming_.clear();
    exports.swap(exports_);
    looks.swap(looks_);
  }
  clock_.begin(0);
  for (auto& look : looks) {
    look.set_value(blocks_of_slots());
  }
  while (!received_.empty()) {
    std::unique_ptr<Request> request = std::move(received_.front());
    received_.pop_front();
    start(std::move(request));
  }
  for (Export& wanted : exports) {
    export_slot(wanted);
  }
  return !closing_;
}

// Puts a request into the free slot whose cache shares the longest prefix with its prompt. What all prompts
// begin with is no reason to throw away the rest of somebody's conversation: a slot that would lose more than
// it gives is taken only in its turn, the least recently used first.
void Engine::start(std::unique_ptr<Request> request) {
  Slot* best = nullptr;
  size_t shared = 0;
  bool gives = false;
  for (Slot& slot : slots_) {
    if (slot.request) {
      continue;
    }
    const auto pair =
        std::mismatch(slot.cache.begin(), slot.cache.end(), request->prompt.begin(), request->prompt.end());
    // What others have asked is not to be guessed by what an answer finds computed already.
    const bool own = slot.cache_scope == request->cache_scope;
    const size_t same = static_cast<size_t>(pair.first - slot.cache.begin());
    const size_t prefix = request->repeatable ? 0 : own ? same : std::min(same, request->common_tokens);
    const bool worth = prefix > 0 && 2 * prefix >= slot.cache.size();
    const bool longer = worth && (!gives || prefix > shared);
    const bool staler =
        worth == gives && (!worth || prefix == shared) && best && slot.last_used < best->last_used;
    if (best == nullptr || longer || staler) {
      best = &slot;
      shared = prefix;
      gives = worth;
    }
  }
  if (best == nullptr) {
    refuse(*request, Ending("ALL_SLOTS_BUSY", "All slots are busy."));
    return;
  }
  best->request = std::move(request);
  best->last_used = ++uses_;
  if (!make_room()) {
    const std::unique_ptr<Request> refused = std::move(best->request);
    refuse(*refused, Ending("ALL_SLOTS_BUSY", "The other answers hold too much of the KV cache."));
    return;
  }
  take_over_cache(*best, shared);
  best->cache_scope = best->request->cache_scope;
  // What went on elsewhere may have come to its end there, and only that was not told.
  const Request& taken = *best->request;
  if (taken.text.stopped()) {
    Ending ending(StopReason::stop);
    ending.stopped_by = taken.text.stopped_by();
    finish(*best, std::move(ending));
  } else if (static_cast<int>(taken.generated.size()) == taken.max_tokens) {
    finish(*best, Ending(StopReason::length));
  }
}

void Engine::export_slot(Export& wanted) {
  for (Slot& slot : slots_) {
    if (!slot.request || slot.request->handle != wanted.handle) continue;
    const Request& request = *slot.request;
    SequenceState state;
    const auto generated = request.prompt.begin() + static_cast<std::ptrdiff_t>(request.prompt_tokens);
    state.seed = request.seed;
    state.max_tokens = request.max_tokens;
    state.prompt.assign(request.prompt.begin(), generated);
    state.generated = request.generated;
    state.held.assign(request.held.begin(), request.held.end());
    state.draws = *request.draws;
    if (wanted.with_kv && !slot.cache.empty()) {
      state.kv = context_.save_sequence(slot.id);
      state.kv_tokens = slot.cache.size();
    }
    if (wanted.stop) finish(slot, Ending(StopReason::canceled), /*hand_out_held=*/false);
    wanted.state.set_value(std::move(state));
    return;
  }
  wanted.state.set_value(std::nullopt);
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

void Engine::finish(Slot& slot, Ending ending, bool hand_out_held) {
  // Whatever was generated is handed out, however the answer ended.
  if (hand_out_held) emit(slot, slot.request->text.finish());
  const std::unique_ptr<Request> request = std::move(slot.request);
  const Clock::time_point now = Clock::now();
  const size_t here = request->generated.size() - request->generated_before;
  ending.prompt_tokens = static_cast<int>(request->prompt_tokens);
  ending.cached_tokens = request->cached_tokens;
  ending.generated_tokens = static_cast<int>(request->generated.size() - request->held.size());
  ending.draft_tokens = request->draft_tokens;
  ending.draft_accepted_tokens = request->draft_accepted_tokens;
  ending.duration_ms = ms_between(request->submitted_at, now);
  if (here > 0) {
    ending.first_token_ms = ms_between(request->submitted_at, request->first_token_at);
  }
  if (here > 1) {
    ending.tokens_per_second =
        static_cast<double>(here - 1) * 1000.0 / ms_between(request->first_token_at, now);
  }
  slot.next = LLAMA_TOKEN_NULL;
  withdraw(request->handle);
  events_.push_ending(request->handle, std::move(ending));
}

} // namespace rbee
