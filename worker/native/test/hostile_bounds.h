// What engine_bounds feeds to the engine.
#pragma once

#include "sequence_state.h"

#include <random>
#include <string>
#include <vector>

namespace rbee::bounds {

struct Random : std::mt19937 {
  using std::mt19937::mt19937;

  // From 0 to `count` - 1.
  int below(int count) { return static_cast<int>((*this)() % static_cast<unsigned>(count)); }
  bool chance(int percent) { return below(100) < percent; }
};

// The text as often as that.
std::string times(const std::string& text, int count);
std::string number(int value);
// Of an object whose properties all look like `each`.
std::string object_schema(int properties, const std::string& each, bool required = false);

struct HostileText {
  std::string name;
  std::string text;
  bool refused = false; // has to be
};

struct HostileState {
  std::string name;
  SequenceState state;
};

// A template that writes tools and thoughts, and a conversation that has both.
extern const char* const tool_template;
extern const char* const tool_conversation;

// What people send, and has to be taken.
std::vector<HostileText> ordinary_schemas();
std::string many_tools(int tools, int parameters);

std::vector<HostileText> hostile_grammars();
std::vector<HostileText> hostile_schemas();
std::vector<HostileText> hostile_constraints();
std::vector<HostileText> hostile_templates();
std::vector<HostileText> hostile_conversations();
std::vector<HostileText> hostile_answers();
// Of a good one: lengths, counts and values that contradict each other.
std::vector<HostileState> hostile_states(const SequenceState& good);

std::string random_grammar(Random& random);
std::string random_schema(Random& random);
std::string random_answer(Random& random);
SequenceState random_state(Random& random, const SequenceState& good);

} // namespace rbee::bounds
