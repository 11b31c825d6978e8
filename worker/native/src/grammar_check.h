// Bounds on grammars, schemas and triggers that are not left to a budget, because what llama.cpp and the
// standard library do with more cannot be stopped.
#pragma once

#include "common.h"

#include <string>

namespace rbee {

// Throw EngineError INVALID_REQUEST for what cannot be read safely. `what` names it.
void check_schema(const std::string& json, const std::string& what);
void check_grammar(const std::string& grammar, const std::string& what);
void check_trigger(const common_grammar_trigger& trigger);

// The grammar of everything that satisfies a schema (JSON text). Takes as long as its budget lets it. Throws
// EngineError INVALID_REQUEST.
std::string grammar_of_schema(const std::string& schema);

} // namespace rbee
