// Tells whether the thread that computes still makes steps: how old the present one is, and past which age
// something must be wrong with it.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

namespace rbee {

struct Heartbeat {
  std::optional<double> step_ms;      // age of the step under way; none: the thread waits for work
  std::optional<double> last_step_ms; // since the end of the last step; none: there was none yet
  double limit_ms;                    // a step older than that is stuck
};

// One thread tells it of its steps, any thread may ask.
class StepClock {
 public:
  // `row_ms`: what a step of one row takes, as long as nothing better is known.
  explicit StepClock(double row_ms);

  // A step of so many rows begins. Whoever prepares it may do so before the rows are known, with 0.
  void begin(int rows);
  // It came to its end; what it took is learnt from.
  void end();
  // There is nothing to do.
  void wait();

  Heartbeat heartbeat() const;

 private:
  struct Measure {
    double ms;
    bool guessed = true;
    void learn(double measured);
  };

  double expected_ms(int rows) const;

  // Of the thread that computes alone.
  Measure step_; // of few rows
  Measure row_;  // of a step of many
  int rows_ = 0;

  std::atomic<int64_t> began_ns_{0}; // 0: no step is under way
  std::atomic<int64_t> ended_ns_{0}; // 0: none has ended yet
  std::atomic<double> limit_ms_;
};

} // namespace rbee
