// One request for an answer: from what the caller asked to what the engine thread works on.
#pragma once

#include "events.h"
#include "model.h"
#include "sampling.h"
#include "text_stream.h"

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace rbee {

// As asked; ranges were checked at the edge, everything else is checked by prepare_request.
struct RequestOptions {
  std::string prompt; // used when `messages` is empty
  std::vector<ChatTurn> messages;
  int max_tokens = 0; // 0: the default, or what the context leaves
  int default_max_tokens = 0;
  float temperature = 0.7F;
  float top_p = 0.95F;
  int top_k = 40;
  float min_p = 0.05F;
  float repetition_penalty = 1;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  std::optional<uint32_t> seed;
  std::vector<std::string> stops;
  std::string grammar;     // GBNF, empty for none
  std::string json_schema; // JSON text, empty for none
  int logprobs = -1;       // alternatives to report; -1: no log probabilities at all
};

// Shared between the engine thread and whoever may cancel. Set once, to the reason.
using CancelFlag = std::atomic<StopReason>;

// A request that is ready to run. Owned by the engine thread once submitted.
struct Request {
  Request(Handle handle, std::shared_ptr<CancelFlag> cancel, std::vector<std::string> stops)
      : handle(handle), cancel(std::move(cancel)), text(std::move(stops)) {}

  Handle handle;
  std::shared_ptr<CancelFlag> cancel;
  std::vector<llama_token> prompt;
  int max_tokens = 0;
  int logprobs = -1;
  uint32_t seed = 0;
  // Whoever names a seed wants the same answer again. A prompt read in other pieces gives slightly other
  // logits where the kernels for one row and for many differ, so it is read from its start, whatever a slot
  // still holds of it.
  bool repeatable = false;
  common_sampler_ptr sampler;
  TextStream text;
  std::deque<GeneratedToken> held; // generated, their text not certain yet
  int generated = 0;
  int cached_tokens = 0;
  Clock::time_point submitted_at;
  Clock::time_point first_token_at;
};

// Renders, tokenises, checks against the context and builds the sampler. Takes as long as the prompt is long,
// so not on a thread that others wait for. Throws EngineError INVALID_REQUEST.
std::unique_ptr<Request> prepare_request(const Model& model, int context, Handle handle,
                                         std::shared_ptr<CancelFlag> cancel, const RequestOptions& options);

} // namespace rbee
