// JavaScript values ↔ the engine's own. The shapes are declared for TypeScript in worker/native/addon.ts.
#pragma once

#include "devices.h"
#include "embedder.h"
#include "engine.h"
#include "errors.h"
#include "request.h"

#include <napi.h>

#include <string>
#include <vector>

namespace rbee {

// Throw EngineError INVALID_REQUEST for a value of the wrong type: what comes from JavaScript is never
// trusted.
std::string read_string(const Napi::Object& object, const char* name);
std::vector<std::string> read_strings(const Napi::Object& object, const char* name);
bool has(const Napi::Object& object, const char* name);
int read_integer(const Napi::Object& object, const char* name);
float read_float(const Napi::Object& object, const char* name);
Napi::Object read_object(const Napi::Value& value, const char* what);
std::vector<llama_token> read_tokens(const Napi::Value& value, const char* what);
RequestOptions read_request(const Napi::Object& object);
ModelOptions read_model_options(const Napi::Object& object);
EngineOptions read_engine_options(const Napi::Object& object);
EmbedderOptions read_embedder_options(const Napi::Object& object);
// Throws EngineError INVALID_REQUEST for an id that is not below `vocabulary`.
void check_tokens(const std::vector<llama_token>& tokens, int vocabulary);
// Each with ids below `vocabulary` only.
std::vector<std::vector<llama_token>> read_texts(const Napi::Value& value, int vocabulary);
SequenceState read_sequence(const Napi::Object& object);

Napi::Object to_js(Napi::Env env, const Device& device);
Napi::Object to_js(Napi::Env env, const LoadProgress& progress);
Napi::Object to_js(Napi::Env env, const MemoryUse& use);
Napi::Object to_js(Napi::Env env, const Event& event);
Napi::Object to_js(Napi::Env env, const EngineTimes& times);
// `failure` is empty while the thread runs.
Napi::Object to_js(Napi::Env env, const Heartbeat& beat, const std::string& failure);
Napi::Object to_js(Napi::Env env, const GeneratedToken& token);
Napi::Object to_js(Napi::Env env, const SequenceState& state);
Napi::Object to_js(Napi::Env env, const Mark& mark);
Napi::Object facts_to_js(Napi::Env env, const Engine& engine);
Napi::Object facts_to_js(Napi::Env env, const Embedder& embedder);

// An Error with `code` and `native` beside its message.
Napi::Value error_to_js(Napi::Env env, const EngineError& error);

} // namespace rbee
