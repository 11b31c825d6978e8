// The hot loop: one thread that owns the llama_context and decodes all running sequences together, step by
// step.
#pragma once

#include "context.h"
#include "events.h"
#include "model.h"
#include "request.h"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

namespace rbee {

// The tokens of one step.
struct Batch : llama_batch {
  explicit Batch(int capacity) : llama_batch(llama_batch_init(capacity, 0, 1)) {}
  ~Batch() { llama_batch_free(*this); }
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;
};

class Engine {
 public:
  // Creates the context and starts the thread. `wake` is called from that thread when events are to be taken.
  // Throws EngineError: INVALID_REQUEST, INSUFFICIENT_RAM.
  Engine(std::unique_ptr<Model> model, const EngineOptions& options, std::function<void()> wake);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const Model& model() const { return *model_; }
  int slots() const { return static_cast<int>(slots_.size()); }
  int context() const { return context_.slot_tokens(); }
  MemoryUse memory() const { return context_.memory(); }

  // Announces a request, so that it can be canceled while it is still being prepared.
  std::shared_ptr<CancelFlag> announce(Handle handle);
  // Takes back an announced request that was never submitted.
  void withdraw(Handle handle);
  // Hands a prepared request to the engine thread. Its ending will come as an event, whatever happens.
  void submit(std::unique_ptr<Request> request);
  // Ends a request with `reason`. Idempotent; returns false when it is not known (any more).
  bool cancel(Handle handle, StopReason reason);

  std::vector<Event> take_events() { return events_.take(); }

  // Cancels everything, stops the thread, waits for it. Idempotent; blocks for one step at most.
  void close();

 private:
  struct Slot {
    llama_seq_id id = 0;
    std::unique_ptr<Request> request;    // null: free
    std::vector<llama_token> cache;      // tokens whose state is in the context's memory
    size_t prompt_done = 0;              // of the request's prompt, cached tokens included
    llama_token next = LLAMA_TOKEN_NULL; // sampled, not decoded yet
    int batch_index = -1;                // where this step's logits are
    int chunk = 0;                       // prompt tokens in this step
    uint64_t last_used = 0;

    bool generating() const { return request && prompt_done == request->prompt.size(); }
    bool reading() const { return request && prompt_done < request->prompt.size(); }
  };

  void run();
  bool receive();
  void start(std::unique_ptr<Request> request);
  void reuse_cache(Slot& slot);
  void end_canceled();
  void fill_batch();
  void add_to_batch(Slot& slot, llama_token token, bool output);
  void step();
  void decode_failed(int status);
  void sample(Slot& slot);
  void emit(Slot& slot, const std::vector<std::string>& texts);
  void finish(Slot& slot, Ending ending);
  void refuse(Handle handle, Ending ending);
  bool should_abort() const;
  void forget(Slot& slot, size_t keep);

  std::unique_ptr<Model> model_;
  Context context_;
  std::vector<Slot> slots_;
  uint64_t uses_ = 0;
  EventQueue events_;

  Batch batch_;
  // Flags of the requests in the step that is being computed; read by the abort callback on the same thread.
  std::vector<std::shared_ptr<CancelFlag>> in_step_;

  std::mutex mutex_;
  std::condition_variable work_;
  std::vector<std::unique_ptr<Request>> incoming_;
  std::unordered_map<Handle, std::shared_ptr<CancelFlag>> flags_;
  std::atomic<bool> closing_{false};
  std::thread thread_;
};

} // namespace rbee
