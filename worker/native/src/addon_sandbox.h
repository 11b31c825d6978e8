// The N-API side of the sandbox.
#pragma once

#include <napi.h>

namespace rbee {

// Adds `sandboxSupport` and `confine`. With RBEE_TEST_FORBIDDEN in the environment also `tryForbidden`, by
// which a test makes native code try what a sandbox refuses.
void define_sandbox(Napi::Env env, Napi::Object exports);

} // namespace rbee
