// Conversations as OpenAI's API writes them: rendered by the model's chat template, and their answers read
// back into content, reasoning and tool calls. What travels between processes is JSON text, so that an answer
// can be continued elsewhere.
#pragma once

#include "chat.h"
#include "model.h"

#include <functional>
#include <string>
#include <vector>

namespace rbee {

// How a template binds the answer to a conversation: what the sampler has to keep to.
struct ChatConstraint {
  std::string grammar; // empty: none
  bool lazy = false;   // only once a trigger was generated
  std::vector<common_grammar_trigger> triggers;
  std::vector<std::string> preserved_tokens; // special tokens that are part of the answer's text
  std::string generation_prompt;             // what the template has begun the answer with
  std::string thinking_start;                // triggers inside of thoughts don't count
  std::vector<std::string> thinking_ends;
};

// Renders a conversation, up to where the assistant speaks. `request` is JSON text with the fields of
// NativeChatRequest in addon.ts, the result that of NativeChat. Takes at most a second of CPU time, less when
// `canceled` (which may be empty) becomes true. Throws EngineError: INVALID_REQUEST for what the template
// refuses or takes too long for, REQUEST_CANCELED.
std::string render_conversation(const Model& model, const std::string& request,
                                std::function<bool()> canceled = {});

// From the `constraint` of what render_conversation gave. Throws EngineError INVALID_REQUEST.
ChatConstraint read_constraint(const std::string& json);

// Reads one answer as it grows.
class ChatParser {
 public:
  // `spec`: the `parser` of what render_conversation gave. Throws EngineError INVALID_REQUEST.
  explicit ChatParser(const std::string& spec);

  // Takes more text, `last` with the end of the answer. Returns what is new, as JSON text: an array of
  // NativeChatDelta. llama.cpp reads an answer from its beginning, so it is read up to certain lengths only,
  // each a 512th more than the one before: all pushes together take time in proportion to the answer's
  // length. What is told after some text depends on that text alone, however it was cut. Throws EngineError
  // INTERNAL for what cannot be read.
  std::string push(const std::string& text, bool last);

 private:
  size_t readable(bool last);
  common_chat_msg read(const std::string& text, bool partial) const;

  common_chat_parser_params params_;
  std::string text_;
  size_t read_ = 0;      // bytes of it that were read
  size_t next_read_ = 1; // the next length to be read
  bool given_up_ = false;
  common_chat_msg message_;
};

} // namespace rbee
