// What llama.cpp's grammar throws when a token was chosen that it does not allow: it allows none of those
// that there are, see worker/native/compat/patches.cmake.
#pragma once

#include <stdexcept>

namespace rbee {

struct GrammarDeadEnd : std::runtime_error {
  using std::runtime_error::runtime_error;
};

} // namespace rbee
