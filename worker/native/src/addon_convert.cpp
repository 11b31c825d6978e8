#include "addon_convert.h"

#include "process_memory.h"

#include <algorithm>
#include <cstdlib>

namespace rbee {

namespace {

EngineError wrong_type(const std::string& name, const char* expected) {
  return {"INVALID_REQUEST", name + " must be " + expected + "."};
}

const char* name_of(StopReason reason) {
  switch (reason) {
  case StopReason::length:
    return "length";
  case StopReason::stop:
    return "stop";
  case StopReason::eos:
    return "eos";
  case StopReason::deadline:
    return "deadline";
  case StopReason::none:
  case StopReason::canceled:
    break;
  }
  return "canceled";
}

Napi::Object to_js(Napi::Env env, const Ending& ending) {
  Napi::Object object = Napi::Object::New(env);
  if (ending.error_code.empty()) {
    object.Set("reason", name_of(ending.reason));
    if (ending.stopped_by >= 0) object.Set("stoppedBy", ending.stopped_by);
  } else {
    object.Set("error", error_to_js(env, {ending.error_code, ending.error_message, ending.native_code}));
  }
  object.Set("promptTokens", ending.prompt_tokens);
  object.Set("cachedTokens", ending.cached_tokens);
  object.Set("generatedTokens", ending.generated_tokens);
  object.Set("draftTokens", ending.draft_tokens);
  object.Set("draftAcceptedTokens", ending.draft_accepted_tokens);
  object.Set("durationMs", ending.duration_ms);
  object.Set("firstTokenMs", ending.first_token_ms);
  object.Set("tokensPerSecond", ending.tokens_per_second);
  return object;
}

Speculation read_speculation(const Napi::Object& object) {
  const std::string text = read_string(object, "speculative");
  if (text == "on") return Speculation::on;
  if (text == "off") return Speculation::off;
  if (text != "auto") throw wrong_type("speculative", "auto, on or off");
  return Speculation::automatic;
}

} // namespace

bool has(const Napi::Object& object, const char* name) {
  return !object.Get(name).IsUndefined();
}

std::vector<std::string> read_strings(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (!value.IsArray()) {
    throw wrong_type(name, "an array of strings");
  }
  const auto array = value.As<Napi::Array>();
  std::vector<std::string> strings;
  for (uint32_t i = 0; i < array.Length(); i++) {
    const Napi::Value item = array.Get(i);
    if (!item.IsString() || item.As<Napi::String>().Utf8Value().empty()) {
      throw wrong_type(name, "an array of non-empty strings");
    }
    strings.push_back(item.As<Napi::String>());
  }
  return strings;
}

Napi::Object read_object(const Napi::Value& value, const char* what) {
  if (!value.IsObject()) {
    throw wrong_type(what, "an object");
  }
  return value.As<Napi::Object>();
}

std::string read_string(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (!value.IsString()) {
    throw wrong_type(name, "a string");
  }
  return value.As<Napi::String>();
}

int read_integer(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (!value.IsNumber()) {
    throw wrong_type(name, "a number");
  }
  // The conversion of the engine wraps around: a huge number would become a small or a negative one.
  const double number = value.As<Napi::Number>().DoubleValue();
  return static_cast<int>(std::clamp(number, -2147483648.0, 2147483647.0));
}

float read_float(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (!value.IsNumber()) {
    throw wrong_type(name, "a number");
  }
  return value.As<Napi::Number>().FloatValue();
}

std::vector<llama_logit_bias> read_logit_bias(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (!value.IsArray()) {
    throw wrong_type(name, "an array");
  }
  const auto array = value.As<Napi::Array>();
  std::vector<llama_logit_bias> biases;
  for (uint32_t i = 0; i < array.Length(); i++) {
    const Napi::Object bias = read_object(array.Get(i), "a bias");
    biases.push_back({read_integer(bias, "token"), read_float(bias, "bias")});
  }
  return biases;
}

RequestOptions read_request(const Napi::Object& object) {
  RequestOptions options;
  if (has(object, "resume")) {
    options.resume = read_sequence(read_object(object.Get("resume"), "resume"));
  }
  if (options.resume && !options.resume->prompt.empty()) {
    // The exported answer has its own.
  } else if (has(object, "promptTokens")) {
    options.prompt_tokens = read_tokens(object.Get("promptTokens"), "promptTokens");
  } else {
    options.prompt = read_string(object, "prompt");
  }
  if (has(object, "maxTokens")) {
    options.max_tokens = read_integer(object, "maxTokens");
  }
  options.default_max_tokens = read_integer(object, "defaultMaxTokens");
  options.temperature = read_float(object, "temperature");
  options.top_p = read_float(object, "topP");
  options.top_k = read_integer(object, "topK");
  options.min_p = read_float(object, "minP");
  options.repetition_penalty = read_float(object, "repetitionPenalty");
  options.presence_penalty = read_float(object, "presencePenalty");
  options.frequency_penalty = read_float(object, "frequencyPenalty");
  if (has(object, "seed")) {
    options.seed = object.Get("seed").ToNumber().Uint32Value();
  }
  options.stops = read_strings(object, "stops");
  if (has(object, "grammar")) {
    options.grammar = read_string(object, "grammar");
  }
  if (has(object, "jsonSchema")) {
    options.json_schema = read_string(object, "jsonSchema");
  }
  if (has(object, "constraint")) {
    options.constraint = read_string(object, "constraint");
  }
  options.logit_bias = read_logit_bias(object, "logitBias");
  if (has(object, "logprobs")) {
    options.logprobs = read_integer(object, "logprobs");
  }
  options.strict = object.Get("strict").ToBoolean();
  options.marked = object.Get("marked").ToBoolean();
  // 64 bits as hexadecimal digits, which a schema has checked: numbers of JavaScript hold 53.
  const Napi::Value scope = object.Get("cacheScope");
  if (scope.IsString())
    options.cache_scope = std::strtoull(scope.As<Napi::String>().Utf8Value().c_str(), nullptr, 16);
  if (has(object, "common")) options.common = read_string(object, "common");
  options.speculation = read_speculation(object);
  return options;
}

ModelOptions read_model_options(const Napi::Object& object) {
  ModelOptions options;
  options.path = read_string(object, "path");
  options.backend = read_string(object, "backend");
  options.device = read_integer(object, "device");
  options.chat_template = read_string(object, "chatTemplate");
  return options;
}

EmbedderOptions read_embedder_options(const Napi::Object& object) {
  EmbedderOptions options;
  options.wanted = object.Get("embeddings").ToBoolean();
  options.ctx_size = read_integer(object, "ctxSize");
  options.threads = read_integer(object, "threads");
  options.pooling = read_string(object, "pooling");
  options.flash_attention = read_string(object, "flashAttention");
  return options;
}

EngineOptions read_engine_options(const Napi::Object& object) {
  EngineOptions options;
  options.slots = read_integer(object, "slots");
  options.ctx_size = read_integer(object, "ctxSize");
  options.threads = read_integer(object, "threads");
  options.cache_type = read_string(object, "cacheType");
  options.flash_attention = read_string(object, "flashAttention");
  options.kv_unified = object.Get("kvUnified").ToBoolean();
  options.draft_model = read_string(object, "draftModel");
  if (options.slots < 1 || options.slots > static_cast<int>(llama_max_parallel_sequences())) {
    throw EngineError("INVALID_REQUEST",
                      "slots must be 1 to " + std::to_string(llama_max_parallel_sequences()) + ".");
  }
  return options;
}

std::vector<llama_token> read_tokens(const Napi::Value& value, const char* what) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array) {
    throw wrong_type(what, "an Int32Array");
  }
  const auto array = value.As<Napi::Int32Array>();
  return {array.Data(), array.Data() + array.ElementLength()};
}

void check_tokens(const std::vector<llama_token>& tokens, int vocabulary) {
  for (const llama_token token : tokens) {
    if (token < 0 || token >= vocabulary) {
      throw EngineError("INVALID_REQUEST", "Token id " + std::to_string(token) +
                                               " is not one of the vocabulary's " +
                                               std::to_string(vocabulary) + ".");
    }
  }
}

std::vector<std::vector<llama_token>> read_texts(const Napi::Value& value, int vocabulary) {
  if (!value.IsArray()) {
    throw wrong_type("texts", "an array");
  }
  const auto array = value.As<Napi::Array>();
  std::vector<std::vector<llama_token>> texts;
  for (uint32_t i = 0; i < array.Length(); i++) {
    texts.push_back(read_tokens(array.Get(i), "a text"));
    check_tokens(texts.back(), vocabulary);
  }
  return texts;
}

Napi::Object to_js(Napi::Env env, const Device& device) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("backend", device.backend);
  object.Set("index", device.index);
  object.Set("name", device.name);
  object.Set("description", device.description);
  object.Set("memoryTotalBytes", static_cast<double>(device.memory_total));
  object.Set("memoryFreeBytes", static_cast<double>(device.memory_free));
  return object;
}

Napi::Object to_js(Napi::Env env, const LoadProgress& progress) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("layersLoaded", progress.layers_loaded);
  object.Set("layersTotal", progress.layers_total);
  object.Set("bytesLoaded", progress.bytes_loaded);
  return object;
}

Napi::Object to_js(Napi::Env env, const MemoryUse& use) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("weightsBytes", static_cast<double>(use.weights));
  object.Set("mappedBytes", static_cast<double>(use.mapped));
  object.Set("privateBytes", static_cast<double>(private_bytes()));
  object.Set("kvBytes", static_cast<double>(use.kv));
  object.Set("computeBytes", static_cast<double>(use.compute));
  return object;
}

// Its log probability and the likeliest others.
Napi::Object to_js(Napi::Env env, const GeneratedToken& token) {
  Napi::Object object = Napi::Object::New(env);
  Napi::Array top = Napi::Array::New(env, token.top.size());
  for (uint32_t i = 0; i < token.top.size(); i++) {
    Napi::Object alternative = Napi::Object::New(env);
    alternative.Set("id", token.top[i].id);
    alternative.Set("token", token.top[i].text);
    alternative.Set("logprob", token.top[i].logprob);
    top.Set(i, alternative);
  }
  object.Set("logprob", *token.logprob);
  object.Set("top", top);
  return object;
}

Napi::Object to_js(Napi::Env env, const Event& event) {
  const size_t count = event.tokens.size();
  Napi::Array ids = Napi::Array::New(env, count);
  Napi::Array texts = Napi::Array::New(env, count);
  Napi::Array logprobs = Napi::Array::New(env);
  for (uint32_t i = 0; i < count; i++) {
    const GeneratedToken& token = event.tokens[i];
    ids.Set(i, token.id);
    texts.Set(i, token.text);
    if (token.logprob) {
      logprobs.Set(i, to_js(env, token));
    }
  }
  Napi::Object object = Napi::Object::New(env);
  object.Set("handle", event.handle);
  object.Set("ids", ids);
  object.Set("texts", texts);
  object.Set("logprobs", logprobs);
  if (event.mark) {
    object.Set("marked", static_cast<double>(event.marked));
    object.Set("mark", to_js(env, *event.mark));
  }
  if (event.ending) {
    object.Set("ending", to_js(env, *event.ending));
  }
  return object;
}

Napi::Object to_js(Napi::Env env, const EngineTimes& times) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("stepNs", static_cast<double>(times.step.load()));
  object.Set("samplingNs", static_cast<double>(times.sampling.load()));
  object.Set("handoverNs", static_cast<double>(times.handover.load()));
  return object;
}

Napi::Object to_js(Napi::Env env, const Heartbeat& beat, const std::string& failure) {
  const auto maybe = [env](std::optional<double> ms) {
    return ms ? Napi::Value(Napi::Number::New(env, *ms)) : env.Null();
  };
  Napi::Object object = Napi::Object::New(env);
  object.Set("stepMs", maybe(beat.step_ms));
  object.Set("lastStepMs", maybe(beat.last_step_ms));
  object.Set("limitMs", beat.limit_ms);
  if (!failure.empty()) object.Set("failure", failure);
  return object;
}

namespace {

Napi::Object model_facts(Napi::Env env, const Model& model) {
  const llama_model* handle = model.get();
  Napi::Object object = Napi::Object::New(env);
  object.Set("architecture", model.metadata("general.architecture"));
  object.Set("description", model.description());
  object.Set("parameters", static_cast<double>(llama_model_n_params(handle)));
  object.Set("sizeBytes", static_cast<double>(llama_model_size(handle)));
  object.Set("layers", llama_model_n_layer(handle));
  object.Set("vocabulary", llama_vocab_n_tokens(model.vocab()));
  object.Set("embeddingLength", llama_model_n_embd(handle));
  object.Set("contextTrain", llama_model_n_ctx_train(handle));
  object.Set("chatTemplate", model.has_chat_template());
  object.Set("recurrent", model.recurrent());
  return object;
}

Napi::Object pair_to_js(Napi::Env env, const PairFormat& pair) {
  const auto tokens = [env](const std::vector<llama_token>& ids) {
    Napi::Array array = Napi::Array::New(env, ids.size());
    for (uint32_t i = 0; i < ids.size(); i++) {
      array.Set(i, ids[i]);
    }
    return array;
  };
  Napi::Object object = Napi::Object::New(env);
  object.Set("template", pair.text);
  object.Set("before", tokens(pair.before));
  object.Set("between", tokens(pair.between));
  object.Set("after", tokens(pair.after));
  return object;
}

} // namespace

Napi::Object facts_to_js(Napi::Env env, const Engine& engine) {
  Napi::Object object = model_facts(env, engine.model());
  object.Set("context", engine.context());
  object.Set("slots", engine.slots());
  return object;
}

Napi::Object facts_to_js(Napi::Env env, const Embedder& embedder) {
  Napi::Object object = model_facts(env, embedder.model());
  object.Set("pair", pair_to_js(env, embedder.model().pair_format()));
  object.Set("context", embedder.context());
  object.Set("pooling", embedder.pooling());
  object.Set("width", embedder.width());
  object.Set("batch", embedder.batch());
  return object;
}

Napi::Value error_to_js(Napi::Env env, const EngineError& error) {
  Napi::Object object = Napi::Error::New(env, error.what()).Value();
  object.Set("code", error.code);
  object.Set("native", error.native_code);
  return object;
}

} // namespace rbee
