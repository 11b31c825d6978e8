#include "ledger_stress.h"

#include "text_stream.h"

#include <chrono>
#include <cstdio>

namespace rbee::stress {

namespace {

// Far longer than any answer takes under the slowest sanitizer, on a machine that has other things to do as
// well.
constexpr std::chrono::minutes stuck_time{20};

std::string name_of(const Ending& ending) {
  if (!ending.error_code.empty()) return ending.error_code;
  switch (ending.reason) {
  case StopReason::length:
    return "length";
  case StopReason::stop:
    return "stop";
  case StopReason::eos:
    return "eos";
  case StopReason::canceled:
    return "canceled";
  case StopReason::deadline:
    return "deadline";
  case StopReason::none:
    break;
  }
  return "none";
}

} // namespace

void Totals::count(const std::string& outcome) {
  const std::lock_guard<std::mutex> lock(mutex);
  outcomes[outcome]++;
}

void Totals::fail(const std::string& what) {
  const std::lock_guard<std::mutex> lock(mutex);
  std::fprintf(stderr, "failed: %s\n", what.c_str());
  failures++;
}

Handle Ledger::open(int limit) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return stopped_ || static_cast<int>(open_.size()) < limit; });
  if (stopped_) return 0;
  open_[++last_];
  return last_;
}

void Ledger::prepared(const Request& request, const RequestOptions& options) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Entry& entry = open_.at(request.handle);
  entry.options = options;
  entry.prompt_tokens = static_cast<int>(request.prompt_tokens);
  entry.tokens = static_cast<int>(request.generated_before - request.held.size());
  entry.max_tokens = request.max_tokens;
  entry.prepared = true;
}

void Ledger::refused(Handle handle) {
  totals_.count("refused");
  const std::lock_guard<std::mutex> lock(mutex_);
  open_.erase(handle);
  changed_.notify_all();
}

void Ledger::take(const std::vector<Event>& events) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const Event& event : events) {
    const auto found = open_.find(event.handle);
    if (found == open_.end() || !found->second.prepared) {
      totals_.fail("an event came for request " + std::to_string(event.handle) + ", which is not running");
      continue;
    }
    Entry& entry = found->second;
    for (const GeneratedToken& token : event.tokens) {
      check_token(entry, token);
      entry.tokens++;
      entry.text += token.text;
    }
    if (!event.ending) continue;
    check_ending(entry, *event.ending);
    open_.erase(found);
    changed_.notify_all();
  }
}

void Ledger::check_token(const Entry& entry, const GeneratedToken& token) {
  expect(sanitise_utf8(token.text) == token.text, "a token's text is no UTF-8");
  expect(token.logprob.has_value() == (entry.options.logprobs >= 0), "log probabilities come when asked for");
  if (token.logprob) {
    expect(static_cast<int>(token.top.size()) == entry.options.logprobs, "as many alternatives as asked for");
  }
}

void Ledger::check_ending(const Entry& entry, const Ending& ending) {
  const std::string name = name_of(ending);
  totals_.count(name);
  if (!ending.error_code.empty()) {
    const bool expected = may_be_busy && ending.error_code == "ALL_SLOTS_BUSY";
    expect(expected, ending.error_code + ": " + ending.error_message);
    return;
  }
  expect(name != "none", "an ending has a reason");
  expect(ending.prompt_tokens == entry.prompt_tokens, "the prompt's tokens are counted");
  const int read = entry.options.resume ? 0 : 1;
  expect(ending.cached_tokens <= entry.prompt_tokens - read, "a token is always read");
  expect(ending.generated_tokens == entry.tokens, "the ending counts " +
                                                      std::to_string(ending.generated_tokens) + " tokens, " +
                                                      std::to_string(entry.tokens) + " came");
  expect(entry.tokens <= entry.max_tokens, "no more tokens than asked for");
  expect(name != "length" || entry.tokens == entry.max_tokens, "as many tokens as asked for");
  for (const std::string& stop : entry.options.stops) {
    expect(entry.text.find(stop) == std::string::npos, "a stop string leaked: " + entry.text);
  }
  const std::lock_guard<std::mutex> lock(totals_.mutex);
  totals_.tokens += static_cast<uint64_t>(entry.tokens);
}

void Ledger::expect(bool ok, const std::string& what) {
  if (!ok) totals_.fail(what);
}

Handle Ledger::any(Random& random) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (open_.empty()) return last_;
  return std::next(open_.begin(), random.below(static_cast<int>(open_.size())))->first;
}

bool Ledger::is_plain(Handle handle) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = open_.find(handle);
  if (found == open_.end()) return false;
  const RequestOptions& options = found->second.options;
  return options.stops.empty() && options.grammar.empty() && options.json_schema.empty();
}

void Ledger::stop() {
  const std::lock_guard<std::mutex> lock(mutex_);
  stopped_ = true;
  changed_.notify_all();
}

void Ledger::resume() {
  const std::lock_guard<std::mutex> lock(mutex_);
  stopped_ = false;
}

bool Ledger::drained() {
  std::unique_lock<std::mutex> lock(mutex_);
  // By the system's clock: GCC's thread sanitizer does not know the call that waits by the steady one.
  return changed_.wait_until(lock, std::chrono::system_clock::now() + stuck_time,
                             [this] { return open_.empty(); });
}

void Ledger::expect_none_open() {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [handle, entry] : open_) {
    totals_.fail("request " + std::to_string(handle) + " never ended, after " + std::to_string(entry.tokens) +
                 " tokens");
  }
}

} // namespace rbee::stress
