#include "preparation_pool.h"

#include "errors.h"

#include <algorithm>
#include <utility>

#ifdef __linux__
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace rbee {

namespace {

constexpr size_t small_bytes = 64 * 1024;
constexpr size_t max_queued = 256;
constexpr size_t max_queued_bytes = 128 * 1024 * 1024;

void name_thread() {
#ifdef __linux__
  pthread_setname_np(pthread_self(), "rbee-prepare");
  // Answers that are being generated come first. Where this is refused, they share the cores evenly.
  constexpr int niceness = 5;
  static_cast<void>(setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), niceness));
#endif
}

void set_once(CancelFlag& flag, StopReason reason) {
  StopReason none = StopReason::none;
  flag.compare_exchange_strong(none, reason);
}

} // namespace

PreparationPool::PreparationPool(Done done) : done_(std::move(done)) {
  threads_.emplace_back([this] { serve(/*large_ones=*/false); });
  threads_.emplace_back([this] { serve(/*large_ones=*/true); });
}

PreparationPool::~PreparationPool() {
  close();
}

void PreparationPool::add(std::unique_ptr<Preparation> preparation) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) throw EngineError("NOT_READY", "The model is not loaded.");
    const size_t bytes = preparation->bytes;
    const size_t waiting = small_.size() + large_.size();
    if (waiting >= max_queued || (waiting > 0 && queued_bytes_ + bytes > max_queued_bytes)) {
      throw EngineError("QUEUE_FULL",
                        "Too many texts wait to be tokenised or rendered. Try again in a moment.");
    }
    queued_bytes_ += bytes;
    (bytes <= small_bytes ? small_ : large_).push_back(std::move(preparation));
  }
  changed_.notify_all();
}

bool PreparationPool::cancel(Handle handle, StopReason reason) {
  std::unique_ptr<Preparation> waiting;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto running =
        std::find_if(running_.begin(), running_.end(),
                     [handle](const Preparation* preparation) { return preparation->handle == handle; });
    if (running != running_.end()) {
      set_once(*(*running)->cancel, reason);
      return true;
    }
    waiting = take(small_, handle);
    if (!waiting) waiting = take(large_, handle);
  }
  if (!waiting) return false;
  set_once(*waiting->cancel, reason);
  waiting->run();
  done_(std::move(waiting));
  return true;
}

std::unique_ptr<Preparation> PreparationPool::take(Queue& queue, Handle handle) {
  const auto found = std::find_if(queue.begin(), queue.end(),
                                  [handle](const auto& waiting) { return waiting->handle == handle; });
  if (found == queue.end()) return nullptr;
  std::unique_ptr<Preparation> taken = std::move(*found);
  queue.erase(found);
  queued_bytes_ -= taken->bytes;
  return taken;
}

void PreparationPool::close() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    for (const Preparation* running : running_)
      set_once(*running->cancel, StopReason::canceled);
    for (Queue* queue : {&small_, &large_}) {
      for (const auto& waiting : *queue)
        set_once(*waiting->cancel, StopReason::canceled);
    }
  }
  changed_.notify_all();
  const std::lock_guard<std::mutex> lock(closing_);
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

// Waits for one; null when the pool is closed and none is left.
std::unique_ptr<Preparation> PreparationPool::next(bool large_ones) {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto queue = [&]() -> Queue& { return large_ones && !large_.empty() ? large_ : small_; };
  changed_.wait(lock, [&] { return closed_ || !queue().empty(); });
  Queue& chosen = queue();
  if (chosen.empty()) return nullptr;
  std::unique_ptr<Preparation> taken = std::move(chosen.front());
  chosen.pop_front();
  queued_bytes_ -= taken->bytes;
  running_.push_back(taken.get());
  return taken;
}

void PreparationPool::serve(bool large_ones) {
  name_thread();
  while (std::unique_ptr<Preparation> preparation = next(large_ones)) {
    preparation->run();
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      running_.erase(std::find(running_.begin(), running_.end(), preparation.get()));
    }
    done_(std::move(preparation));
  }
}

} // namespace rbee
