// The hot loop: one thread that owns the llama_context and decodes all running sequences together, step by
// step.
#pragma once

#include "batch.h"
#include "context.h"
#include "events.h"
#include "governor.h"
#include "model.h"
#include "prefix_blocks.h"
#include "request.h"
#include "sequence_state.h"
#include "speculation.h"
#include "step_clock.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

namespace rbee {

// Where the engine thread's time went since the start, in nanoseconds.
struct EngineTimes {
  std::atomic<uint64_t> step{0};     // computing, guessing included
  std::atomic<uint64_t> sampling{0}; // choosing tokens
  std::atomic<uint64_t> handover{0}; // making text of them and queueing it for JavaScript
};

class Engine {
 public:
  // Creates the context and starts the thread. `draft_model` guesses ahead, or is null. `wake` is called from
  // that thread when events are to be taken. Throws EngineError: INVALID_REQUEST, INVALID_MODEL,
  // INSUFFICIENT_RAM.
  Engine(std::unique_ptr<Model> model, std::unique_ptr<Model> draft_model, const EngineOptions& options,
         std::function<void()> wake);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const Model& model() const { return *model_; }
  int slots() const { return static_cast<int>(slots_.size()); }
  int context() const { return context_.slot_tokens(); }
  RequestLimits limits() const {
    const std::optional<StateFormat>& format = context_.state_format();
    return {context(), llama_vocab_n_tokens(model_->vocab()), !options_.kv_unified,
            format ? &*format : nullptr};
  }
  MemoryUse memory() const;
  const EngineTimes& times() const { return times_; }
  Heartbeat heartbeat() const { return clock_.heartbeat(); }
  // What ended the thread before its time, as a sentence; empty while it runs. Every request ends with an
  // error then.
  std::string failure();

  // Announces a request, so that it can be canceled while it is still being prepared.
  std::shared_ptr<CancelFlag> announce(Handle handle);
  // Takes back an announced request that was never submitted.
  void withdraw(Handle handle);
  // Ends an announced request that was canceled before it could be submitted: its ending comes as an event.
  void end_unprepared(Handle handle, StopReason reason);
  // Hands a prepared request to the engine thread. Its ending will come as an event, whatever happens.
  void submit(std::unique_ptr<Request> request);
  // Ends a request with `reason`. Idempotent; returns false when it is not known (any more).
  bool cancel(Handle handle, StopReason reason);

  // What another engine with the same model needs to go on with an answer; nullopt when it is not running.
  // With `stop` the answer ends here, as canceled, and every further token is the other engine's. Blocks for
  // a step.
  std::optional<SequenceState> export_sequence(Handle handle, bool with_kv, bool stop);

  // `prefix_blocks` of everything that the slots hold. Blocks for a step.
  std::vector<uint64_t> held_blocks();

  std::vector<Event> take_events() { return events_.take(); }

  // Cancels everything, stops the thread, waits for it. Idempotent; blocks for one step at most.
  void close();

 private:
  struct Slot {
    llama_seq_id id = 0;
    std::unique_ptr<Request> request;    // null: free
    std::vector<llama_token> cache;      // tokens whose state is in the context's memory
    uint64_t cache_scope = 0;            // of the requests that they were computed for
    bool drafted_along = true;           // the draft model's memory holds the same
    size_t prompt_done = 0;              // of the request's prompt, cached tokens included
    llama_token next = LLAMA_TOKEN_NULL; // sampled, not decoded yet
    llama_tokens draft;                  // guesses behind it in this step
    int accepted = 0;                    // of them
    int batch_index = -1;                // where this step's logits begin
    int chunk = 0;                       // prompt tokens in this step
    uint64_t last_used = 0;

    bool generating() const { return request && prompt_done == request->prompt.size(); }
    bool reading() const { return request && prompt_done < request->prompt.size(); }
    // What is left to be read before something changes. An answer that can be repeated is gone on with as it
    // was generated: its prompt by itself, then one token a step.
    size_t rest() const {
      if (!request->repeatable || request->generated_before == 0) return request->prompt.size() - prompt_done;
      return prompt_done < request->prompt_tokens ? request->prompt_tokens - prompt_done : 1;
    }
    // Tokens that it may come to hold.
    size_t reserved() const { return request ? request->total_tokens() : cache.size(); }
  };

  struct Export {
    Handle handle;
    bool with_kv;
    bool stop;
    std::promise<std::optional<SequenceState>> state;
  };

  using Slots = std::vector<Slot*>;

  // engine.cpp: requests come and go
  void run();
  void serve();
  void end_all(const Ending& ending);
  bool receive();
  void start(std::unique_ptr<Request> request);
  void export_slot(Export& wanted);
  void end_canceled();
  void finish(Slot& slot, Ending ending, bool hand_out_held = true);
  void refuse(const Request& request, Ending ending);
  bool should_abort() const;

  // engine_cache.cpp: what the slots hold
  bool make_room();
  void take_over_cache(Slot& slot, size_t shared);
  bool import_kv(Slot& slot);
  void forget(Slot& slot, size_t keep);
  std::vector<uint64_t> blocks_of_slots() const;

  // engine_step.cpp: what they have computed
  void compute(const Slots& slots);
  void fill_batch(const Slots& slots);
  void add_guesses(const Slots& generating);
  void add_to_batch(Slot& slot, llama_token token, bool output);
  void step(const Slots& slots);
  void decode_failed(const Slots& slots, int status);
  void learn(const Slots& slots, double ms);
  void stall_for_test(const Slots& slots) const;
  void sample_all(Slots& slots);
  void sample(Slot& slot);
  llama_token choose(Request& request, int row);
  std::optional<Ending> sample_row(Slot& slot, int row);
  void emit(Slot& slot, const std::vector<std::string>& texts);

  EngineOptions options_;
  std::unique_ptr<Model> model_;
  Context context_;
  std::unique_ptr<DraftModel> draft_model_; // null: none
  std::vector<Slot> slots_;
  uint64_t uses_ = 0;
  EventQueue events_;
  Governor governor_;
  EngineTimes times_;
  StepClock clock_;
  std::string stall_file_; // of tests; empty: none
  // Of CPU time, what the answer in hand may still use in this step.
  std::chrono::nanoseconds sampling_limit_{0};

  Batch batch_;
  // Flags of the requests in the step that is being computed; read by the abort callback on the same thread.
  std::vector<std::shared_ptr<CancelFlag>> in_step_;

  std::mutex mutex_;
  std::condition_variable work_;
  std::vector<std::unique_ptr<Request>> incoming_;
  std::deque<std::unique_ptr<Request>> received_; // of the engine thread: taken from there, not started yet
  std::vector<Export> exports_;
  std::vector<std::promise<std::vector<uint64_t>>> looks_; // at what the slots hold
  std::unordered_map<Handle, std::shared_ptr<CancelFlag>> flags_;
  std::atomic<bool> closing_{false};
  std::string failure_;
  std::thread thread_;
};

} // namespace rbee
