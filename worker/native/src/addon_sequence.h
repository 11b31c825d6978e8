// What can be taken out of a running engine for another one: answers, and who holds the beginning of which
// prompt.
#pragma once

#include "addon_state.h"
#include "events.h"

#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

namespace rbee {

struct ExportWish {
  bool with_kv;
  bool stop;
};

// A promise of where an answer stands.
Napi::Value start_export(Napi::Env env, StatePtr state, Handle handle, ExportWish wish);
// A promise of the blocks that the slots hold.
Napi::Value start_look(Napi::Env env, StatePtr state);

// As numbers, which have room for them.
Napi::Float64Array blocks_to_js(Napi::Env env, const std::vector<uint64_t>& blocks);
Napi::Array texts_to_js(Napi::Env env, const std::vector<std::string>& texts);

} // namespace rbee
