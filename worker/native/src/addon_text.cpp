#include "addon_text.h"

#include "addon_work.h"
#include "conversation.h"

namespace rbee {

namespace {

class TokenizeWork : public PreparedWork {
 public:
  TokenizeWork(Napi::Env env, StatePtr state, Handle handle, Tokenizing what)
      : PreparedWork(env, handle, what.text.size()), state_(std::move(state)), what_(std::move(what)) {}

 protected:
  void prepare() override {
    const Model& model = *state_->model();
    const TextRules rules{what_.add_special, what_.parse_special};
    tokens_ = what_.limit > 0 ? tokenize_within(model, what_.text, rules, what_.limit)
                              : tokenize_all(model, what_.text, rules, state_->context());
  }

  Napi::Value result(Napi::Env env) override {
    auto array = Napi::Int32Array::New(env, tokens_.size());
    std::copy(tokens_.begin(), tokens_.end(), array.Data());
    return array;
  }

 private:
  StatePtr state_;
  Tokenizing what_;
  std::vector<llama_token> tokens_;
};

class DetokenizeWork : public PreparedWork {
 public:
  DetokenizeWork(Napi::Env env, StatePtr state, Handle handle, std::vector<llama_token> tokens)
      : PreparedWork(env, handle, tokens.size() * sizeof(llama_token)), state_(std::move(state)),
        tokens_(std::move(tokens)) {}

 protected:
  void prepare() override { text_ = sanitise_utf8(state_->model()->detokenize(tokens_)); }
  Napi::Value result(Napi::Env env) override { return Napi::String::New(env, text_); }

 private:
  StatePtr state_;
  std::vector<llama_token> tokens_;
  std::string text_;
};

class RenderWork : public PreparedWork {
 public:
  RenderWork(Napi::Env env, StatePtr state, Handle handle, std::string request)
      : PreparedWork(env, handle, request.size()), state_(std::move(state)), request_(std::move(request)) {}

 protected:
  void prepare() override {
    rendered_ = render_conversation(*state_->model(), request_,
                                    [this] { return cancel->load() != StopReason::none; });
  }
  Napi::Value result(Napi::Env env) override { return Napi::String::New(env, rendered_); }

 private:
  StatePtr state_;
  std::string request_;
  std::string rendered_;
};

} // namespace

Napi::Promise start_tokenizing(Napi::Env env, StatePtr state, Handle handle, Tokenizing what) {
  State& shared = *state;
  return PreparedWork::start(shared,
                             std::make_unique<TokenizeWork>(env, std::move(state), handle, std::move(what)));
}

Napi::Promise start_detokenizing(Napi::Env env, StatePtr state, Handle handle,
                                 std::vector<llama_token> tokens) {
  State& shared = *state;
  return PreparedWork::start(
      shared, std::make_unique<DetokenizeWork>(env, std::move(state), handle, std::move(tokens)));
}

Napi::Promise start_rendering(Napi::Env env, StatePtr state, Handle handle, std::string request) {
  State& shared = *state;
  return PreparedWork::start(shared,
                             std::make_unique<RenderWork>(env, std::move(state), handle, std::move(request)));
}

} // namespace rbee
