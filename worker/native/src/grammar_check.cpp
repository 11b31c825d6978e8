#include "grammar_check.h"

#include "errors.h"

#include "json-schema-to-grammar.h"

namespace rbee {

namespace {

// llama.cpp parses schemas and grammars by recursion: what is nested deeper could overflow its stack.
constexpr int max_nesting = 200;
// It also follows rules from one to the next by recursion, and a schema's optional properties as well.
constexpr int max_rules = 2000;
constexpr int max_schema_keys = 1000;

void check_nesting(const std::string& text, const char* open, const char* close, const std::string& what) {
  const std::string opening = open;
  const std::string closing = close;
  int depth = 0;
  for (const char c : text) {
    if (opening.find(c) != std::string::npos && ++depth > max_nesting) {
      throw EngineError("INVALID_REQUEST",
                        what + " is nested deeper than " + std::to_string(max_nesting) + " levels.");
    }
    if (closing.find(c) != std::string::npos && depth > 0) {
      depth--;
    }
  }
}

int count_of(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) {
    count++;
  }
  return count;
}

void check_count(int count, int limit, const std::string& what) {
  if (count > limit) {
    throw EngineError("INVALID_REQUEST", what + " are " + std::to_string(count) + ", at most " +
                                             std::to_string(limit) + " are allowed.");
  }
}

// Groups become rules of their own.
void check_rules(const std::string& grammar, const std::string& what) {
  check_count(count_of(grammar, "::=") + count_of(grammar, "("), max_rules, what);
}

} // namespace

void check_schema_size(const std::string& json, const std::string& what) {
  check_nesting(json, "{[", "}]", what);
  check_count(count_of(json, "\":"), max_schema_keys, "The keys of " + what);
}

void check_grammar(const std::string& grammar, const std::string& what) {
  check_nesting(grammar, "(", ")", what);
  check_rules(grammar, "The rules of " + what);
  // What follows would not be read: the answer would be free where it was to be bound.
  if (grammar.find('\0') != std::string::npos) {
    throw EngineError("INVALID_REQUEST", what + " holds a NUL character.");
  }
  // common takes this prefix for another library's grammar and ends the process where that is not built in.
  if (grammar.rfind("%llguidance", 0) == 0) {
    throw EngineError("INVALID_REQUEST", what + " must be GBNF.");
  }
}

std::string grammar_of_schema(const std::string& schema) {
  check_schema_size(schema, "json_schema");
  std::string grammar;
  try {
    grammar = json_schema_to_grammar(common_json::parse(schema));
  } catch (const std::exception& error) {
    throw EngineError("INVALID_REQUEST", std::string("json_schema cannot be used: ") + error.what());
  }
  check_grammar(grammar, "json_schema's grammar");
  return grammar;
}

} // namespace rbee
