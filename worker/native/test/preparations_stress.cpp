#include "preparations_stress.h"

#include "engine.h"
#include "errors.h"
#include "preparation_pool.h"
#include "tokenizing.h"

#include <chrono>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>

namespace rbee::stress {

namespace {

std::unique_ptr<Engine> engine_of(const std::string& path, std::function<void()> wake) {
  ModelOptions options;
  options.path = path;
  const std::atomic<bool> cancel{false};
  EngineOptions small;
  small.threads = 1;
  small.ctx_size = 256;
  return std::make_unique<Engine>(std::make_unique<Model>(
                                      options, [](LoadProgress) {}, cancel),
                                  nullptr, small, std::move(wake));
}

// As the addon prepares a request.
class Submission : public Preparation {
 public:
  Submission(Engine& engine, Handle handle, std::string prompt)
      : Preparation(handle, prompt.size(), engine.announce(handle)), engine_(engine) {
    options_.prompt = std::move(prompt);
    options_.default_max_tokens = 8;
  }

  void run() noexcept override {
    const TokenizingCancel scope(*cancel);
    try {
      engine_.submit(prepare_request(engine_.model(), engine_.limits(), handle, cancel, std::move(options_)));
    } catch (...) {
      engine_.end_unprepared(handle, StopReason::canceled);
    }
  }

 private:
  Engine& engine_;
  RequestOptions options_;
};

} // namespace

void close_while_preparing(const std::string& path, Random& random, Totals& totals) {
  constexpr int requests = 60;
  std::atomic<int> wakes{0};
  std::atomic<int> done{0};
  int accepted = 0;
  const auto engine = engine_of(path, [&wakes] { wakes++; });
  {
    PreparationPool pool([&done](std::unique_ptr<Preparation>) { done++; });
    for (Handle handle = 1; handle <= requests; handle++) {
      const size_t bytes = random.chance(50) ? 400'000 : 40;
      try {
        pool.add(std::make_unique<Submission>(*engine, handle,
                                              std::string(bytes, random.chance(50) ? 'a' : '\xF0')));
        accepted++;
      } catch (const EngineError&) {
        engine->withdraw(handle); // the queue is full
      }
      if (random.chance(20))
        pool.cancel(1 + static_cast<Handle>(random.below(requests)), StopReason::canceled);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random.below(5'000)));
    // In this order: nothing may reach the engine's listener once it is closed.
    pool.close();
    engine->close();
  }
  const int wakes_at_close = wakes;
  std::map<Handle, int> endings;
  for (const Event& event : engine->take_events()) {
    if (event.ending) endings[event.handle]++;
  }
  if (done != accepted) totals.fail("a preparation was lost");
  if (endings.size() != static_cast<size_t>(accepted)) totals.fail("a request has no ending");
  if (wakes != wakes_at_close) totals.fail("something came after the close");
  totals.count("closed while preparing");
}

void fail_while_generating(const std::string& path, Totals& totals) {
  std::mutex mutex;
  std::condition_variable woken;
  int wakes = 0;
  const auto engine = engine_of(path, [&] {
    const std::lock_guard<std::mutex> lock(mutex);
    wakes++;
    woken.notify_all();
    if (wakes == 2) throw std::logic_error("the listener broke");
  });
  const auto submit = [&](Handle handle) {
    RequestOptions options;
    options.prompt = "Once upon a time";
    options.default_max_tokens = 200;
    const auto cancel = engine->announce(handle);
    engine->submit(prepare_request(engine->model(), engine->limits(), handle, cancel, options));
  };
  const auto await_wakes = [&](int count) {
    std::unique_lock<std::mutex> lock(mutex);
    woken.wait(lock, [&] { return wakes >= count; });
  };
  const auto ending_of = [&](Handle handle) {
    std::string code;
    for (const Event& event : engine->take_events()) {
      if (event.handle == handle && event.ending) code = event.ending->error_code;
    }
    return code;
  };
  submit(1);
  await_wakes(1); // the first token
  engine->take_events();
  await_wakes(3); // the broken one, and the ending
  if (ending_of(1) != "INTERNAL") totals.fail("a request of a failed thread has no ending");
  if (engine->failure().find("the listener broke") == std::string::npos)
    totals.fail("the failure is not told");
  submit(2);
  if (ending_of(2) != "INTERNAL") totals.fail("a failed engine takes requests");
  if (engine->export_sequence(1, true, true) || !engine->held_blocks().empty()) {
    totals.fail("a failed engine has something to tell");
  }
  engine->close();
  totals.count("failed threads");
}

} // namespace rbee::stress
