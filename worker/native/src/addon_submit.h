// Requests for answers, from JavaScript to the engine.
#pragma once

#include "addon_state.h"

#include <napi.h>

namespace rbee {

// A promise of what was settled about the request when it was taken. The model has to be loaded.
Napi::Promise start_submit(Napi::Env env, const StatePtr& state, Handle handle, RequestOptions options);

} // namespace rbee
