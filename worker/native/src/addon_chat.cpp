#include "addon_chat.h"

#include "addon_work.h"
#include "conversation.h"

namespace rbee {

namespace {

class EmbedWork : public PromiseWork {
 public:
  EmbedWork(Napi::Env env, StatePtr state, std::vector<std::vector<llama_token>> texts)
      : PromiseWork(env), state_(std::move(state)), texts_(std::move(texts)) {}

 protected:
  void work() override { embeddings_ = state_->embedder_ready.load()->embed(texts_); }

  Napi::Value result(Napi::Env env) override {
    Napi::Array all = Napi::Array::New(env, embeddings_.size());
    for (uint32_t i = 0; i < embeddings_.size(); i++) {
      auto one = Napi::Float32Array::New(env, embeddings_[i].size());
      std::copy(embeddings_[i].begin(), embeddings_[i].end(), one.Data());
      all.Set(i, one);
    }
    return all;
  }

 private:
  StatePtr state_;
  std::vector<std::vector<llama_token>> texts_;
  std::vector<std::vector<float>> embeddings_;
};

class ChatParserWrap : public Napi::ObjectWrap<ChatParserWrap> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "ChatParser", {InstanceMethod("push", &ChatParserWrap::push)});
  }

  explicit ChatParserWrap(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<ChatParserWrap>(info), parser_(guarded(info.Env(), [&] {
          if (!info[0].IsString()) throw EngineError("INVALID_REQUEST", "parser must be a string.");
          return ChatParser(info[0].As<Napi::String>());
        })) {}

 private:
  Napi::Value push(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      if (!info[0].IsString()) throw EngineError("INVALID_REQUEST", "text must be a string.");
      return Napi::String::New(info.Env(), parser_.push(info[0].As<Napi::String>(), info[1].ToBoolean()));
    });
  }

  ChatParser parser_;
};

} // namespace

Napi::Promise start_embedding(Napi::Env env, StatePtr state, std::vector<std::vector<llama_token>> texts) {
  return PromiseWork::start(std::make_unique<EmbedWork>(env, std::move(state), std::move(texts)));
}

Napi::Function define_chat_parser(Napi::Env env) {
  return ChatParserWrap::define(env);
}

} // namespace rbee
