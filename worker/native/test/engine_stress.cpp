// Stresses the engine without a JavaScript runtime, made for the sanitizers. Uses it as addon.cpp does: some
// threads announce, prepare and submit requests, others cancel them and ask for figures, one takes the
// events; engines are made and closed one after another, half of them with requests in flight.
//
//   engine_stress [--seconds N] [--seed N] MODEL...
//
// Ends with one line of counts on stdout; exit status 1 when something was wrong, 2 for a wrong command line.
#include "conversation.h"
#include "engine.h"
#include "errors.h"
#include "ledger_stress.h"
#include "native_log.h"
#include "preparations_stress.h"
#include "requests_stress.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace rbee::stress {

namespace {

constexpr int submitters = 3;
constexpr int meddlers = 2;
constexpr int slots = 8;
constexpr int longest_round_ms = 2000;

// A thread-safe function as the addon has one: carries nothing but the news that there is some.
class Bell {
 public:
  void ring() {
    const std::lock_guard<std::mutex> lock(mutex_);
    rung_ = true;
    changed_.notify_one();
  }
  void close() {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    changed_.notify_one();
  }
  // Waits for a ring; false when there will be none.
  bool wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return rung_ || closed_; });
    return std::exchange(rung_, false) || !closed_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool rung_ = false;
  bool closed_ = false;
};

// What the threads of one round share.
struct Round {
  Engine& engine;
  Ledger& ledger;
  Totals& totals;
  int limit; // of open requests
  std::atomic<bool> over{false};
  std::mutex mutex;
  std::vector<SequenceState> exported; // to be gone on with
};

// Every now and then an answer that was exported goes on instead of a new one.
void maybe_resume(Round& round, Random& random, Wish& wish) {
  const std::lock_guard<std::mutex> lock(round.mutex);
  if (wish.refused || round.exported.empty() || !random.chance(50)) return;
  wish.options = {};
  wish.options.resume = std::move(round.exported.back());
  round.exported.pop_back();
}

// Returns false when no more requests are wanted.
bool submit_one(Round& round, Random& random, Wish wish) {
  const Handle handle = round.ledger.open(round.limit);
  if (handle == 0) return false;
  Engine& engine = round.engine;
  maybe_resume(round, random, wish);
  auto flag = engine.announce(handle);
  if (random.chance(5)) engine.cancel(handle, StopReason::canceled);
  try {
    auto request = prepare_request(engine.model(), engine.limits(), handle, flag, wish.options);
    // One that was canceled first is not looked at any more: its ending says so.
    if (wish.refused && flag->load() == StopReason::none) round.totals.fail("a wrong request was accepted");
    round.ledger.prepared(*request, wish.options);
    engine.submit(std::move(request));
  } catch (const EngineError& error) {
    engine.withdraw(handle);
    round.ledger.refused(handle);
    if (!wish.refused) round.totals.fail("a request was refused: " + error.code + ": " + error.what());
  }
  return true;
}

// What other threads do to an engine that generates, by its share in a hundred.
struct Action {
  int percent;
  void (*run)(Round& round, Random& random);
};

constexpr Action actions[] = {
    {30,
     [](Round& round, Random& random) {
       const StopReason reason = random.chance(50) ? StopReason::canceled : StopReason::deadline;
       round.engine.cancel(round.ledger.any(random), reason);
     }},
    {10,
     [](Round& round, Random&) {
       if (round.engine.cancel(4'000'000'000, StopReason::canceled)) {
         round.totals.fail("a request that never was could be canceled");
       }
     }},
    {10,
     [](Round& round, Random& random) {
       const Handle handle = round.ledger.any(random);
       auto state = round.engine.export_sequence(handle, random.chance(70), random.chance(30));
       // What others held back for a stop string or a grammar is not known here, so those stay where they
       // are.
       if (!state || !state->held.empty() || !round.ledger.is_plain(handle)) return;
       round.totals.count("exported");
       const std::lock_guard<std::mutex> lock(round.mutex);
       round.exported.push_back(std::move(*state));
     }},
    {10,
     [](Round& round, Random&) {
       if (round.engine.memory().kv + round.engine.memory().compute == 0) {
         round.totals.fail("an engine uses no memory");
       }
     }},
    {5, [](Round& round, Random&) { round.engine.held_blocks(); }},
    {35,
     [](Round& round, Random&) {
       const Model& model = round.engine.model();
       model.detokenize(model.tokenize("The 3 bees \xF0\x9F\x90\x9D", true, true));
       if (model.has_chat_template()) {
         render_conversation(model, R"({"messages":[{"role":"user","content":"Hello."}]})");
       }
     }},
};

void meddle(Round& round, Random random) {
  while (!round.over) {
    int dice = random.below(100);
    for (const Action& action : actions) {
      if ((dice -= action.percent) >= 0) continue;
      action.run(round, random);
      break;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random.below(40'000)));
  }
}

void submit_all(Round& round, Random random) {
  Requests requests(random, round.engine.model(), round.engine.context());
  while (submit_one(round, random, requests.draw())) {
  }
}

// Every slot answers at once when nothing else is going on: none was lost.
void check_slots(Round& round, Random& random) {
  round.ledger.may_be_busy = false;
  round.limit = round.engine.slots();
  round.ledger.resume();
  for (int i = 0; i < round.limit; i++) {
    Wish wish;
    wish.options.prompt = "Once upon a time";
    wish.options.max_tokens = 4;
    submit_one(round, random, wish);
  }
  if (!round.ledger.drained()) round.totals.fail("a slot is stuck");
}

// Null when the load was canceled.
std::unique_ptr<Model> load(const std::string& path, Random& random, Totals& totals) {
  const bool cancels = random.chance(15);
  std::atomic<bool> cancel{false};
  std::thread canceler([&, delay = std::chrono::microseconds(random.below(20'000))] {
    if (!cancels) return;
    std::this_thread::sleep_for(delay);
    cancel = true;
  });
  std::unique_ptr<Model> model;
  try {
    ModelOptions options;
    options.path = path;
    model = std::make_unique<Model>(
        options, [](LoadProgress) {}, cancel);
  } catch (const EngineError& error) {
    if (!cancels || error.code != "REQUEST_CANCELED") totals.fail(error.code + ": " + error.what());
  }
  canceler.join();
  return model;
}

void run_round(const std::string& path, Random& random, Totals& totals, Clock::time_point until) {
  auto model = load(path, random, totals);
  totals.count(model ? "engines" : "loads canceled");
  if (!model) return;
  EngineOptions options;
  options.slots = slots;
  options.threads = random.chance(70) ? 1 : 2; // more would wait for each other most of the time
  options.ctx_size = 64 << random.below(4);
  Bell bell;
  Engine engine(std::move(model), nullptr, options, [&bell] { bell.ring(); });
  Ledger ledger(totals);
  // Sometimes more than there are slots.
  ledger.may_be_busy = random.chance(20);
  Round round{engine, ledger, totals, ledger.may_be_busy ? slots + 4 : slots, {}, {}, {}};

  std::thread taker([&] {
    while (bell.wait()) {
      ledger.take(engine.take_events());
    }
  });
  std::vector<std::thread> threads;
  for (int i = 0; i < submitters; i++) {
    threads.emplace_back([&round, seed = random()] { submit_all(round, Random(seed)); });
  }
  for (int i = 0; i < meddlers; i++) {
    threads.emplace_back([&round, seed = random()] { meddle(round, Random(seed)); });
  }
  const auto length = std::chrono::milliseconds(random.below(longest_round_ms));
  std::this_thread::sleep_until(std::min(Clock::now() + length, until));

  const bool in_flight = random.chance(50);
  if (in_flight) engine.close();
  round.ledger.stop();
  round.over = true;
  for (std::thread& thread : threads) {
    thread.join();
  }
  if (!in_flight && !ledger.drained()) totals.fail("requests were stuck");
  if (!in_flight) check_slots(round, random);
  engine.close();
  bell.close();
  taker.join();
  ledger.take(engine.take_events());
  ledger.expect_none_open();
}

struct Command {
  int seconds = 5;
  unsigned seed = 1;
  std::vector<std::string> models;
};

Command read_command(int argc, char** argv) {
  Command command;
  for (int i = 1; i < argc; i++) {
    const bool has_value = i + 1 < argc;
    if (has_value && std::strcmp(argv[i], "--seconds") == 0) {
      command.seconds = std::atoi(argv[++i]);
    } else if (has_value && std::strcmp(argv[i], "--seed") == 0) {
      command.seed = static_cast<unsigned>(std::strtoul(argv[++i], nullptr, 10));
    } else {
      command.models.emplace_back(argv[i]);
    }
  }
  return command;
}

int run(const Command& command) {
  install_log();
  Totals totals;
  Random random(command.seed);
  const Clock::time_point until = Clock::now() + std::chrono::seconds(command.seconds);
  for (size_t i = 0; Clock::now() < until; i++) {
    const std::string& path = command.models[i % command.models.size()];
    run_round(path, random, totals, until);
    close_while_preparing(path, random, totals);
    fail_while_generating(path, totals);
  }
  std::string line = "engine_stress: ";
  for (const auto& [outcome, count] : totals.outcomes) {
    line += std::to_string(count) + " " + outcome + ", ";
  }
  std::printf("%s%llu tokens, %d failures\n", line.c_str(), static_cast<unsigned long long>(totals.tokens),
              totals.failures);
  return totals.failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

} // namespace

} // namespace rbee::stress

int main(int argc, char** argv) {
  const auto command = rbee::stress::read_command(argc, argv);
  if (command.models.empty() || command.seconds <= 0) {
    std::fputs("Usage: engine_stress [--seconds N] [--seed N] MODEL...\n", stderr);
    return 2;
  }
  return rbee::stress::run(command);
}
