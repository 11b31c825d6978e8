// Threads for what a request brings before it can be computed: tokenising, rendering, building samplers. That
// may take long, and callers choose how long; so it runs on few threads, at a lower priority than the engine,
// and never on JavaScript's.
#pragma once

#include "events.h"
#include "request.h"

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace rbee {

// One piece of work. `run` is called once, on any thread, even when it was canceled while it waited: then it
// has to come to its end at once.
class Preparation {
 public:
  Preparation(Handle handle, size_t bytes, std::shared_ptr<CancelFlag> cancel)
      : handle(handle), bytes(bytes), cancel(std::move(cancel)) {}
  virtual ~Preparation() = default;
  Preparation(const Preparation&) = delete;
  Preparation& operator=(const Preparation&) = delete;

  virtual void run() noexcept = 0;

  const Handle handle; // by which it can be canceled
  const size_t bytes;  // of its input
  const std::shared_ptr<CancelFlag> cancel;
};

// Runs the small ones on a thread of their own, so that they do not wait behind large ones; each kind in the
// order in which it came.
class PreparationPool {
 public:
  using Done = std::function<void(std::unique_ptr<Preparation>)>;

  // `done` takes every preparation that ran, on the thread that ran it.
  explicit PreparationPool(Done done);
  ~PreparationPool();
  PreparationPool(const PreparationPool&) = delete;
  PreparationPool& operator=(const PreparationPool&) = delete;

  // Queues it. Throws EngineError: QUEUE_FULL, or NOT_READY when the pool is closed; `done` never sees it
  // then.
  void add(std::unique_ptr<Preparation> preparation);
  // Ends the one of this handle: now when it waits, soon when it runs. Returns false when there is none.
  bool cancel(Handle handle, StopReason reason);
  // Cancels all, waits until they came to their end, and takes no more. Idempotent.
  void close();

 private:
  using Queue = std::deque<std::unique_ptr<Preparation>>;

  void serve(bool large_ones);
  std::unique_ptr<Preparation> next(bool large_ones);
  std::unique_ptr<Preparation> take(Queue& queue, Handle handle);

  Done done_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Queue small_;
  Queue large_;
  size_t queued_bytes_ = 0;
  std::vector<const Preparation*> running_;
  bool closed_ = false;
  std::mutex closing_; // held by whoever joins the threads
  std::vector<std::thread> threads_;
};

} // namespace rbee
