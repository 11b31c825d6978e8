// Bounds on work that follows a stranger's input: grammars, schemas, chat templates and answers. llama.cpp
// does that work without bounds, so they are kept where it must pass: in every allocation (allocation.cpp),
// and in the loops and recursions that allocate nothing (compat/).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstring>
#include <ctime>
#include <exception>
#include <functional>
#include <new>
#include <string>
#include <utility>

namespace rbee {

// CPU time that this thread has used.
inline std::chrono::nanoseconds thread_cpu_time() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

// The lowest address of this thread's stack that may be used safely. Asks the system once a thread.
const char* stack_floor();

enum class Spent { nothing, time, memory, stack, canceled };

// Thrown by what has no budget left. An allocation may throw it, so it is a bad_alloc.
class BudgetExhausted : public std::bad_alloc {
 public:
  const char* what() const noexcept override { return "the budget is exhausted"; }
};

struct BudgetLimits {
  std::chrono::nanoseconds cpu_time;
  ptrdiff_t bytes; // more than were held at its beginning
  // Asked now and then; true ends the work. Empty: nobody cancels.
  std::function<bool()> canceled = {};
};

// Work under a sanitizer takes longer, and the same of it has to fit.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr int time_factor = 4;
#else
inline constexpr int time_factor = 1;
#endif

// What this thread may use while the budget lives. Once it is exhausted, everything that asks throws, except
// while an exception is on its way. Code between may swallow the exception, so look at `spent` at the end.
class Budget {
 public:
  explicit Budget(BudgetLimits limits)
      : limits_(std::move(limits)), end_(thread_cpu_time() + time_factor * limits_.cpu_time),
        floor_(stack_floor()), outer_(current_) {
    current_ = this;
  }
  ~Budget() { current_ = outer_; }
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  Spent spent() const { return spent_; }
  // More bytes are held than at the beginning.
  ptrdiff_t bytes() const { return bytes_; }
  std::chrono::nanoseconds cpu_time() const {
    return thread_cpu_time() - (end_ - time_factor * limits_.cpu_time);
  }

  // This thread's, or null.
  static Budget* current() { return current_; }

  // Takes work of about `units` nanoseconds from this thread's budget, if it has one.
  static void spend(size_t units) {
    if (current_ != nullptr) current_->take_time(units);
  }

  void take_time(size_t units) {
    // Not a variable's address: the address sanitizer keeps variables elsewhere.
    if (static_cast<const char*>(__builtin_frame_address(0)) < floor_) exhaust(Spent::stack);
    if (units < units_left_ && spent_ == Spent::nothing) {
      units_left_ -= units;
      return;
    }
    units_left_ = units_per_look;
    look();
  }

  void take_bytes(size_t bytes) {
    if (static_cast<ptrdiff_t>(bytes) > limits_.bytes - bytes_) exhaust(Spent::memory);
    take_time(allocation_units + bytes / bytes_per_unit);
  }

  void count_bytes(ptrdiff_t bytes) { bytes_ += bytes; }

 private:
  friend class BudgetPause;

  static constexpr size_t units_per_look = 50000;
  static constexpr size_t allocation_units = 50;
  static constexpr size_t bytes_per_unit = 8;

  void look() {
    if (spent_ != Spent::nothing) exhaust(spent_);
    if (limits_.canceled && limits_.canceled()) exhaust(Spent::canceled);
    if (thread_cpu_time() > end_) exhaust(Spent::time);
  }

  void exhaust(Spent spent) {
    if (spent_ == Spent::nothing) spent_ = spent;
    if (paused_ == 0 && std::uncaught_exceptions() == 0) throw BudgetExhausted();
  }

  static inline thread_local Budget* current_ = nullptr;

  const BudgetLimits limits_;
  const std::chrono::nanoseconds end_;
  const char* const floor_;
  Budget* const outer_;
  Spent spent_ = Spent::nothing;
  ptrdiff_t bytes_ = 0;
  size_t units_left_ = units_per_look;
  int paused_ = 0;
};

// While it lives nothing throws for want of budget: around what must not fail.
class BudgetPause {
 public:
  BudgetPause() : budget_(Budget::current_) {
    if (budget_ != nullptr) budget_->paused_++;
  }
  ~BudgetPause() {
    if (budget_ != nullptr) budget_->paused_--;
  }
  BudgetPause(const BudgetPause&) = delete;
  BudgetPause& operator=(const BudgetPause&) = delete;

 private:
  Budget* const budget_;
};

// std::string::find in linear time, whatever is looked for.
inline size_t find_text(const std::string& text, const std::string& word, size_t from = 0) {
  if (from > text.size()) return std::string::npos;
  const void* found = memmem(text.data() + from, text.size() - from, word.data(), word.size());
  return found == nullptr ? std::string::npos
                          : static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

} // namespace rbee
