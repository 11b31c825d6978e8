#include "hostile_bounds.h"

#include <cstdint>
#include <cstring>
#include <limits>

namespace rbee::bounds {

const char* const tool_template =
    "{%- for m in messages %}<|im_start|>{{ m.role }}\n"
    "{%- if m.role == 'assistant' and m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif "
    "%}"
    "{{ m.content }}"
    "{%- for call in m.tool_calls or [] %}<tool_call>\n{\"name\": \"{{ call.function.name }}\", "
    "\"arguments\": "
    "{{ call.function.arguments | tojson }}}\n</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{%- if tools %}<tools>{% for t in tools %}{{ t | tojson }}{% endfor %}</tools>{% endif %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

const char* const tool_conversation =
    R"({"messages":[{"role":"user","content":"Write."}],"tools":[{"type":"function",
"function":{"name":"write","parameters":{"type":"object","properties":{"text":{"type":"string"},"any":{}}}}}]})";

std::string times(const std::string& text, int count) {
  std::string all;
  all.reserve(text.size() * static_cast<size_t>(count));
  for (int i = 0; i < count; i++) {
    all += text;
  }
  return all;
}

std::string number(int value) {
  return std::to_string(value);
}

std::string object_schema(int properties, const std::string& each, bool required) {
  std::string schema = "{\"type\":\"object\",\"properties\":{";
  std::string names;
  for (int i = 0; i < properties; i++) {
    schema += (i > 0 ? ",\"p" : "\"p") + number(i) + "\":" + each;
    names += (i > 0 ? ",\"p" : "\"p") + number(i) + "\"";
  }
  return schema + "}" + (required ? ",\"required\":[" + names + "]" : "") + "}";
}

namespace {

// Rules r0 to r(count), each by the one before: "r1 ::= r0 r0" and so on.
std::string chain(int count, const std::string& before, const std::string& after, const std::string& last) {
  std::string grammar = "root ::= r" + number(count) + "\nr0 ::= " + last + "\n";
  for (int i = 1; i <= count; i++) {
    std::string body = before + after;
    for (size_t at = body.find('@'); at != std::string::npos; at = body.find('@')) {
      body.replace(at, 1, "r" + number(i - 1));
    }
    grammar += "r" + number(i) + " ::= " + body + "\n";
  }
  return grammar;
}

std::string enum_schema(int values) {
  std::string schema = "{\"enum\":[";
  for (int i = 0; i < values; i++) {
    schema += (i > 0 ? ",\"value " : "\"value ") + number(i) + "\"";
  }
  return schema + "]}";
}

std::string message(const std::string& content, const std::string& more = "") {
  return "{\"messages\":[{\"role\":\"user\",\"content\":\"" + content + "\"}]" + more + "}";
}

std::string constraint(const std::string& grammar, bool lazy, const std::string& triggers,
                       const std::string& prompt = "", const std::string& ends = "") {
  return R"({"grammar":")" + grammar + R"(","lazy":)" + (lazy ? "true" : "false") + R"(,"triggers":[)" +
         triggers + R"(],"preserved_tokens":[],"generation_prompt":")" + prompt +
         R"(","thinking_start":"","thinking_ends":[)" + ends + "]}";
}

std::string trigger(int type, const std::string& value) {
  return "{\"type\":" + number(type) + R"(,"token":-1,"value":")" + value + "\"}";
}

template <typename Number>
void put(std::vector<uint8_t>& bytes, size_t at, Number value) {
  if (at + sizeof(value) <= bytes.size()) std::memcpy(bytes.data() + at, &value, sizeof(value));
}

// A token of theirs is chosen by thousands of allocations, which under a sanitizer take thirty times as long.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int many_values = 100;
#else
constexpr int many_values = 1000;
#endif

} // namespace

std::vector<HostileText> ordinary_schemas() {
  return {
      {"a person",
       R"({"type":"object","properties":{"name":{"type":"string","minLength":1,"maxLength":200},"age":{"type":
"integer","minimum":0,"maximum":150},"mail":{"type":"string","pattern":"^[a-z.]+@[a-z.]+$"},"tags":{"type":"array",
"items":{"type":"string"},"maxItems":20}},"required":["name","age"]})"},
      {"a tree",
       R"({"$defs":{"node":{"type":"object","properties":{"value":{},"children":{"type":"array","items":{"$ref":
"#/$defs/node"}}},"required":["value","children"]}},"$ref":"#/$defs/node"})"},
      {"many values", enum_schema(many_values)},
      {"200 required properties", object_schema(200, "{\"type\":\"string\"}", true)},
      {"50 optional properties", object_schema(50, "{\"type\":[\"string\",\"null\"]}")},
      {"a key in a text", R"({"const":")" + times("x", 5000) + R"("})"},
  };
}

std::string many_tools(int tools, int parameters) {
  std::string request = R"({"messages":[{"role":"user","content":"Write."}],"tools":[)";
  for (int i = 0; i < tools; i++) {
    request += (i > 0 ? "," : "") + std::string(R"({"type":"function","function":{"name":"tool_)") +
               number(i) + R"(","description":"Does one thing.","parameters":)" +
               object_schema(parameters, R"({"type":"string","description":"Some text."})") + "}}";
  }
  return request + "]}";
}

std::vector<HostileText> hostile_grammars() {
  return {
      {"an optional class 1,000 times", "root ::= ([^\\x00]?){1000}"},
      {"400 optional letters", "root ::= " + times("\"a\"? ", 400) + "\"b\""},
      {"2,000 optional classes", "root ::= " + times("[a-z ]? ", 2000) + "\"b\""},
      {"an optional word in braces", "root ::= (\" \"? [a-zA-Z]? \".\"?){600}"},
      {"a maximum below the minimum", "root ::= \"a\"{2,1}", true},
      {"the same of a group over lines", "root ::= (\n\"a\" |\n\"b\"){ 5 , 3 }", true},
      {"the same of a class with a brace", "root ::= [}\\]]{9,8}", true},
      {"the same behind a comment's quote", "root ::= \"a\" # \"\n\"b\" {2,1}\n", true},
      {"a minimum of 3,000", "root ::= \"a\"{3000}", true},
      {"a minimum that overflows", "root ::= \"a\"{99999999999999999999,}", true},
      {"a maximum that overflows", "root ::= \"a\"{1,18446744073709551616}", true},
      {"repetitions within repetitions", "root ::= ((((\"a\"{100}){100}){100}){100}){100}", true},
      {"repetitions that a literal only names", "root ::= \"{2,1}\" | [{2,1}] # {2,1}"},
      {"5,000 groups within each other", "root ::= " + times("(", 5000) + "\"a\"" + times(")", 5000), true},
      {"a literal of 1 MB, repeated", "root ::= \"" + times("a", 1000000) + "\"{2000}"},
      {"a class of 100,000", "root ::= [" + times("ab", 50000) + "]*"},
      {"100,000 alternatives", "root ::= " + times("\"a\" [b-z] | ", 100000) + "\"b\""},
      {"the same alternatives 100,000 times over", "root ::= (" + times("[a-zA-Z ]+ | ", 20000) + "\"b\")*"},
      {"left recursion", "root ::= root \"a\" | \"b\""},
      {"left recursion behind what may be empty by way of others",
       "root ::= b root \"x\" | \"y\"\nb ::= c\nc ::= | \"z\""},
      {"no text at all", "root ::= b root\nb ::= c\nc ::= "},
      {"only itself", "root ::= root"},
      {"a character without a token", "root ::= \"\\U0010FFFF\""},
      {"half a character", "root ::= [\\uD800-\\uDFFF]"},
      {"nothing", "root ::= "},
      {"an empty class", "root ::= []"},
      {"an undefined rule", "root ::= nothing"},
      {"a token that is not one", "root ::= <[99999999999]>"},
      {"a token", "root ::= <[5]> | !<[7]>"},
      {"rules that double, 40 deep", chain(40, "@ @", "", "\"a\"?")},
      {"rules that double and may be empty", chain(40, "@ @", " | ", "\"a\"")},
      {"alternatives that double", chain(30, "@ \"a\" | @ \"b\"", "", "\"c\"")},
      {"rules one after the other, 100,000 deep", chain(100000, "@", "", "\"a\"")},
      {"the same, and may be empty", chain(100000, "@ ", "| ", "\"a\"")},
      {"right recursion that grows", "root ::= \" \"? root \"x\" | [a-z]"},
      {"ambiguous lists", "root ::= item*\nitem ::= [a-z ]* | [a-z .]* | [A-Za-z ,]*"},
      {"repetition of what may be empty", "root ::= ((\"a\"?)*)*"},
      {"palindromes", "root ::= [a-z ] root [a-z ] | [a-z ]"},
      {"another library's", "%llguidance {}", true},
  };
}

std::vector<HostileText> hostile_schemas() {
  std::string all_of = "{\"allOf\":[";
  for (int i = 0; i < 400; i++) {
    all_of += (i > 0 ? "," : "") + object_schema(30, "{\"type\":\"string\"}");
  }
  all_of += "]}";
  std::string doubling = R"({"$defs":{"d0":{"type":"string"})";
  for (int i = 1; i < 40; i++) {
    const std::string before = R"({"$ref":"#/$defs/d)" + number(i - 1) + "\"}";
    doubling += ",\"d" + number(i) + R"(":{"anyOf":[{"type":"object","properties":{"a":)" + before +
                ",\"b\":" + before + "}}," + before + "]}";
  }
  doubling += R"(},"$ref":"#/$defs/d39"})";
  std::string nested = "{\"type\":\"string\"}";
  for (int i = 0; i < 60; i++) {
    nested = R"({"type":"array","maxItems":50,"items":)" + nested + "}";
  }
  return {
      {"maxLength below minLength", R"({"type":"string","minLength":2,"maxLength":1})"},
      {"maxItems below minItems", R"({"type":"array","items":{"type":"integer"},"minItems":9,"maxItems":8})"},
      {"a repetition in a pattern", R"({"type":"string","pattern":"^a{2,1}$"})"},
      {"the same, deep", R"({"type":"string","pattern":"^(b(a{3,2})*)+$"})"},
      {"a pattern that backtracks", R"({"type":"string","pattern":"^(a?){1000}$"})"},
      {"optional groups", R"({"type":"string","pattern":"^)" + times("(a|b)?", 500) + R"($"})"},
      {"a pattern of 100,000", R"({"type":"string","pattern":"^)" + times("ab*", 100000) + R"($"})"},
      {"nested groups",
       R"({"type":"string","pattern":"^)" + times("(", 90) + "a" + times(")+", 90) + R"($"})"},
      {"minLength 2 billion", R"({"type":"string","minLength":2000000000})"},
      {"maxLength 2,000", R"({"type":"string","maxLength":2000})"},
      {"maxItems 2,000 of optional things",
       R"({"type":"array","maxItems":2000,"items":)" + object_schema(20, "{\"type\":\"boolean\"}") + "}"},
      {"all integers but one",
       R"({"type":"integer","minimum":-9223372036854775807,"maximum":9223372036854775806})"},
      {"the least integer", R"({"type":"integer","minimum":-9223372036854775808,"maximum":5})"},
      {"maximum below minimum", R"({"type":"integer","minimum":5,"maximum":-5})"},
      {"100,000 values", enum_schema(100000)},
      {"a constant of 1 MB", R"({"const":")" + times("x", 1000000) + R"("})"},
      {"1,000 optional properties", object_schema(1000, "{\"type\":\"string\"}")},
      {"5,000 required properties", object_schema(5000, "{\"type\":\"integer\",\"minimum\":-77}", true)},
      {"a key of 100,000 signs", "{\"type\":\"object\",\"properties\":{\"" + times("!", 100000) + "\":{}}}"},
      {"all of 400", all_of},
      {"references that double", doubling},
      {"a reference to itself", R"({"$ref":"#"})"},
      {"a circle of references",
       R"({"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"})"},
      {"a list of itself",
       R"({"$defs":{"a":{"type":"array","items":{"$ref":"#/$defs/a"}}},"$ref":"#/$defs/a"})"},
      {"60 lists within each other", nested},
      {"199 levels", times("{\"type\":\"array\",\"items\":", 99) + "{}" + times("}", 99)},
      {"100,000 levels", times("[", 100000) + times("]", 100000)},
      {"braces in a text", R"({"const":"{{{{[[[["})"},
      {"not JSON", "{"},
      {"a number", "7"},
  };
}

std::vector<HostileText> hostile_constraints() {
  const std::string grammar = "root ::= \\\"x\\\" [a-z]*";
  return {
      {"100,000 parentheses", constraint(grammar, true, trigger(2, times("(", 100000)))},
      {"nested stars", constraint(grammar, true, trigger(2, "(a*)*(a*)*(a*)*(a*)*b"))},
      {"any text by recursion", constraint(grammar, true, trigger(3, "[\\\\s\\\\S]*"))},
      {"alternatives that backtrack", constraint(grammar, true, trigger(2, times("(a|a|b)?", 30)))},
      {"a long word", constraint(grammar, true, trigger(1, times("ab", 100000)))},
      {"a word of signs", constraint(grammar, true, trigger(1, ".*+?(){}[]|^$"))},
      {"a token that is not one", constraint(grammar, true, trigger(0, "x"))},
      {"a prompt that the grammar refuses", constraint(grammar, false, "", "zzzz")},
      {"a repetition", constraint("root ::= \\\"a\\\"{2,1}", true, trigger(1, "x"))},
      {"an endless grammar", constraint("root ::= ([^\\\\x00]?){1000}", false, "")},
      {"the same, lazily", constraint("root ::= ([^\\\\x00]?){1000}", true, trigger(1, "e"))},
      {"100,000 triggers", constraint(grammar, true, times(trigger(1, "a") + ",", 100000) + trigger(1, "b"))},
  };
}

std::vector<HostileText> hostile_templates() {
  const std::string ifs = times("{% if true %}", 8000) + "x" + times("{% endif %}", 8000);
  return {
      {"a thousand million turns", "{% for i in range(1000000000) %}x{% endfor %}"},
      {"loops within loops", times("{% for i in range(1000) %}", 6) + times("{% endfor %}", 6)},
      {"a text that doubles",
       "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}"
       "{% endfor %}{{ ns.s }}"},
      {"a text repeated", "{{ 'x' * 1000000000 }}"},
      {"nothing repeated", "{{ '' * 1000000000000 }}"},
      {"a list that doubles",
       "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}"
       "{% endfor %}{{ ns.s | length }}"},
      {"a list twice in itself",
       "{% set ns = namespace(s=['']) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}"
       "{% endfor %}{{ ns.s }}{{ ns.s | tojson }}"},
      {"a pair twice in itself",
       "{% set ns = namespace(s=(1, 2)) %}{% for i in range(60) %}{% set ns.s = (ns.s, ns.s) %}"
       "{% endfor %}{{ ns.s == ns.s }}{{ {ns.s: ns.s} }}"},
      {"an object twice in itself", "{% set ns = namespace(s={'a': 1}) %}{% for i in range(60) %}"
                                    "{% set ns.s = {'a': ns.s, 'b': ns.s} %}{% endfor %}{{ ns.s | tojson }}"},
      {"a list in itself", "{% set a = [1] %}{% set b = a.append(a) %}{{ a }}{{ a | tojson }}"},
      {"a list 500,000 deep",
       "{% set ns = namespace(s=[]) %}{% for i in range(500000) %}{% set ns.s = [ns.s] %}"
       "{% endfor %}{{ ns.s | tojson }}"},
      {"a macro that calls itself", "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}"},
      {"a macro that calls itself twice",
       "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}"
       "{% endmacro %}{{ f(60) }}"},
      {"8,000 conditions", ifs},
      {"20,000 parentheses", "{{ " + times("(", 20000) + "1" + times(")", 20000) + " }}"},
      {"20,000 lists", "{{ " + times("[", 20000) + times("]", 20000) + " }}"},
      {"20,000 objects", "{{ " + times("{'a':", 20000) + "1" + times("}", 20000) + " }}"},
      {"60,000 sums", "{{ 1" + times(" + 1", 60000) + " }}"},
      {"60,000 negations", "{{ " + times("not ", 60000) + "true }}"},
      {"30,000 filters", "{{ 'a'" + times(" | trim", 30000) + " }}"},
      {"30,000 members", "{{ messages" + times(".a", 30000) + " }}"},
      {"20,000 calls", "{{ range" + times("(1)", 20000) + " }}"},
      {"20,000 choices", "{{ " + times("1 if true else ", 12000) + "2 }}"},
      {"10,000 loops", times("{% for i in [1] %}", 6000) + times("{% endfor %}", 6000)},
      {"6,000 macros", times("{% macro m() %}", 6000) + times("{% endmacro %}", 6000)},
      {"6,000 filter blocks", times("{% filter upper %}", 6000) + times("{% endfilter %}", 6000)},
      {"a long text in a long text", "{{ ('a' * 500000 + 'b') in ('a' * 1000000) }}"},
      {"the same, split", "{{ ('a' * 1000000).split('a' * 500000 + 'b') | length }}"},
      {"the same from the right", "{{ ('a' * 1000000).rsplit('a' * 500000 + 'b') | length }}"},
      {"the same, replaced", "{{ ('a' * 1000000) | replace('a' * 500000 + 'b', 'c') | length }}"},
      {"the same, stripped", "{{ ('a' * 1000000).strip('b' * 1000000 + 'a') | length }}"},
      {"a text replaced by longer ones", "{{ ('a' * 1000000) | replace('a', 'a' * 1000) | length }}"},
      {"a text of parts",
       "{% set ns = namespace(s='') %}{% for i in range(100000) %}{% set ns.s = ns.s ~ ' ' %}"
       "{% endfor %}{{ ns.s | trim }}"},
      {"a long list sorted", "{{ range(200000) | sort(reverse=true) | length }}"},
      {"a long list searched", "{% for i in range(100000) %}{{ -1 in range(100000) }}{% endfor %}"},
      {"carriage returns", times("\r\n", 120000)},
      {"an open block", "{% if true %}"},
      {"an open text", "{{ 'a"},
      {"1 MB", times("x", 1000000)},
  };
}

std::vector<HostileText> hostile_conversations() {
  return {
      {"1 MB of spaces", message(times(" ", 1000000))},
      {"1 MB of letters", message(times("a", 1000000))},
      {"1 MB of words", message(times("a b ", 250000))},
      {"8 MB", message(times("lorem ipsum ", 700000))},
      {"10,000 messages", "{\"messages\":[" + times(R"({"role":"user","content":"a b"},)", 10000) +
                              R"({"role":"user","content":"c"}]})"},
      {"arguments 100,000 deep",
       message("a", ",\"template_arguments\":{\"x\":" + times("[", 100000) + times("]", 100000) + "}")},
      {"long arguments", message("a", ",\"template_arguments\":{\"x\":[" + times("1,", 500000) + "1]}")},
      {"long arguments of lists",
       message("a", ",\"template_arguments\":{\"x\":[" + times("[],", 300000) + "1]}")},
      {"JSON 100,000 deep", times("[", 100000)},
  };
}

std::vector<HostileText> hostile_answers() {
  const std::string call = "<tool_call>\n{\"name\": \"write\", \"arguments\": {\"text\": \"";
  return {
      {"a call of 128 kB", call + times("lorem ipsum ", 10900) + "\"}}\n</tool_call>"},
      {"content of 128 kB", times("lorem ipsum ", 10900)},
      {"content of angle brackets", times("<", 100000)},
      {"begun calls", times("<tool_call", 10000)},
      {"empty calls", times("<tool_call></tool_call>", 5000)},
      {"many calls", times(call + "a\"}}\n</tool_call>\n", 1000)},
      {"escapes", call + times("\\\\", 50000) + "\"}}"},
      {"lists 50,000 deep",
       "<tool_call>\n{\"name\": \"write\", \"arguments\": {\"any\": " + times("[", 50000)},
      {"objects 30,000 deep",
       "<tool_call>\n{\"name\": \"write\", \"arguments\": {\"any\": " + times("{\"a\":", 30000)},
      {"bytes that are no text", times("\xFF\xC3\xE2\x82", 20000)},
      {"white space", times(" \n", 50000)},
  };
}

std::vector<HostileState> hostile_states(const SequenceState& good) {
  std::vector<HostileState> states;
  const auto add = [&](const std::string& name, auto change) {
    states.push_back({name, good});
    change(states.back().state);
  };
  constexpr size_t streams_at = 8;
  constexpr size_t cells_at = 12;
  constexpr size_t positions_at = 16;
  constexpr size_t cell_bytes = 12;
  const size_t layout_at = positions_at + cell_bytes * good.kv_tokens;
  for (const uint32_t count : {0u, 1u, static_cast<uint32_t>(good.kv_tokens + 1), 0x7fffffffu, 0xffffffffu}) {
    add(std::to_string(count) + " cells", [&](SequenceState& state) { put(state.kv, cells_at, count); });
    add(std::to_string(count) + " layers",
        [&](SequenceState& state) { put(state.kv, layout_at + 4, count); });
    if (count != 1)
      add(std::to_string(count) + " caches", [&](SequenceState& state) { put(state.kv, streams_at, count); });
  }
  for (const int32_t position : {-1, 1, 0x7fffffff, std::numeric_limits<int32_t>::min()}) {
    add("first at position " + std::to_string(position),
        [&](SequenceState& state) { put(state.kv, positions_at, position); });
  }
  for (const uint32_t owners : {0u, 2u, 0xffffffffu}) {
    add(std::to_string(owners) + " owners",
        [&](SequenceState& state) { put(state.kv, positions_at + 4, owners); });
  }
  for (const int32_t type : {-1, 30, 0x7fffffff}) {
    add("type " + std::to_string(type), [&](SequenceState& state) { put(state.kv, layout_at + 8, type); });
  }
  add("rows without end", [&](SequenceState& state) { put(state.kv, layout_at + 12, ~uint64_t{0}); });
  add("not a number",
      [&](SequenceState& state) { put(state.kv, layout_at + 20, std::numeric_limits<float>::quiet_NaN()); });
  add("infinite",
      [&](SequenceState& state) { put(state.kv, layout_at + 20, std::numeric_limits<float>::infinity()); });
  add("transposed otherwise", [&](SequenceState& state) { state.kv[layout_at] ^= 1; });
  add("another mark", [&](SequenceState& state) { state.kv[0] ^= 1; });
  add("one byte more", [&](SequenceState& state) { state.kv.push_back(0); });
  add("one byte less", [&](SequenceState& state) { state.kv.pop_back(); });
  add("a megabyte more", [&](SequenceState& state) { state.kv.resize(state.kv.size() + 1000000); });
  add("nothing", [&](SequenceState& state) { state.kv.clear(); });
  add("its header alone", [&](SequenceState& state) { state.kv.resize(positions_at); });
  add("of no tokens", [&](SequenceState& state) { state.kv_tokens = 0; });
  add("of one token less", [&](SequenceState& state) { state.kv_tokens--; });
  return states;
}

} // namespace rbee::bounds
