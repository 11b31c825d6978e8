// The one exception of the engine: a code of the protocol's catalogue, a message for people, llama.cpp's own
// number.
#pragma once

#include <stdexcept>
#include <string>

namespace rbee {

struct EngineError : std::runtime_error {
  EngineError(std::string code, const std::string& message, int native_code = 0)
      : std::runtime_error(message), code(std::move(code)), native_code(native_code) {}

  std::string code; // as in protocol/errors.ts
  int native_code;  // what llama.cpp returned, 0 where it gave none
};

} // namespace rbee
