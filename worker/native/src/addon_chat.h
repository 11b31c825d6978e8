// The N-API side of embeddings and of reading answers.
#pragma once

#include "addon_state.h"

#include <napi.h>

#include <vector>

namespace rbee {

// A promise of what Embedder::embed gives. The model has to be loaded.
Napi::Promise start_embedding(Napi::Env env, StatePtr state, std::vector<std::vector<llama_token>> texts);

// The class `ChatParser`.
Napi::Function define_chat_parser(Napi::Env env);

} // namespace rbee
