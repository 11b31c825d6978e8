// Bounds on grammars and schemas, which llama.cpp reads by recursion.
#pragma once

#include <string>

namespace rbee {

// Throw EngineError INVALID_REQUEST for what is too large or too deep to be read safely. `what` names it.
void check_schema_size(const std::string& json, const std::string& what);
void check_grammar(const std::string& grammar, const std::string& what);

// The grammar of everything that satisfies a schema (JSON text). Throws EngineError INVALID_REQUEST.
std::string grammar_of_schema(const std::string& schema);

} // namespace rbee
