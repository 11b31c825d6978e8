// What llama.cpp would only find out by ending the process.
#pragma once

#include <string>

namespace rbee {

// Looks at the header of a GGUF file: values and tensor types that load but make computing crash. Returns the
// number of layers. Throws EngineError INVALID_MODEL.
int check_model_file(const std::string& path);

} // namespace rbee
