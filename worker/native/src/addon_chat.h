// The N-API side of conversations and embeddings.
#pragma once

#include "addon_state.h"

#include <napi.h>

#include <string>
#include <vector>

namespace rbee {

// Promises of what render_conversation and Embedder::embed give. The model has to be loaded.
Napi::Promise start_rendering(Napi::Env env, StatePtr state, std::string request);
Napi::Promise start_embedding(Napi::Env env, StatePtr state, std::vector<std::vector<llama_token>> texts);

// The class `ChatParser`.
Napi::Function define_chat_parser(Napi::Env env);

} // namespace rbee
