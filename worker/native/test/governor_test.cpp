// What guessing may cost, in simulated answers.
#include "governor.h"

#include "expect_test.h"

#include <random>

namespace {

using rbee::Governor;

// An answer of 2,000 tokens whose steps of n rows take 1 + cost * (n - 1) ms. Each token of a guess is right
// with probability `right`. Returns how many times as fast it is as without guesses.
double speedup(Governor& governor, double cost, double right, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> chance(0, 1);
  constexpr int tokens = 2000;
  double ms = 0;
  for (int done = 0; done < tokens;) {
    const int length = governor.length();
    const double step = 1 + cost * length;
    int accepted = 0;
    while (accepted < length && chance(random) < right) {
      accepted++;
    }
    if (length == 0) {
      governor.plain_step(step);
    } else {
      governor.drafted_step(length, accepted, step);
    }
    ms += step;
    done += accepted + 1;
  }
  return tokens / ms;
}

void wrong_guesses_cost_next_to_nothing() {
  for (const double cost : {0.05, 0.2, 0.5, 1.0, 3.0}) {
    Governor governor;
    const double times = speedup(governor, cost, 0, 1);
    expect(times >= 0.97, "guesses that are always wrong cost less than 3 percent", std::to_string(times));
  }
}

void right_guesses_pay() {
  Governor governor;
  const double times = speedup(governor, 0.15, 0.95, 2);
  expect(times >= 2, "guesses that are nearly always right double the speed", std::to_string(times));
}

void whatever_the_guesses_are_nothing_is_lost() {
  for (unsigned seed = 0; seed < 200; seed++) {
    Governor governor;
    const double right = (seed % 21) / 20.0;
    const double cost = 0.02 + (seed % 7) * 0.2;
    const double times = speedup(governor, cost, right, seed);
    expect(times >= 0.97, "no rate of right guesses makes an answer slower", std::to_string(times));
    const double after = speedup(governor, cost, 0, seed + 1000);
    expect(after >= 0.96, "nor does a wrong streak after a right one", std::to_string(after));
  }
}

} // namespace

void governor_tests() {
  wrong_guesses_cost_next_to_nothing();
  right_guesses_pay();
  whatever_the_guesses_are_nothing_is_lost();
}
