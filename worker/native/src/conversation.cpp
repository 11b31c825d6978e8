#include "conversation.h"

#include "bounded.h"
#include "errors.h"
#include "grammar_check.h"

#include <algorithm>
#include <chrono>

namespace rbee {

namespace {

// A template is a program out of the model's file, and a conversation is whatever a client sends. Ordinary
// ones take some milliseconds and ten times the conversation's bytes.
constexpr std::chrono::milliseconds render_cpu_time{1000};
constexpr ptrdiff_t render_bytes = 64 * 1024 * 1024;
constexpr ptrdiff_t render_bytes_per_byte = 32;

// An answer is read on JavaScript's thread. Ordinary ones take 6 ns a byte.
constexpr std::chrono::milliseconds read_cpu_time{100};
constexpr ptrdiff_t read_bytes = 16 * 1024 * 1024;
constexpr ptrdiff_t read_bytes_per_byte = 64;
constexpr size_t reads_per_doubling = 512;

// Of a constraint, each: templates have a handful, and one for each tool.
constexpr size_t max_texts = 1000;

EngineError refused(const char* what, const std::exception& error) {
  return {"INVALID_REQUEST", std::string(what) + error.what()};
}

EngineError unreadable(const std::string& why) {
  return {"INTERNAL", "The answer cannot be read: " + why};
}

common_json parse_json(const std::string& text) {
  try {
    return common_json::parse(text);
  } catch (const std::exception& error) {
    throw refused("The chat request is no JSON: ", error);
  }
}

common_chat_templates_inputs read_inputs(const Model& model, const common_json& request) {
  common_chat_templates_inputs inputs;
  inputs.use_jinja = model.has_jinja_template();
  inputs.messages = common_chat_msgs_parse_oaicompat(request.at("messages"));
  inputs.add_generation_prompt = request.value("add_generation_prompt", true);
  if (request.contains("continue_final_message")) {
    inputs.continue_final_message = common_chat_continuation_parse(request.at("continue_final_message"));
  }
  if (request.contains("tools")) {
    for (const common_json& tool : request.at("tools")) {
      check_schema(tool.dump(), "a tool");
    }
    inputs.tools = common_chat_tools_parse_oaicompat(request.at("tools"));
    inputs.tool_choice = common_chat_tool_choice_parse_oaicompat(request.value("tool_choice", "auto"));
  }
  if (request.contains("json_schema")) {
    inputs.json_schema = request.at("json_schema").dump();
    check_schema(inputs.json_schema, "json_schema");
  }
  inputs.grammar = request.value("grammar", "");
  const auto capabilities = common_chat_templates_get_caps(model.templates());
  const auto parallel = capabilities.find("supports_parallel_tool_calls");
  inputs.parallel_tool_calls =
      request.value("parallel_tool_calls", parallel != capabilities.end() && parallel->second);
  inputs.reasoning_format = common_reasoning_format_from_name(request.value("reasoning_format", "auto"));
  inputs.enable_thinking = request.value("enable_thinking", true);
  if (request.contains("template_arguments")) {
    for (const auto& [key, value] : request.at("template_arguments").items()) {
      inputs.chat_template_kwargs[key] = value.dump();
    }
  }
  return inputs;
}

common_json write_constraint(const common_chat_params& rendered) {
  common_json triggers = common_json::array();
  for (const common_grammar_trigger& trigger : rendered.grammar_triggers) {
    common_json item = common_json::object();
    item["type"] = static_cast<int>(trigger.type);
    item["value"] = trigger.value;
    item["token"] = static_cast<int>(trigger.token);
    triggers.push_back(item);
  }
  common_json constraint = common_json::object();
  constraint["grammar"] = rendered.grammar;
  constraint["lazy"] = rendered.grammar_lazy;
  constraint["triggers"] = triggers;
  constraint["preserved_tokens"] = rendered.preserved_tokens;
  constraint["generation_prompt"] = rendered.generation_prompt;
  constraint["thinking_start"] = rendered.thinking_start_tag;
  constraint["thinking_ends"] = rendered.thinking_end_tags;
  return constraint;
}

// Whether the template knows neither tools nor thoughts: then an answer is nothing but its content.
bool is_plain(const Model& model) {
  const std::string source = common_chat_templates_source(model.templates());
  const auto speaks_of = [&source](const char* word) { return source.find(word) != std::string::npos; };
  return !speaks_of("think") && !speaks_of("reason") && !speaks_of("tool") && !speaks_of("function") &&
         !speaks_of("channel");
}

common_json write_parser(const Model& model, const common_chat_params& rendered,
                         const common_chat_templates_inputs& inputs) {
  const bool calls = !inputs.tools.empty() && inputs.tool_choice != COMMON_CHAT_TOOL_CHOICE_NONE;
  common_json parser = common_json::object();
  parser["format"] = static_cast<int>(rendered.format);
  parser["grammar"] = rendered.parser;
  parser["generation_prompt"] = rendered.generation_prompt;
  parser["reasoning_format"] = common_reasoning_format_name(inputs.reasoning_format);
  parser["tool_calls"] = calls;
  parser["continuation"] = inputs.continue_final_message != COMMON_CHAT_CONTINUATION_NONE;
  // Then the text is the content as it stands, and nobody has to read it over and over.
  parser["plain"] = !calls && is_plain(model);
  return parser;
}

common_json write_delta(const common_chat_msg_diff& diff) {
  common_json delta = common_json::object();
  if (!diff.reasoning_content_delta.empty()) delta["reasoning"] = diff.reasoning_content_delta;
  if (!diff.content_delta.empty()) delta["content"] = diff.content_delta;
  if (diff.tool_call_index != std::string::npos) {
    common_json call = common_json::object();
    call["index"] = static_cast<int>(diff.tool_call_index);
    call["id"] = diff.tool_call_delta.id;
    call["name"] = diff.tool_call_delta.name;
    call["arguments"] = diff.tool_call_delta.arguments;
    delta["tool_call"] = call;
  }
  return delta;
}

std::vector<std::string> read_texts(const common_json& array) {
  std::vector<std::string> texts;
  for (const common_json& text : array) {
    texts.push_back(text.get<std::string>());
  }
  return texts;
}

} // namespace

namespace {

std::string render(const Model& model, const std::string& text) {
  const common_json request = parse_json(text);
  if (!model.has_chat_template() && !request.value("any_template", false)) {
    throw EngineError("INVALID_REQUEST",
                      "This model has no chat template. Send `prompt` instead of `messages`.");
  }
  try {
    common_chat_templates_inputs inputs = read_inputs(model, request);
    // Otherwise llama.cpp tries out at every request, for 1.5 ms, how the template would write tools and
    // thoughts.
    inputs.force_pure_content = is_plain(model) && inputs.tools.empty() &&
                                inputs.continue_final_message == COMMON_CHAT_CONTINUATION_NONE;
    const common_chat_params rendered = common_chat_templates_apply(model.templates(), inputs);
    common_json result = common_json::object();
    result["prompt"] = rendered.prompt;
    result["stops"] = rendered.additional_stops;
    result["constraint"] = write_constraint(rendered);
    result["parser"] = write_parser(model, rendered, inputs);
    return result.dump_safe();
  } catch (const EngineError&) {
    throw;
  } catch (const std::exception& error) {
    throw refused("The chat template refuses this request: ", error);
  }
}

} // namespace

std::string render_conversation(const Model& model, const std::string& request,
                                std::function<bool()> canceled) {
  std::string rendered;
  const ptrdiff_t bytes = render_bytes + render_bytes_per_byte * static_cast<ptrdiff_t>(request.size());
  bounded("Rendering this conversation with the model's chat template",
          {render_cpu_time, bytes, std::move(canceled)}, [&] { rendered = render(model, request); });
  return rendered;
}

ChatConstraint read_constraint(const std::string& json) {
  const common_json object = parse_json(json);
  try {
    ChatConstraint constraint;
    constraint.grammar = object.at("grammar").get<std::string>();
    constraint.lazy = object.at("lazy").get<bool>();
    for (const common_json& trigger : object.at("triggers")) {
      const int type = trigger.at("type").get<int>();
      // llama.cpp ends the process at a type that it does not know.
      if (type < COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN || type > COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN_FULL) {
        throw EngineError("INVALID_REQUEST", "constraint has an unknown trigger.");
      }
      constraint.triggers.push_back({static_cast<common_grammar_trigger_type>(type),
                                     trigger.at("value").get<std::string>(), trigger.at("token").get<int>()});
      check_trigger(constraint.triggers.back());
    }
    constraint.preserved_tokens = read_texts(object.at("preserved_tokens"));
    constraint.generation_prompt = object.at("generation_prompt").get<std::string>();
    constraint.thinking_start = object.at("thinking_start").get<std::string>();
    constraint.thinking_ends = read_texts(object.at("thinking_ends"));
    for (const size_t count :
         {constraint.triggers.size(), constraint.preserved_tokens.size(), constraint.thinking_ends.size()}) {
      if (count > max_texts) throw EngineError("INVALID_REQUEST", "constraint has too many texts.");
    }
    return constraint;
  } catch (const EngineError&) {
    throw;
  } catch (const std::exception& error) {
    throw refused("constraint is malformed: ", error);
  }
}

ChatParser::ChatParser(const std::string& spec) {
  const common_json object = parse_json(spec);
  try {
    params_.format = static_cast<common_chat_format>(object.at("format").get<int>());
    params_.generation_prompt = object.at("generation_prompt").get<std::string>();
    params_.reasoning_format =
        common_reasoning_format_from_name(object.at("reasoning_format").get<std::string>());
    params_.parse_tool_calls = object.at("tool_calls").get<bool>();
    params_.is_continuation = object.at("continuation").get<bool>();
    const auto grammar = object.at("grammar").get<std::string>();
    if (!grammar.empty()) params_.parser.load(grammar);
    // What the caller has begun the answer with is not news to it.
    if (params_.is_continuation) message_ = common_chat_parse("", true, params_);
  } catch (const std::exception& error) {
    throw refused("parser is malformed: ", error);
  }
}

// How much of the text is to be read now.
size_t ChatParser::readable(bool last) {
  if (last) return text_.size();
  size_t length = read_;
  while (next_read_ <= text_.size()) {
    length = next_read_;
    next_read_ += std::max<size_t>(1, next_read_ / reads_per_doubling);
  }
  // Not in mid-character.
  while (length > read_ && length < text_.size() &&
         (static_cast<unsigned char>(text_[length]) & 0xC0) == 0x80) {
    length--;
  }
  return length;
}

// An answer that was cut off at its end is read like one that goes on.
common_chat_msg ChatParser::read(const std::string& text, bool partial) const {
  if (partial) return common_chat_parse(text, true, params_);
  try {
    return common_chat_parse(text, false, params_);
  } catch (const std::exception&) {
    return common_chat_parse(text, true, params_);
  }
}

std::string ChatParser::push(const std::string& text, bool last) {
  text_ += text;
  const size_t length = readable(last);
  if (length == read_ && !last) return "[]";
  if (given_up_) throw unreadable("it takes too much to read.");
  read_ = length;
  Budget budget({read_cpu_time, read_bytes + read_bytes_per_byte * static_cast<ptrdiff_t>(length)});
  try {
    const common_chat_msg message = read(length == text_.size() ? text_ : text_.substr(0, length), !last);
    if (budget.spent() != Spent::nothing) throw BudgetExhausted();
    common_json deltas = common_json::array();
    if (message.empty()) return "[]";
    for (const common_chat_msg_diff& diff : common_chat_msg_diff::compute_diffs(message_, message)) {
      deltas.push_back(write_delta(diff));
    }
    message_ = message;
    return deltas.dump_safe();
  } catch (const std::exception& error) {
    const BudgetPause pause;
    given_up_ = budget.spent() != Spent::nothing;
    throw unreadable(error.what());
  }
}

} // namespace rbee
