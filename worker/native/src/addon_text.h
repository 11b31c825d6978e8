// From text to what the model reads, and back: on the engine's own pool, and to be canceled by a handle.
#pragma once

#include "addon_state.h"

#include <napi.h>

#include <string>
#include <vector>

namespace rbee {

struct Tokenizing {
  std::string text;
  bool add_special;
  bool parse_special;
  int limit; // of tokens; 0: none
};

// A promise of ids.
Napi::Promise start_tokenizing(Napi::Env env, StatePtr state, Handle handle, Tokenizing what);
// A promise of the text of ids that the vocabulary has, special ones shown.
Napi::Promise start_detokenizing(Napi::Env env, StatePtr state, Handle handle,
                                 std::vector<llama_token> tokens);
// A promise of what `render_conversation` makes of a request.
Napi::Promise start_rendering(Napi::Env env, StatePtr state, Handle handle, std::string request);

} // namespace rbee
