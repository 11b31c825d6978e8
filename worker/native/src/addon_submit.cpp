#include "addon_submit.h"

#include "addon_convert.h"
#include "addon_sequence.h"
#include "addon_work.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace rbee {

namespace {

size_t input_bytes(const RequestOptions& options) {
  size_t bytes = options.prompt.size() + options.common.size() +
                 options.prompt_tokens.size() * sizeof(llama_token) + options.grammar.size() +
                 options.json_schema.size() + options.constraint.size() +
                 options.logit_bias.size() * sizeof(llama_logit_bias);
  for (const std::string& stop : options.stops)
    bytes += stop.size();
  if (options.resume) {
    bytes += options.resume->kv.size() +
             (options.resume->prompt.size() + options.resume->generated.size()) * sizeof(llama_token);
  }
  return bytes;
}

// Whether a request is prepared in some microseconds: nothing to render, to parse or to read at length.
bool is_quick(const RequestOptions& options) {
  constexpr size_t quick_bytes = 1024;
  return !options.resume && options.grammar.empty() && options.json_schema.empty() &&
         options.constraint.empty() && input_bytes(options) <= quick_bytes;
}

class SubmitWork : public PreparedWork {
 public:
  SubmitWork(Napi::Env env, StatePtr state, Handle handle, RequestOptions options)
      : PreparedWork(env, handle, input_bytes(options), state->ready.load()->announce(handle)),
        state_(std::move(state)), options_(std::move(options)) {}

  ~SubmitWork() override {
    if (!submitted_) engine().withdraw(handle);
  }

 protected:
  void prepare() override {
    auto request = prepare_request(engine().model(), engine().limits(), handle, cancel, std::move(options_));
    prompt_tokens_ = static_cast<int>(request->prompt_tokens);
    max_tokens_ = request->max_tokens;
    seed_ = request->seed;
    texts_before_ = request->texts_before;
    if (request->marked) {
      blocks_ = prefix_blocks({request->prompt.begin(),
                               request->prompt.begin() + static_cast<std::ptrdiff_t>(request->prompt_tokens)},
                              request->cache_scope);
    }
    submitted_ = true;
    engine().submit(std::move(request));
  }

  // It is accepted all the same: its ending tells why there is no answer.
  void canceled(StopReason reason) override {
    if (!submitted_) engine().end_unprepared(handle, reason);
  }

  Napi::Value result(Napi::Env env) override {
    Napi::Object object = Napi::Object::New(env);
    object.Set("promptTokens", prompt_tokens_);
    object.Set("maxTokens", max_tokens_);
    object.Set("seed", seed_);
    object.Set("sentTexts", texts_to_js(env, texts_before_));
    object.Set("blocks", blocks_to_js(env, blocks_));
    return object;
  }

 private:
  Engine& engine() const { return *state_->ready.load(); }

  StatePtr state_;
  RequestOptions options_;
  bool submitted_ = false;
  int prompt_tokens_ = 0;
  int max_tokens_ = 0;
  uint32_t seed_ = 0;
  std::vector<std::string> texts_before_;
  std::vector<uint64_t> blocks_;
};

} // namespace

Napi::Promise start_submit(Napi::Env env, const StatePtr& state, Handle handle, RequestOptions options) {
  const bool quick = is_quick(options);
  auto work = std::make_unique<SubmitWork>(env, state, handle, std::move(options));
  return quick ? PreparedWork::run_here(std::move(work)) : PreparedWork::start(*state, std::move(work));
}

} // namespace rbee
