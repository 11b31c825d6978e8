#include "step_clock.h"

#include <algorithm>
#include <chrono>

namespace rbee {

namespace {

// A step that takes that many times as long as was to be expected is stuck, but none before the least limit:
// a machine may be slow, or busy with something else, for a while.
constexpr double patience = 10;
constexpr double least_limit_ms = 5000;
// Steps of so many rows take about as long as those of one.
constexpr int few_rows = 8;

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

double ms_since(int64_t ns) {
  constexpr double ns_per_ms = 1e6;
  return static_cast<double>(std::max<int64_t>(0, now_ns() - ns)) / ns_per_ms;
}

} // namespace

// Rises faster than it falls, because a step that is slower than the last ones is no reason to end the
// worker. But a single step that was held up by something else must not make the limit a minute long.
void StepClock::Measure::learn(double measured) {
  constexpr double share = 0.25;
  constexpr double largest_rise = 2;
  if (guessed) {
    ms = measured;
  } else {
    ms = measured > ms ? std::min(measured, largest_rise * ms) : ms + (measured - ms) * share;
  }
  guessed = false;
}

StepClock::StepClock(double row_ms) : step_{row_ms}, row_{row_ms}, limit_ms_(0) {
  limit_ms_ = std::max(least_limit_ms, patience * expected_ms(0));
}

double StepClock::expected_ms(int rows) const {
  return step_.ms + (rows > few_rows ? row_.ms * rows : 0);
}

void StepClock::begin(int rows) {
  rows_ = rows;
  limit_ms_.store(std::max(least_limit_ms, patience * expected_ms(rows)), std::memory_order_relaxed);
  began_ns_.store(now_ns(), std::memory_order_relaxed);
}

void StepClock::end() {
  const double took = ms_since(began_ns_.load(std::memory_order_relaxed));
  if (rows_ > few_rows) {
    row_.learn(took / rows_);
  } else if (rows_ > 0) {
    step_.learn(took);
  }
  ended_ns_.store(now_ns(), std::memory_order_relaxed);
}

void StepClock::wait() {
  began_ns_.store(0, std::memory_order_relaxed);
}

Heartbeat StepClock::heartbeat() const {
  Heartbeat beat{{}, {}, limit_ms_.load(std::memory_order_relaxed)};
  const int64_t began = began_ns_.load(std::memory_order_relaxed);
  const int64_t ended = ended_ns_.load(std::memory_order_relaxed);
  if (began != 0) beat.step_ms = ms_since(began);
  if (ended != 0) beat.last_step_ms = ms_since(ended);
  return beat;
}

} // namespace rbee
