#include "grammar_check.h"

#include "errors.h"

#include "json-schema-to-grammar.h"

#include <algorithm>
#include <limits>
#include <set>
#include <vector>

namespace rbee {

namespace {

constexpr int max_nesting = 200;
// Of a key, out of which rules are named by a regular expression that recurses once a character.
constexpr size_t max_key_bytes = 1024;
constexpr size_t max_schema_bytes = 4 * 1024 * 1024;
constexpr size_t max_grammar_bytes = 8 * 1024 * 1024;
// As in llama.cpp, where a greater maximum is none at all.
constexpr uint64_t max_repetitions = 2000;
// Of repetitions within groups that are repeated themselves.
constexpr uint64_t max_nested_repetitions = 1000000;
// Of words that begin a constraint.
constexpr size_t max_trigger_bytes = 1024;

EngineError refused(const std::string& why) {
  return {"INVALID_REQUEST", why};
}

EngineError too_deep(const std::string& what) {
  return refused(what + " is nested deeper than " + std::to_string(max_nesting) + " levels.");
}

void check_bytes(const std::string& text, size_t limit, const std::string& what) {
  if (text.size() <= limit) return;
  throw refused(what + " has " + std::to_string(text.size()) + " bytes, at most " + std::to_string(limit) +
                " are allowed.");
}

// Reads GBNF as far as its bounds ask for it; what is malformed is left to llama.cpp.
class GrammarReader {
 public:
  GrammarReader(const std::string& text, const std::string& what) : text_(text), what_(what) {}

  void check() {
    while (at_ < text_.size()) {
      const char c = text_[at_++];
      switch (c) {
      case '"':
        skip_until('"');
        item();
        break;
      case '[':
        skip_until(']');
        item();
        break;
      case '#':
        at_ = std::min(text_.find_first_of("\r\n", at_), text_.size());
        break;
      case '(':
        if (groups_.size() > max_nesting) throw too_deep(what_);
        groups_.push_back(1);
        break;
      case ')':
        close_group();
        break;
      case '{':
        repetition();
        break;
      case '*':
      case '+':
        item_ = std::max<uint64_t>(item_, 2);
        break;
      default:
        if (c != ' ' && c != '\t' && c != '\r' && c != '\n' && c != '?') item();
      }
    }
  }

 private:
  void skip_until(char end) {
    while (at_ < text_.size() && text_[at_] != end) {
      at_ += text_[at_] == '\\' ? 2 : 1;
    }
    at_++;
  }

  // What follows repeats this.
  void item(uint64_t repeated = 1) {
    item_ = repeated;
    groups_.back() = std::max(groups_.back(), repeated);
  }

  void close_group() {
    const uint64_t inner = groups_.back();
    if (groups_.size() > 1) groups_.pop_back();
    item(inner);
  }

  void skip_space() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r')) {
      at_++;
    }
  }

  // Any number that is too large is as large as all others.
  uint64_t number() {
    uint64_t value = 0;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
      value = std::min<uint64_t>(value * 10 + static_cast<uint64_t>(text_[at_++] - '0'),
                                 std::numeric_limits<uint32_t>::max());
    }
    return value;
  }

  void repetition() {
    skip_space();
    const uint64_t least = number();
    uint64_t most = least;
    skip_space();
    if (at_ < text_.size() && text_[at_] == ',') {
      at_++;
      skip_space();
      const size_t digits = at_;
      most = number();
      if (at_ == digits) most = std::max<uint64_t>(least, 1);
    }
    const std::string written = "{" + std::to_string(least) + "," + std::to_string(most) + "}";
    if (most < least) throw refused(what_ + " has the repetition " + written + ", whose maximum is less.");
    if (least > max_repetitions || most >= std::numeric_limits<uint32_t>::max()) {
      throw refused(what_ + " has the repetition " + written + ", at most " +
                    std::to_string(max_repetitions) + " are allowed.");
    }
    const uint64_t repeated = item_ * std::max<uint64_t>(std::min(most, max_repetitions), 1);
    if (repeated > max_nested_repetitions) {
      throw refused(what_ + " repeats something more than " + std::to_string(max_nested_repetitions) +
                    " times by repetitions within repetitions.");
    }
    item(repeated);
  }

  const std::string& text_;
  const std::string& what_;
  size_t at_ = 0;
  uint64_t item_ = 1;               // how often the last item repeats what is in it
  std::vector<uint64_t> groups_{1}; // the same for the items of each open group, the most of them
};

} // namespace

void check_schema(const std::string& json, const std::string& what) {
  check_bytes(json, max_schema_bytes, what);
  int depth = 0;
  for (size_t at = 0; at < json.size(); at++) {
    const char c = json[at];
    if (c == '{' || c == '[') {
      if (++depth > max_nesting) throw too_deep(what);
    } else if (c == '}' || c == ']') {
      depth--;
    } else if (c == '"') {
      const size_t start = at++;
      while (at < json.size() && json[at] != '"') {
        at += json[at] == '\\' ? 2 : 1;
      }
      if (at - start <= max_key_bytes) continue;
      const size_t next = json.find_first_not_of(" \t\r\n", at + 1);
      if (next == std::string::npos || json[next] != ':') continue;
      throw refused(what + " has a key of more than " + std::to_string(max_key_bytes) + " bytes.");
    }
  }
}

void check_grammar(const std::string& grammar, const std::string& what) {
  check_bytes(grammar, max_grammar_bytes, what);
  // What follows would not be read: the answer would be free where it was to be bound.
  if (grammar.find('\0') != std::string::npos) throw refused(what + " holds a NUL character.");
  // common takes this prefix for another library's grammar and ends the process where that is not built in.
  if (grammar.rfind("%llguidance", 0) == 0) throw refused(what + " must be GBNF.");
  GrammarReader(grammar, what).check();
}

// The standard library's regular expressions recurse once a character and may try without end, so only those
// are let in that llama.cpp writes itself.
void check_trigger(const common_grammar_trigger& trigger) {
  static const std::set<std::string> patterns = {
      ">>>(?!all)",
      "^\\s+to$",
      "^<\\|channel\\|>(?:commentary|analysis)\\s+to=functions$",
      "<\\|start\\|>assistant(\\s+to)",
      "<\\|start\\|>assistant(<\\|channel\\|>(?:commentary|analysis)\\s+to)",
      "(?:^|<\\|start\\|>assistant)( to=(?!self<\\|message\\|>)(?!user<\\|message\\|>)[^<]*?<\\|message\\|>)",
  };
  check_bytes(trigger.value, max_trigger_bytes, "A trigger of the constraint");
  switch (trigger.type) {
  case COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN:
  case COMMON_GRAMMAR_TRIGGER_TYPE_WORD:
    return;
  case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN:
    if (patterns.count(trigger.value) > 0) return;
    break;
  default:
    break;
  }
  throw refused("The constraint has a trigger that no chat template makes.");
}

std::string grammar_of_schema(const std::string& schema) {
  check_schema(schema, "json_schema");
  std::string grammar;
  try {
    grammar = json_schema_to_grammar(common_json::parse(schema));
  } catch (const std::exception& error) {
    throw refused(std::string("json_schema cannot be used: ") + error.what());
  }
  check_grammar(grammar, "json_schema's grammar");
  return grammar;
}

} // namespace rbee
