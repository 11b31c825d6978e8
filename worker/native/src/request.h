// One request for an answer: from what the caller asked to what the engine thread works on.
#pragma once

#include "conversation.h"
#include "events.h"
#include "model.h"
#include "sampling.h"
#include "sequence_state.h"
#include "speculation.h"
#include "state_format.h"
#include "text_stream.h"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace rbee {

// As asked; ranges were checked at the edge, everything else is checked by prepare_request.
struct RequestOptions {
  std::string prompt;
  // Known to everybody: as far as the prompt begins like it, what was computed for any scope is reused.
  std::string common;
  std::vector<llama_token> prompt_tokens; // used instead of `prompt` unless empty
  int max_tokens = 0;                     // 0: the default, or what the context leaves
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
  std::string constraint;  // what render_conversation gave, used instead of the two; empty for none
  std::vector<llama_logit_bias> logit_bias;
  int logprobs = -1;        // alternatives to report; -1: no log probabilities at all
  bool strict = false;      // computed by itself, so that its neighbours change nothing
  bool marked = false;      // told where it stands, so that another engine can go on with it
  uint64_t cache_scope = 0; // what was computed for another scope is not reused
  Speculation speculation = Speculation::automatic;
  // An answer to go on with; prompt and `max_tokens` are not used then, unless it has no prompt tokens of its
  // own.
  std::optional<SequenceState> resume;
};

// What the engine can do for a request.
struct RequestLimits {
  int context;                     // tokens of prompt and answer together
  int vocabulary;                  // tokens that there are
  bool strict_able;                // each slot has a cache of its own
  const StateFormat* state_format; // null: states of others are not taken over
};

// Bytes that a grammar may come to hold: compiled, and in the course of an answer.
constexpr ptrdiff_t max_grammar_memory = 64 * 1024 * 1024;

// Shared between the engine thread and whoever may cancel. Set once, to the reason.
using CancelFlag = std::atomic<StopReason>;

// A request that is ready to run. Owned by the engine thread once submitted.
struct Request {
  Request(Handle handle, std::shared_ptr<CancelFlag> cancel, std::vector<std::string> stops)
      : handle(handle), cancel(std::move(cancel)), text(std::move(stops)) {}

  Handle handle;
  std::shared_ptr<CancelFlag> cancel;
  // What has to be read before the next token: the prompt, and of a resumed answer what it had generated.
  std::vector<llama_token> prompt;
  size_t prompt_tokens = 0; // of these, the prompt proper
  int max_tokens = 0;
  int logprobs = -1;
  uint32_t seed = 0;
  // Whoever names a seed wants the same answer again. A prompt read in other pieces, and tokens computed
  // beside guesses, give slightly other logits where the kernels for one row and for many differ; so it is
  // read from its start, whatever a slot still holds of it, and without guesses.
  bool repeatable = false;
  bool strict = false;
  bool marked = false;
  uint64_t cache_scope = 0;
  size_t common_tokens = 0; // that it begins with, and that everybody may know
  Speculation speculation = Speculation::off;
  // Where the sampler counts its draws; goes after it.
  std::unique_ptr<uint64_t> draws = std::make_unique<uint64_t>(0);
  // None where the likeliest token is always the next one: arranging all candidates of a large vocabulary for
  // that takes 0.1 to 1 ms a token.
  common_sampler_ptr sampler;
  bool constrained = false;                  // by a grammar, which takes time and memory
  ptrdiff_t sampler_bytes = 0;               // that it holds, if so
  std::chrono::nanoseconds sampling_time{0}; // CPU time of its last step; unknown is as long as can be
  TextStream text;
  std::set<llama_token> shown_tokens; // special ones that are text of the answer all the same
  std::vector<llama_token> generated;
  size_t generated_before = 0;           // of these, in another process
  std::vector<std::string> texts_before; // of those of them that were handed out there
  std::deque<GeneratedToken> held;       // generated, their text not certain yet
  bool sent_any = false;
  std::vector<uint8_t> kv; // state to be taken over, of the first `kv_tokens` of `prompt`
  size_t kv_tokens = 0;
  int cached_tokens = 0;
  bool copying = false; // the last guess was right by half at least
  int draft_tokens = 0;
  int draft_accepted_tokens = 0;
  Clock::time_point submitted_at;
  Clock::time_point first_token_at;

  // The text of a generated token.
  std::string piece(const Model& model, llama_token token) const {
    return model.piece(token, shown_tokens.count(token) > 0);
  }
  // Of prompt and answer at its end.
  size_t total_tokens() const { return prompt_tokens + static_cast<size_t>(max_tokens); }
};

// How a text becomes ids.
struct TextRules {
  bool add_special;   // with what the model puts before and behind a text
  bool parse_special; // special tokens written out become those
};

// Throws EngineError INVALID_REQUEST for a text of more than `limit` tokens, without looking at all of a much
// longer one.
std::vector<llama_token> tokenize_within(const Model& model, const std::string& text, TextRules rules,
                                         int limit);
// All of a text, however many tokens it has; INVALID_REQUEST for one of far more bytes than fit into
// `context` tokens.
std::vector<llama_token> tokenize_all(const Model& model, const std::string& text, TextRules rules,
                                      int context);

// Renders, tokenises, checks against the context and builds the sampler. Takes as long as the prompt is long,
// so not on a thread that others wait for; at most a second of CPU time for a grammar. One that was canceled
// meanwhile may lack its sampler. Throws EngineError INVALID_REQUEST.
std::unique_ptr<Request> prepare_request(const Model& model, const RequestLimits& limits, Handle handle,
                                         std::shared_ptr<CancelFlag> cancel, RequestOptions options);

} // namespace rbee
