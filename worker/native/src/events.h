// What the engine tells JavaScript, and how often it wakes it.
#pragma once

#include "llama.h"

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace rbee {

using Clock = std::chrono::steady_clock;
using Handle = uint32_t;

enum class StopReason { none, length, stop, eos, canceled, deadline };

struct Alternative {
  llama_token id;
  std::string text;
  float logprob; // natural logarithm, of the distribution before any sampler changed it
};

struct GeneratedToken {
  llama_token id;
  std::string text;
  std::optional<float> logprob; // where asked for
  std::vector<Alternative> top;
};

// How an answer ended, with its figures. `error_code` is set instead of a reason when it failed.
struct Ending {
  Ending() = default;
  explicit Ending(StopReason reason) : reason(reason) {}
  Ending(std::string code, std::string message, int native = 0)
      : error_code(std::move(code)), error_message(std::move(message)), native_code(native) {}

  StopReason reason = StopReason::none;
  std::string error_code;
  std::string error_message;
  int native_code = 0;
  int stopped_by = -1; // which of the stop strings
  int prompt_tokens = 0;
  int cached_tokens = 0;
  int generated_tokens = 0;
  int draft_tokens = 0;          // guessed
  int draft_accepted_tokens = 0; // of these, right
  double duration_ms = 0;
  double first_token_ms = 0;
  double tokens_per_second = 0; // of the tokens after the first
};

// Where an answer stands behind a token that was handed out: with this and the tokens before it another
// engine can go on with it.
struct Mark {
  std::vector<GeneratedToken> held; // generated, not handed out yet
  uint64_t draws = 0;               // random numbers drawn so far
};

// News of one request since the last batch: its new tokens, where it stood behind the last of them for which
// that can be told (asked for), then maybe its end.
struct Event {
  Handle handle;
  std::vector<GeneratedToken> tokens;
  size_t marked = 0; // of the tokens, those before the mark
  std::optional<Mark> mark;
  std::optional<Ending> ending;
};

// Carries events from the engine thread to JavaScript. Waking it costs the model a core for a moment, so
// tokens are gathered for up to `gather_time`, or until the last batch was taken; first tokens and endings go
// at once.
class EventQueue {
 public:
  explicit EventQueue(std::function<void()> wake) : wake_(std::move(wake)) {}

  void push_token(Handle handle, GeneratedToken token, bool first, std::optional<Mark> mark);
  void push_ending(Handle handle, Ending ending);

  // Sends what was gathered, before something that takes long.
  void flush();

  // Takes everything. Called by JavaScript once for every wake.
  std::vector<Event> take();

 private:
  static constexpr std::chrono::milliseconds gather_time{5};

  Event& event_of(Handle handle);
  void wake_if(bool urgent, std::unique_lock<std::mutex>& lock);

  std::mutex mutex_;
  std::vector<Event> events_;
  bool waking_ = false; // JavaScript was woken and has not taken its batch yet
  Clock::time_point last_wake_{};
  std::function<void()> wake_;
};

} // namespace rbee
