// Exported answers, to JavaScript and back.
#include "addon_sequence.h"

#include "addon_convert.h"
#include "addon_work.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

namespace rbee {

namespace {

Napi::Int32Array tokens_to_js(Napi::Env env, const std::vector<llama_token>& tokens) {
  auto array = Napi::Int32Array::New(env, tokens.size());
  std::copy(tokens.begin(), tokens.end(), array.Data());
  return array;
}

// Their log probabilities; their texts are not certain yet.
Napi::Array held_to_js(Napi::Env env, const std::vector<GeneratedToken>& held) {
  Napi::Array array = Napi::Array::New(env, held.size());
  for (uint32_t i = 0; i < held.size(); i++) {
    array.Set(i, held[i].logprob ? to_js(env, held[i]) : Napi::Object::New(env));
  }
  return array;
}

GeneratedToken read_held(const Napi::Object& object, llama_token id) {
  GeneratedToken token{id, {}, std::nullopt, {}};
  if (!has(object, "logprob")) return token;
  token.logprob = read_float(object, "logprob");
  const Napi::Value top = object.Get("top");
  if (!top.IsArray()) throw EngineError("INVALID_REQUEST", "top must be an array.");
  const auto array = top.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); i++) {
    const Napi::Object rival = read_object(array.Get(i), "a rival");
    token.top.push_back(
        {read_integer(rival, "id"), read_string(rival, "token"), read_float(rival, "logprob")});
  }
  return token;
}

// A count that JavaScript holds as a number.
uint64_t read_count(const Napi::Object& object, const char* name) {
  const int value = read_integer(object, name);
  if (value < 0) throw EngineError("INVALID_REQUEST", std::string(name) + " must not be negative.");
  return static_cast<uint64_t>(value);
}

} // namespace

Napi::Object to_js(Napi::Env env, const SequenceState& state) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("seed", state.seed);
  object.Set("maxTokens", state.max_tokens);
  object.Set("prompt", tokens_to_js(env, state.prompt));
  object.Set("generated", tokens_to_js(env, state.generated));
  object.Set("held", held_to_js(env, state.held));
  object.Set("draws", static_cast<double>(state.draws));
  auto kv = Napi::Uint8Array::New(env, state.kv.size());
  std::copy(state.kv.begin(), state.kv.end(), kv.Data());
  object.Set("kv", kv);
  object.Set("kvTokens", static_cast<double>(state.kv_tokens));
  return object;
}

Napi::Object to_js(Napi::Env env, const Mark& mark) {
  Napi::Object object = Napi::Object::New(env);
  Napi::Array ids = Napi::Array::New(env, mark.held.size());
  for (uint32_t i = 0; i < mark.held.size(); i++) {
    ids.Set(i, mark.held[i].id);
  }
  object.Set("ids", ids);
  object.Set("held", held_to_js(env, mark.held));
  object.Set("draws", static_cast<double>(mark.draws));
  return object;
}

SequenceState read_sequence(const Napi::Object& object) {
  SequenceState state;
  state.seed = object.Get("seed").ToNumber().Uint32Value();
  state.max_tokens = read_integer(object, "maxTokens");
  state.prompt = read_tokens(object.Get("prompt"), "prompt");
  state.generated = read_tokens(object.Get("generated"), "generated");
  const Napi::Value held = object.Get("held");
  if (!held.IsArray() || held.As<Napi::Array>().Length() > state.generated.size()) {
    throw EngineError("INVALID_REQUEST", "held must be an array of the last generated tokens.");
  }
  const auto array = held.As<Napi::Array>();
  const size_t sent = state.generated.size() - array.Length();
  for (uint32_t i = 0; i < array.Length(); i++) {
    state.held.push_back(read_held(read_object(array.Get(i), "a held token"), state.generated[sent + i]));
  }
  state.draws = read_count(object, "draws");
  const Napi::Value kv = object.Get("kv");
  if (!kv.IsTypedArray() || kv.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw EngineError("INVALID_REQUEST", "kv must be a Uint8Array.");
  }
  const auto bytes = kv.As<Napi::Uint8Array>();
  state.kv.assign(bytes.Data(), bytes.Data() + bytes.ElementLength());
  state.kv_tokens = read_count(object, "kvTokens");
  return state;
}

namespace {

class ExportWork : public PromiseWork {
 public:
  ExportWork(Napi::Env env, StatePtr state, Handle handle, ExportWish wish)
      : PromiseWork(env), state_(std::move(state)), handle_(handle), wish_(wish) {}

 protected:
  void work() override {
    sequence_ = state_->ready.load()->export_sequence(handle_, wish_.with_kv, wish_.stop);
  }

  Napi::Value result(Napi::Env env) override { return sequence_ ? to_js(env, *sequence_) : env.Undefined(); }

 private:
  StatePtr state_;
  Handle handle_;
  ExportWish wish_;
  std::optional<SequenceState> sequence_;
};

class LookWork : public PromiseWork {
 public:
  LookWork(Napi::Env env, StatePtr state) : PromiseWork(env), state_(std::move(state)) {}

 protected:
  void work() override { blocks_ = state_->ready.load()->held_blocks(); }

  Napi::Value result(Napi::Env env) override { return blocks_to_js(env, blocks_); }

 private:
  StatePtr state_;
  std::vector<uint64_t> blocks_;
};

} // namespace

Napi::Value start_export(Napi::Env env, StatePtr state, Handle handle, ExportWish wish) {
  return PromiseWork::start(std::make_unique<ExportWork>(env, std::move(state), handle, wish));
}

Napi::Value start_look(Napi::Env env, StatePtr state) {
  return PromiseWork::start(std::make_unique<LookWork>(env, std::move(state)));
}

Napi::Array texts_to_js(Napi::Env env, const std::vector<std::string>& texts) {
  Napi::Array array = Napi::Array::New(env, texts.size());
  for (uint32_t i = 0; i < texts.size(); i++) {
    array.Set(i, texts[i]);
  }
  return array;
}

Napi::Float64Array blocks_to_js(Napi::Env env, const std::vector<uint64_t>& blocks) {
  auto array = Napi::Float64Array::New(env, blocks.size());
  std::copy(blocks.begin(), blocks.end(), array.Data());
  return array;
}

} // namespace rbee
