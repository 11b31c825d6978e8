#include "request.h"

#include "bounded.h"
#include "errors.h"
#include "grammar_check.h"
#include "random_draws.h"

#include <algorithm>
#include <cstring>
#include <random>

namespace rbee {

namespace {

std::string grammar_of(const RequestOptions& options) {
  if (!options.json_schema.empty()) {
    return grammar_of_schema(options.json_schema);
  }
  check_grammar(options.grammar, "grammar");
  return options.grammar;
}

// Whether the likeliest token is always the next one.
bool takes_likeliest(const RequestOptions& options) {
  return options.temperature <= 0 && options.repetition_penalty == 1 && options.presence_penalty == 0 &&
         options.frequency_penalty == 0 && options.grammar.empty() && options.json_schema.empty() &&
         options.constraint.empty() && options.logit_bias.empty();
}

// A word that is one token is looked for as that, so that it is not found inside another.
common_grammar_trigger trigger_for(const Model& model, const common_grammar_trigger& trigger) {
  if (trigger.type != COMMON_GRAMMAR_TRIGGER_TYPE_WORD) return trigger;
  const auto tokens = model.tokenize(trigger.value, /*add_special=*/false, /*parse_special=*/true);
  if (tokens.size() != 1) return trigger;
  return {COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN, trigger.value, tokens[0]};
}

std::set<llama_token> single_tokens(const Model& model, const std::vector<std::string>& texts) {
  std::set<llama_token> found;
  for (const std::string& text : texts) {
    const auto tokens = model.tokenize(text, /*add_special=*/false, /*parse_special=*/true);
    if (tokens.size() == 1) found.insert(tokens[0]);
  }
  return found;
}

void constrain(common_params_sampling& params, const Model& model, const ChatConstraint& constraint) {
  const auto tokens = [&model](const std::string& text) {
    return model.tokenize(text, /*add_special=*/false, /*parse_special=*/true);
  };
  if (constraint.grammar.empty()) return;
  check_grammar(constraint.grammar, "the chat template's grammar");
  params.grammar = {COMMON_GRAMMAR_TYPE_TOOL_CALLS, constraint.grammar};
  params.grammar_lazy = constraint.lazy;
  for (const common_grammar_trigger& trigger : constraint.triggers) {
    params.grammar_triggers.push_back(trigger_for(model, trigger));
  }
  params.preserved_tokens = single_tokens(model, constraint.preserved_tokens);
  params.generation_prompt = constraint.generation_prompt;
  if (constraint.thinking_ends.empty()) return;
  params.reasoning_budget_start = tokens(constraint.thinking_start);
  for (const std::string& end : constraint.thinking_ends) {
    params.reasoning_budget_end.push_back(tokens(end));
  }
  params.reasoning_budget_forced = params.reasoning_budget_end.front();
}

common_sampler_ptr make_sampler(const Model& model, const RequestOptions& options, uint32_t seed) {
  common_params_sampling params;
  params.no_perf = true;
  params.seed = seed;
  params.temp = options.temperature;
  params.top_p = options.top_p;
  params.top_k = options.top_k;
  params.min_p = options.min_p;
  params.penalty_repeat = options.repetition_penalty;
  params.penalty_present = options.presence_penalty;
  params.penalty_freq = options.frequency_penalty;
  params.logit_bias = options.logit_bias;
  if (!options.constraint.empty()) {
    constrain(params, model, read_constraint(options.constraint));
  } else if (const std::string grammar = grammar_of(options); !grammar.empty()) {
    params.grammar = {COMMON_GRAMMAR_TYPE_USER, grammar};
  }
  try {
    return common_sampler_ptr(common_sampler_init(model.get(), params));
  } catch (const std::exception& error) {
    throw EngineError("INVALID_REQUEST", std::string("grammar cannot be used: ") + error.what());
  }
}

EngineError prompt_too_long(const std::string& tokens, int context) {
  return {"INVALID_REQUEST",
          "The prompt has " + tokens + " tokens, the context holds " + std::to_string(context) +
              " with the answer. Shorten the prompt or start the worker with a larger context."};
}

// Of a text that nothing follows.
EngineError input_too_long(const std::string& tokens, int context) {
  return {"INVALID_REQUEST", "The input has " + tokens + " tokens, too large for the context of " +
                                 std::to_string(context) + ". Shorten it."};
}

int checked_max_tokens(const RequestOptions& options, int prompt_tokens, int context) {
  if (prompt_tokens >= context) {
    throw prompt_too_long(std::to_string(prompt_tokens), context);
  }
  if (options.max_tokens > context) {
    throw EngineError("INVALID_REQUEST", "max_tokens is " + std::to_string(options.max_tokens) +
                                             ", the context holds " + std::to_string(context) + " tokens.");
  }
  const int wanted = options.max_tokens > 0 ? options.max_tokens : options.default_max_tokens;
  return std::min(wanted, context - prompt_tokens);
}

// Of one token, at most.
size_t longest_token_bytes(const llama_vocab* vocab) {
  size_t longest = 1;
  for (llama_token token = 0; token < llama_vocab_n_tokens(vocab); token++) {
    longest = std::max(longest, std::strlen(llama_vocab_get_text(vocab, token)));
  }
  return longest;
}

// Tokenising takes some 100 bytes of memory for each byte of the text.
void check_bytes(const std::string& text, int context) {
  constexpr size_t least_bytes = 2 * 1024 * 1024;
  constexpr size_t bytes_per_token = 8;
  const size_t most = std::max(least_bytes, static_cast<size_t>(context) * bytes_per_token);
  if (text.size() <= most) return;
  throw EngineError("INVALID_REQUEST", "The text has " + std::to_string(text.size()) + " bytes; at most " +
                                           std::to_string(most) + " are tokenised at once.");
}

// Refuses what cannot fit by its beginning, with what `too_long` says.
void check_length(const Model& model, const std::string& text, int context,
                  EngineError (*too_long)(const std::string&, int)) {
  constexpr size_t quick_bytes_per_token = 16;
  if (text.size() <= context * quick_bytes_per_token) return;
  size_t cut = (static_cast<size_t>(context) + 1) * longest_token_bytes(model.vocab());
  if (text.size() <= cut) return;
  while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) {
    cut--;
  }
  const size_t tokens =
      model.tokenize(text.substr(0, cut), /*add_special=*/true, /*parse_special=*/true).size();
  // Some vocabularies drop what they don't know, so that bytes alone prove nothing.
  if (tokens > static_cast<size_t>(context)) {
    throw too_long("more than " + std::to_string(tokens), context);
  }
  check_bytes(text, context);
}

void check_options(const RequestOptions& options, const RequestLimits& limits) {
  if (options.strict && !limits.strict_able) {
    throw EngineError("INVALID_REQUEST",
                      "strict needs a KV cache for each slot; this worker shares one (--kv-unified).");
  }
  for (const llama_logit_bias& bias : options.logit_bias) {
    if (bias.token >= 0 && bias.token < limits.vocabulary) continue;
    // llama.cpp would look for it among all tokens, at every token.
    throw EngineError("INVALID_REQUEST", "logit_bias names token " + std::to_string(bias.token) +
                                             "; the vocabulary has " + std::to_string(limits.vocabulary) +
                                             ".");
  }
  if (options.strict && options.speculation == Speculation::on) {
    throw EngineError("INVALID_REQUEST", "strict answers are computed token by token, without guesses.");
  }
}

Speculation speculation_for(const Model& model, const RequestOptions& options) {
  // Recurrent state cannot be taken back.
  if (options.strict || model.recurrent()) return Speculation::off;
  return options.seed && options.speculation == Speculation::automatic ? Speculation::off
                                                                       : options.speculation;
}

bool known_tokens(const Model& model, const std::vector<llama_token>& tokens) {
  const llama_token count = llama_vocab_n_tokens(model.vocab());
  return std::all_of(tokens.begin(), tokens.end(),
                     [count](llama_token token) { return token >= 0 && token < count; });
}

// Whole tokens that a prompt shares with a text: each is one of that text's own, so that it tells nothing of
// how the prompt goes on.
size_t common_tokens(const Model& model, const std::vector<llama_token>& prompt,
                     const RequestOptions& options) {
  // Beyond the prompt there is nothing in common, and so the bounds of the prompt hold for it.
  const std::string text = options.common.substr(0, options.prompt.size());
  if (text.empty()) return 0;
  const auto common = model.tokenize(text, /*add_special=*/true, /*parse_special=*/true);
  const auto pair = std::mismatch(prompt.begin(), prompt.end(), common.begin(), common.end());
  return static_cast<size_t>(pair.first - prompt.begin());
}

void read_prompt(Request& request, const Model& model, int context, const RequestOptions& options) {
  request.prompt = options.prompt_tokens;
  if (request.prompt.empty()) {
    check_length(model, options.prompt, context, prompt_too_long);
    request.prompt = model.tokenize(options.prompt, /*add_special=*/true, /*parse_special=*/true);
  }
  if (request.prompt.empty()) {
    throw EngineError("INVALID_REQUEST", "The prompt has no tokens for this model.");
  }
  // A vocabulary may lack a byte; what then stands for it is no token, and would fail every answer of its
  // step.
  if (!known_tokens(model, request.prompt)) {
    throw EngineError("INVALID_REQUEST",
                      options.prompt_tokens.empty()
                          ? "The prompt holds a character that this model has no token for."
                          : "The prompt holds a token id that is not one of the model's vocabulary.");
  }
  request.prompt_tokens = request.prompt.size();
  request.common_tokens = common_tokens(model, request.prompt, options);
  request.max_tokens = checked_max_tokens(options, static_cast<int>(request.prompt.size()), context);
}

EngineError unusable(const std::string& what) {
  return {"INVALID_REQUEST", "The exported answer cannot be continued: " + what};
}

// Brings prompt, text and counters to where the exported answer stood.
void restore(Request& request, const Model& model, const RequestLimits& limits, RequestOptions& options) {
  const int context = limits.context;
  SequenceState& state = *options.resume;
  if (state.prompt.empty()) {
    read_prompt(request, model, context, options);
  } else {
    request.prompt_tokens = state.prompt.size();
    request.prompt = std::move(state.prompt);
    request.max_tokens = state.max_tokens;
  }
  request.prompt.insert(request.prompt.end(), state.generated.begin(), state.generated.end());
  if (request.prompt_tokens == 0 || !known_tokens(model, request.prompt)) {
    throw unusable("its tokens are not of this model.");
  }
  if (request.max_tokens < static_cast<int>(state.generated.size())) {
    throw unusable("it is longer than it may become.");
  }
  if (request.total_tokens() > static_cast<size_t>(context)) {
    throw unusable("it may come to hold " + std::to_string(request.total_tokens()) +
                   " tokens, this worker's context holds " + std::to_string(context) + ".");
  }
  // A token that the grammar refuses at first is drawn twice.
  if (state.draws > 2 * state.generated.size() || state.kv_tokens > request.prompt.size()) {
    throw unusable("its counters contradict each other.");
  }
  request.generated = std::move(state.generated);
  request.generated_before = request.generated.size();
  for (const llama_token token : request.generated) {
    request.held.push_back({token, {}, std::nullopt, {}});
    if (request.text.stopped()) throw unusable("its text contradicts its tokens.");
    const std::vector<std::string> certain = request.text.push(request.piece(model, token));
    request.texts_before.insert(request.texts_before.end(), certain.begin(), certain.end());
    request.held.erase(request.held.begin(),
                       request.held.begin() + static_cast<std::ptrdiff_t>(certain.size()));
  }
  if (request.held.size() != state.held.size()) {
    throw unusable("its text contradicts its tokens.");
  }
  // What the texts cannot tell: their log probabilities.
  std::move(state.held.begin(), state.held.end(), request.held.begin());
  // Without it the tokens are read again.
  if (limits.state_format == nullptr || !limits.state_format->fits(state.kv, state.kv_tokens)) return;
  request.kv = std::move(state.kv);
  request.kv_tokens = state.kv_tokens;
}

constexpr std::chrono::milliseconds grammar_cpu_time{1000};

// Brings the sampler to where the prompt, and of a resumed answer what it had generated, leaves it.
void add_sampler(Request& request, const Model& model, const RequestOptions& options) {
  request.sampler = make_sampler(model, options, request.seed);
  count_draws(request.sampler.get(), *request.draws);
  if (options.resume) repeat_draws(request.sampler.get(), options.resume->draws);
  // Penalties look back into the prompt.
  for (size_t i = 0; i < request.prompt.size(); i++) {
    const bool generated = i >= request.prompt_tokens;
    try {
      common_sampler_accept(request.sampler.get(), request.prompt[i], generated);
    } catch (const std::exception& error) {
      throw unusable(error.what());
    }
  }
}

// The same for one that keeps to a grammar, within its bounds.
void add_constrained_sampler(Request& request, const Model& model, const RequestOptions& options) {
  const auto canceled = [&request] { return request.cancel->load() != StopReason::none; };
  try {
    request.constrained = true;
    request.sampling_time = std::chrono::nanoseconds::max();
    request.sampler_bytes = bounded("The grammar", {grammar_cpu_time, max_grammar_memory, canceled},
                                    [&] { add_sampler(request, model, options); });
  } catch (const EngineError&) {
    // Then the engine thread ends it as such, before the first step.
    if (!canceled()) throw;
  }
}

} // namespace

std::vector<llama_token> tokenize_within(const Model& model, const std::string& text, TextRules rules,
                                         int limit) {
  check_length(model, text, limit, input_too_long);
  std::vector<llama_token> tokens = model.tokenize(text, rules.add_special, rules.parse_special);
  if (tokens.size() > static_cast<size_t>(limit)) throw input_too_long(std::to_string(tokens.size()), limit);
  return tokens;
}

std::vector<llama_token> tokenize_all(const Model& model, const std::string& text, TextRules rules,
                                      int context) {
  check_bytes(text, context);
  return model.tokenize(text, rules.add_special, rules.parse_special);
}

std::unique_ptr<Request> prepare_request(const Model& model, const RequestLimits& limits, Handle handle,
                                         std::shared_ptr<CancelFlag> cancel, RequestOptions options) {
  check_options(options, limits);
  auto request = std::make_unique<Request>(handle, std::move(cancel), options.stops);
  request->submitted_at = Clock::now();
  request->logprobs = options.logprobs;
  request->strict = options.strict;
  request->marked = options.marked;
  request->cache_scope = options.cache_scope;
  request->repeatable = options.seed.has_value() || options.strict;
  request->speculation = speculation_for(model, options);
  request->seed = options.resume ? options.resume->seed
                  : options.seed ? *options.seed
                                 : std::random_device{}() % LLAMA_DEFAULT_SEED;
  if (!options.constraint.empty()) {
    request->shown_tokens = single_tokens(model, read_constraint(options.constraint).preserved_tokens);
  }
  if (options.resume) {
    restore(*request, model, limits, options);
  } else {
    read_prompt(*request, model, limits.context, options);
  }
  const bool constrained =
      !options.grammar.empty() || !options.json_schema.empty() || !options.constraint.empty();
  if (constrained) {
    add_constrained_sampler(*request, model, options);
  } else if (!takes_likeliest(options)) {
    add_sampler(*request, model, options);
  }
  return request;
}

} // namespace rbee
