// What the engine does in one step: choose the tokens, compute them, sample, hand over.
#include "budget_error.h"
#include "engine.h"
#include "grammar_dead_end.h"
#include "logprobs.h"
#include "native_log.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <stdexcept>
#include <thread>
#include <unistd.h>

namespace rbee {

namespace {

// CPU time for what a grammar does between two tokens of one answer, and of all answers together, while their
// neighbours wait. Ordinary ones take 1 to 30 ms, by the vocabulary. What the others have left over is never
// less than the last.
constexpr std::chrono::milliseconds answer_sampling_time{100};
constexpr std::chrono::milliseconds step_sampling_time{250};
constexpr std::chrono::milliseconds least_sampling_time{25};

// Adds the time until it is gone to a counter. Only the engine thread writes, so no addition is lost.
class Stopwatch {
 public:
  explicit Stopwatch(std::atomic<uint64_t>& total) : total_(total), start_(Clock::now()) {}
  ~Stopwatch() {
    const auto passed = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start_).count();
    total_.store(total_.load(std::memory_order_relaxed) + static_cast<uint64_t>(passed),
                 std::memory_order_relaxed);
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  std::atomic<uint64_t>& total_;
  Clock::time_point start_;
};

// The first of the greatest. In lanes, which compilers turn into vector instructions.
llama_token likeliest(const float* logits, int count) {
  constexpr int lanes = 16;
  float greatest[lanes];
  std::fill_n(greatest, lanes, -std::numeric_limits<float>::infinity());
  int i = 0;
  for (; i + lanes <= count; i += lanes) {
    for (int lane = 0; lane < lanes; lane++) {
      greatest[lane] = logits[i + lane] > greatest[lane] ? logits[i + lane] : greatest[lane];
    }
  }
  float maximum = *std::max_element(greatest, greatest + lanes);
  for (; i < count; i++) {
    maximum = std::max(maximum, logits[i]);
  }
  const float* found = std::find(logits, logits + count, maximum);
  if (found == logits + count) throw std::runtime_error("the model computed values that are no numbers.");
  return static_cast<llama_token>(found - logits);
}

} // namespace

void Engine::compute(const Slots& slots) {
  const Clock::time_point begin = Clock::now();
  {
    const Stopwatch watch(times_.step);
    fill_batch(slots);
  }
  if (batch_.n_tokens == 0) return;
  clock_.begin(batch_.n_tokens);
  if (!stall_file_.empty()) stall_for_test(slots);
  step(slots);
  clock_.end();
  learn(slots, std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
}

// A hook for tests of what happens to a worker whose thread is stuck: with RBEE_TEST_STALL_FILE in its
// environment, a step that generates blocks for as long as a file of that name exists, whatever else is
// wanted of it.
void Engine::stall_for_test(const Slots& slots) const {
  constexpr std::chrono::milliseconds pause{10};
  const bool generates =
      std::any_of(slots.begin(), slots.end(), [](const Slot* slot) { return slot->generating(); });
  while (generates && access(stall_file_.c_str(), F_OK) == 0) {
    std::this_thread::sleep_for(pause);
  }
}

void Engine::fill_batch(const Slots& slots) {
  batch_.n_tokens = 0;
  in_step_.clear();
  Slots generating;
  Slots readers;
  for (Slot* slot : slots) {
    slot->batch_index = -1;
    slot->chunk = 0;
    slot->draft.clear();
    (slot->generating() ? generating : readers).push_back(slot);
  }
  if (readers.empty()) add_guesses(generating);
  for (Slot* slot : generating) {
    add_to_batch(*slot, slot->next, true);
    slot->batch_index = batch_.n_tokens - 1;
    for (const llama_token guess : slot->draft) {
      add_to_batch(*slot, guess, true);
    }
  }
  std::sort(readers.begin(), readers.end(),
            [](const Slot* a, const Slot* b) { return a->rest() < b->rest(); });
  std::vector<int> rests;
  for (const Slot* slot : readers) {
    rests.push_back(static_cast<int>(slot->rest()));
  }
  const std::vector<int> shares = share_prompt_tokens(context_.step_limits(), batch_.n_tokens, rests);
  for (size_t i = 0; i < readers.size(); i++) {
    Slot& slot = *readers[i];
    slot.chunk = shares[i];
    for (int k = 0; k < slot.chunk; k++) {
      const bool last = slot.prompt_done + static_cast<size_t>(k) + 1 == slot.request->prompt.size();
      add_to_batch(slot, slot.request->prompt[slot.prompt_done + static_cast<size_t>(k)], last);
      if (last) slot.batch_index = batch_.n_tokens - 1;
    }
  }
}

// Guesses only what costs nobody else time: on their own account with one sequence alone, as many rows as are
// computed well together where it was asked for.
void Engine::add_guesses(const Slots& generating) {
  int free_rows = max_draft_tokens + 1 - static_cast<int>(generating.size());
  for (Slot* slot : generating) {
    const Request& request = *slot->request;
    int length = 0;
    if (request.speculation == Speculation::on) {
      length = free_rows;
    } else if (request.speculation == Speculation::automatic && generating.size() == 1) {
      length = governor_.length();
    }
    // The last token is never decoded, so the one before it is the last that guesses help.
    length =
        std::min({length, free_rows, request.max_tokens - static_cast<int>(request.generated.size()) - 1});
    if (length <= 0) continue;
    const bool weak = request.copying || request.speculation == Speculation::on;
    slot->draft = draft_from_history(slot->cache, slot->next, length, weak ? weak_evidence : strong_evidence);
    if (slot->draft.empty() && draft_model_ && slot->drafted_along) {
      slot->draft = draft_model_->draft(slot->id, slot->cache, slot->next, length);
    }
    free_rows -= static_cast<int>(slot->draft.size());
  }
}

void Engine::add_to_batch(Slot& slot, llama_token token, bool output) {
  if (in_step_.empty() || in_step_.back() != slot.request->cancel) {
    in_step_.push_back(slot.request->cancel);
  }
  batch_.add(token, static_cast<llama_pos>(slot.cache.size()), slot.id, output);
  slot.cache.push_back(token);
}

void Engine::step(const Slots& slots) {
  const bool reads =
      std::any_of(slots.begin(), slots.end(), [](const Slot* slot) { return slot->chunk > 0; });
  if (reads) {
    events_.flush();
  }
  int status = 0;
  {
    const Stopwatch watch(times_.step);
    status = llama_decode(context_.get(), batch_);
    mute_log(false);
    // Of a device that computes beside us; sampling would wait for it.
    if (status == 0) llama_synchronize(context_.get());
    if (status == 0 && draft_model_) draft_model_->follow(batch_);
  }
  if (status != 0) {
    decode_failed(slots, status);
    return;
  }
  Slots sampled;
  for (Slot* slot : slots) {
    slot->prompt_done += static_cast<size_t>(slot->chunk);
    if (slot->batch_index >= 0) sampled.push_back(slot);
  }
  sample_all(sampled);
}

// Those first that take the least time, so that a costly grammar uses up nobody's time but its own.
void Engine::sample_all(Slots& slots) {
  std::stable_sort(slots.begin(), slots.end(), [](const Slot* a, const Slot* b) {
    return a->request->sampling_time < b->request->sampling_time;
  });
  std::chrono::nanoseconds left = step_sampling_time;
  for (Slot* slot : slots) {
    sampling_limit_ = std::clamp<std::chrono::nanoseconds>(left, least_sampling_time, answer_sampling_time);
    const std::chrono::nanoseconds limit = sampling_limit_;
    sample(*slot);
    left -= limit - sampling_limit_;
    if (slot->request && slot->request->constrained) slot->request->sampling_time = limit - sampling_limit_;
  }
}

// Chooses the token that a row's logits ask for. Throws what the sampler throws, and EngineError when its
// grammar takes too much.
llama_token Engine::choose(Request& request, int row) {
  if (!request.constrained) {
    const llama_token token = common_sampler_sample(request.sampler.get(), context_.get(), row);
    common_sampler_accept(request.sampler.get(), token, /*is_generated=*/true);
    return token;
  }
  llama_token token = LLAMA_TOKEN_NULL;
  std::exception_ptr error;
  const CancelFlag& cancel = *request.cancel;
  Budget budget({sampling_limit_, max_grammar_memory - request.sampler_bytes,
                 [&cancel] { return cancel.load(std::memory_order_relaxed) != StopReason::none; }});
  try {
    token = common_sampler_sample(request.sampler.get(), context_.get(), row);
    common_sampler_accept(request.sampler.get(), token, /*is_generated=*/true);
  } catch (const std::exception&) {
    error = std::current_exception();
  }
  sampling_limit_ -= std::min(budget.cpu_time(), sampling_limit_);
  request.sampler_bytes += budget.bytes();
  if (budget.spent() != Spent::nothing) {
    const BudgetPause pause;
    throw budget_error("The grammar", budget.spent());
  }
  try {
    if (error) std::rethrow_exception(error);
  } catch (const GrammarDeadEnd&) {
    throw EngineError("INVALID_REQUEST", "The grammar allows none of the model's tokens here, nor the end.");
  }
  return token;
}

// What this step was to put into the memory may be there in part, so it is taken out again.
void Engine::decode_failed(const Slots& slots, int status) {
  constexpr int aborted = 2;
  for (Slot* slot : slots) {
    const size_t rows = slot->chunk > 0          ? static_cast<size_t>(slot->chunk)
                        : slot->batch_index >= 0 ? slot->draft.size() + 1
                                                 : 0;
    if (rows == 0) {
      continue;
    }
    forget(*slot, slot->cache.size() - rows);
    if (status == aborted) {
      const StopReason reason = slot->request->cancel->load();
      finish(*slot, Ending(reason == StopReason::none ? StopReason::canceled : reason));
    } else {
      finish(*slot,
             Ending("INTERNAL", "llama_decode failed with status " + std::to_string(status) + ".", status));
    }
  }
}

// What guessing costs is learnt from steps that one sequence had for itself.
void Engine::learn(const Slots& slots, double ms) {
  const Slot& slot = *slots.front();
  if (slots.size() != 1 || slot.chunk > 0 || slot.batch_index < 0) return;
  if (slot.draft.empty()) {
    governor_.plain_step(ms);
  } else {
    governor_.drafted_step(static_cast<int>(slot.draft.size()), slot.accepted, ms);
  }
}

// Samples one token, and one more behind every guess that was right.
void Engine::sample(Slot& slot) {
  const size_t guesses = slot.draft.size();
  const size_t known = slot.cache.size() - guesses;
  std::optional<Ending> ending;
  size_t right = 0;
  while (true) {
    const int row = slot.batch_index + static_cast<int>(right);
    ending = sample_row(slot, row);
    if (ending || right == guesses || slot.next != slot.draft[right]) break;
    right++;
  }
  slot.accepted = static_cast<int>(right);
  if (guesses > 0) slot.request->copying = 2 * right >= guesses;
  slot.request->draft_tokens += static_cast<int>(guesses);
  slot.request->draft_accepted_tokens += slot.accepted;
  forget(slot, known + right);
  if (ending) finish(slot, std::move(*ending));
}

// Chooses the token that a row's logits ask for and makes it the slot's next. Returns how the answer ends by
// it, if it does.
std::optional<Ending> Engine::sample_row(Slot& slot, int row) {
  Request& request = *slot.request;
  llama_token token = LLAMA_TOKEN_NULL;
  GeneratedToken generated;
  try {
    const Stopwatch watch(times_.sampling);
    const float* logits = llama_get_logits_ith(context_.get(), row);
    if (request.sampler) {
      token = choose(request, row);
    } else {
      token = likeliest(logits, llama_vocab_n_tokens(model_->vocab()));
    }
    if (request.logprobs >= 0) {
      generated.id = token;
      fill_logprobs(generated, *model_, logits, request.logprobs);
    }
  } catch (const EngineError& error) {
    const StopReason canceled = request.cancel->load();
    return canceled != StopReason::none ? Ending(canceled) : Ending(error.code, error.what());
  } catch (const std::exception& error) {
    return Ending("INTERNAL", std::string("Sampling failed: ") + error.what());
  }
  if (llama_vocab_is_eog(model_->vocab(), token)) {
    return Ending(StopReason::eos);
  }
  const Stopwatch watch(times_.handover);
  slot.next = token;
  generated.id = token;
  if (request.generated.size() == request.generated_before) {
    request.first_token_at = Clock::now();
  }
  request.generated.push_back(token);
  request.held.push_back(std::move(generated));
  emit(slot, request.text.push(request.piece(*model_, token)));
  if (request.text.stopped()) {
    Ending ending(StopReason::stop);
    ending.stopped_by = request.text.stopped_by();
    return ending;
  }
  if (static_cast<int>(request.generated.size()) == request.max_tokens) {
    return Ending(StopReason::length);
  }
  return std::nullopt;
}

// Sends the oldest held tokens, with these texts.
void Engine::emit(Slot& slot, const std::vector<std::string>& texts) {
  Request& request = *slot.request;
  for (size_t i = 0; i < texts.size(); i++) {
    GeneratedToken token = std::move(request.held.front());
    request.held.pop_front();
    token.text = texts[i];
    std::optional<Mark> mark;
    // Tokens whose texts became certain together can't be told apart again: only the last can be gone on
    // from.
    if (request.marked && i + 1 == texts.size()) {
      mark = Mark{{request.held.begin(), request.held.end()}, *request.draws};
    }
    events_.push_token(request.handle, std::move(token), !request.sent_any, std::move(mark));
    request.sent_any = true;
  }
}

} // namespace rbee
