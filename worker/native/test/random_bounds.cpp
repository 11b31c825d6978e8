// The inputs that engine_bounds draws at random.
#include "hostile_bounds.h"

#include <cstdint>
#include <cstring>
#include <iterator>

namespace rbee::bounds {

namespace {

template <typename Number>
void put(std::vector<uint8_t>& bytes, size_t at, Number value) {
  if (at + sizeof(value) <= bytes.size()) std::memcpy(bytes.data() + at, &value, sizeof(value));
}

} // namespace

namespace {

std::string random_item(Random& random, int depth) {
  static const char* const items[] = {
      "\"a\"",  "[a-z]",           "[^x]",  ".",        "\" \"", "\"\\\"\"", "[\\]]", "\"th\"", "\"{2,1}\"",
      "[{}()]", "\"\\U0001F600\"", "[0-9]", "\"\\\\\"", "r1",    "r2",       "r3",    "root",   "\"the \""};
  if (depth > 0 && random.chance(35)) {
    std::string group = "(";
    for (int i = random.below(4); i >= 0; i--) {
      group += random_item(random, depth - 1) + (random.chance(30) ? " | " : " ");
    }
    return group + ")";
  }
  return items[random.below(static_cast<int>(std::size(items)))];
}

} // namespace

std::string random_grammar(Random& random) {
  static const char* const repeats[] = {"",      "",     "",      "?",       "*",      "+",    "{3}",
                                        "{0,9}", "{2,}", "{200}", "{0,500}", "{1000}", "{7,3}"};
  std::string grammar;
  for (const char* rule : {"root", "r1", "r2", "r3"}) {
    grammar += std::string(rule) + " ::= ";
    const int items = 1 + random.below(random.chance(10) ? 300 : 6);
    for (int i = 0; i < items; i++) {
      grammar += random_item(random, 4) + repeats[random.below(static_cast<int>(std::size(repeats)))];
      grammar += random.chance(15) ? " | " : " ";
    }
    grammar += "\"e\"\n";
  }
  return grammar;
}

namespace {

std::string random_node(Random& random, int depth) {
  const auto numbers = [&random] {
    static const char* const all[] = {
        "0", "1", "3", "40", "2000", "2001", "2147483647", "-1", "9223372036854775807", "1e300"};
    return std::string(all[random.below(static_cast<int>(std::size(all)))]);
  };
  switch (random.below(depth > 0 ? 12 : 6)) {
  case 0:
    return R"({"type":"string","minLength":)" + numbers() + R"(,"maxLength":)" + numbers() + "}";
  case 1:
    return R"({"type":"integer","minimum":)" + numbers() + R"(,"maximum":)" + numbers() + "}";
  case 2:
    return R"({"type":"string","pattern":"^(a|b?){0,)" + numbers() + R"(}(c*d?)+$"})";
  case 3:
    return R"({"enum":["a",1,null,{"b":[2]},")" + times("x", random.below(1000)) + R"("]})";
  case 4:
    return R"({"$ref":"#/$defs/)" + std::string(1, static_cast<char>('a' + random.below(4))) + R"("})";
  case 5:
    return random.chance(50) ? "{}" : R"({"type":["string","null","boolean"]})";
  case 6:
  case 7:
    return R"({"type":"array","items":)" + random_node(random, depth - 1) + R"(,"minItems":)" + numbers() +
           R"(,"maxItems":)" + numbers() + "}";
  case 8:
    return R"({"anyOf":[)" + random_node(random, depth - 1) + "," + random_node(random, depth - 1) + "]}";
  case 9:
    return R"({"allOf":[)" + random_node(random, depth - 1) + "," + random_node(random, depth - 1) + "]}";
  default:
    return object_schema(1 + random.below(random.chance(10) ? 200 : 5), random_node(random, depth - 1),
                         random.chance(50));
  }
}

} // namespace

std::string random_schema(Random& random) {
  std::string defs;
  for (const char* name : {"a", "b", "c", "d"}) {
    defs += (defs.empty() ? "\"" : ",\"") + std::string(name) + "\":" + random_node(random, 2);
  }
  return R"({"$defs":{)" + defs + R"(},"type":"object","properties":{"x":)" + random_node(random, 4) +
         R"(,"y":)" + random_node(random, 3) + R"(},"required":["x"]})";
}

std::string random_answer(Random& random) {
  static const char* const parts[] = {"Once upon a time. ", "\n\n",       "caf\xC3\xA9 ", " < b ",
                                      "\xF0\x9F\x90\x9D",   "{\"a\": 1} "};
  const auto text = [&] {
    std::string all;
    for (int i = random.below(6); i >= 0; i--) {
      all += times(parts[random.below(static_cast<int>(std::size(parts)))], random.chance(20) ? 300 : 1);
    }
    return all;
  };
  std::string answer = random.chance(30) ? "<think>" + text() + "</think>" : "";
  answer += "Well. " + text();
  for (int i = random.below(4); i > 0; i--) {
    answer += "<tool_call>\n{\"name\": \"write\", \"arguments\": {\"text\": \"" +
              times("lorem \\\" ", 1 + random.below(900)) + "\"}}\n</tool_call>";
  }
  return answer;
}

SequenceState random_state(Random& random, const SequenceState& good) {
  SequenceState state = good;
  const int changes = 1 + random.below(4);
  for (int i = 0; i < changes && !state.kv.empty(); i++) {
    const auto at = static_cast<size_t>(random.below(random.chance(70) ? 400 : 1 << 30)) % state.kv.size();
    switch (random.below(5)) {
    case 0:
      state.kv[at] ^= static_cast<uint8_t>(1 << random.below(8));
      break;
    case 1:
      put(state.kv, at / 4 * 4, static_cast<uint32_t>(random()));
      break;
    case 2:
      put(state.kv, at / 4 * 4, uint32_t{0x7fffffff});
      break;
    case 3:
      state.kv.resize(at);
      break;
    default:
      state.kv_tokens = static_cast<size_t>(random.below(static_cast<int>(state.kv_tokens) + 3));
    }
  }
  return state;
}

} // namespace rbee::bounds
