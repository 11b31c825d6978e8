// How prompts share a step.
#include "step_plan.h"

#include "expect_test.h"

#include <algorithm>
#include <numeric>
#include <random>

namespace {

using rbee::reused_tokens;
using rbee::share_prompt_tokens;
using rbee::StepLimits;

constexpr StepLimits tiles{128, 64, true};
constexpr StepLimits plain{512, 128, false};

std::string text(const std::vector<int>& numbers) {
  std::string all;
  for (const int number : numbers) {
    all += std::to_string(number) + " ";
  }
  return all;
}

void is(const std::vector<int>& got, const std::vector<int>& wanted, const char* what) {
  expect(got == wanted, what, text(got));
}

void a_prompt_alone_takes_whole_steps() {
  is(share_prompt_tokens(plain, 0, {1500}), {512}, "a long prompt alone fills a step");
  is(share_prompt_tokens(plain, 0, {33}), {33}, "without tiles any count is as good as another");
  is(share_prompt_tokens(tiles, 0, {1500}), {128}, "with tiles as well");
  is(share_prompt_tokens(tiles, 0, {50}), {32}, "a rest keeps to whole tiles");
  is(share_prompt_tokens(tiles, 0, {18}), {16}, "then to half a tile");
  is(share_prompt_tokens(tiles, 0, {2}), {2}, "then it is read as it is");
}

void others_do_not_wait_long() {
  is(share_prompt_tokens(tiles, 1, {1500}), {63}, "beside one that generates, whole tiles with its row");
  is(share_prompt_tokens(tiles, 0, {2, 1500}), {2, 62}, "a short prompt is read whole beside a long one");
  is(share_prompt_tokens(plain, 100, {1500}), {28}, "what generates comes first");
  is(share_prompt_tokens(tiles, 16, {1}), {1}, "a prompt gets a token though it is over a half tile");
  is(share_prompt_tokens(tiles, 200, {9, 9}), {1, 0}, "and though there is no room at all");
}

void reuse_is(const StepLimits& limits, size_t cached, size_t tokens, size_t wanted, const char* what) {
  const size_t got = reused_tokens(limits, cached, tokens);
  expect(got == wanted, what, std::to_string(got));
}

void a_cached_beginning_is_reused() {
  reuse_is(plain, 1, 512, 1, "without tiles all of it");
  reuse_is(tiles, 1, 512, 0, "with tiles one token less makes four whole steps of the rest");
  reuse_is(tiles, 100, 212, 100, "half a tile over is read well by itself");
  reuse_is(tiles, 400, 420, 400, "a short rest is read as it is");
  reuse_is(tiles, 5, 5 + 116, 5, "what is not cached cannot be read again");
  reuse_is(tiles, 0, 511, 0, "nor without a cache");
}

void every_plan_holds() {
  std::mt19937 random(7);
  for (int round = 0; round < 20000; round++) {
    const StepLimits& limits = round % 2 == 0 ? tiles : plain;
    const int taken = static_cast<int>(random() % 40);
    std::vector<int> rests(random() % 12);
    for (int& rest : rests) {
      rest = 1 + static_cast<int>(random() % (round % 5 == 0 ? 3000 : 60));
    }
    std::sort(rests.begin(), rests.end());
    const std::vector<int> shares = share_prompt_tokens(limits, taken, rests);
    const int sum = std::accumulate(shares.begin(), shares.end(), 0);
    expect(shares.size() == rests.size(), "everybody has a share", text(shares));
    expect(rests.empty() || sum > 0, "something is read", text(shares));
    expect(taken + sum <= std::max(limits.alone, taken + 1), "the step's limit holds", text(shares));
    for (size_t i = 0; i < shares.size(); i++) {
      expect(shares[i] >= 0 && shares[i] <= rests[i], "nobody reads more than there is", text(shares));
    }
    if (limits.tiles && taken <= 15 && sum > 1) {
      const int rows = taken + sum;
      expect(rows <= 16 || rows % 32 == 0, "rows are such as tiles compute well", std::to_string(rows));
    }
  }
}

} // namespace

void step_plan_tests() {
  a_prompt_alone_takes_whole_steps();
  others_do_not_wait_long();
  a_cached_beginning_is_reused();
  every_plan_holds();
}
