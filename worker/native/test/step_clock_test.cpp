#include "expect_test.h"
#include "step_clock.h"

#include <chrono>
#include <thread>

namespace {

using rbee::Heartbeat;
using rbee::StepClock;

void has_nothing_to_tell_at_first() {
  const Heartbeat beat = StepClock(1).heartbeat();
  expect(!beat.step_ms && !beat.last_step_ms, "no step was made yet", "");
  expect(beat.limit_ms == 5000, "a fast machine has the least limit", std::to_string(beat.limit_ms));
}

void tells_the_age_of_a_step_and_of_the_last() {
  StepClock clock(1);
  clock.begin(1);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const Heartbeat within = clock.heartbeat();
  expect(within.step_ms && *within.step_ms >= 20, "the step grows old",
         std::to_string(within.step_ms.value_or(-1)));
  expect(!within.last_step_ms, "none has ended", "");
  clock.end();
  clock.wait();
  const Heartbeat after = clock.heartbeat();
  expect(!after.step_ms, "no step is under way while it waits", "");
  expect(after.last_step_ms && *after.last_step_ms >= 0, "one has ended", "");
}

void allows_for_slow_machines_and_for_many_rows() {
  StepClock slow(2000);
  slow.begin(1);
  expect(slow.heartbeat().limit_ms >= 20000, "a slow machine has more time", "");
  slow.begin(128);
  expect(slow.heartbeat().limit_ms >= 128 * 2000, "and more for more rows", "");
  // What is measured takes the place of what was guessed.
  slow.begin(128);
  slow.end();
  slow.begin(1);
  slow.end();
  slow.begin(128);
  expect(slow.heartbeat().limit_ms == 5000, "a guess is forgotten",
         std::to_string(slow.heartbeat().limit_ms));
}

} // namespace

void step_clock_tests() {
  has_nothing_to_tell_at_first();
  tells_the_age_of_a_step_and_of_the_last();
  allows_for_slow_machines_and_for_many_rows();
}
