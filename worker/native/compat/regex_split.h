// The regular expressions with which llama.cpp cuts a text into words before it tokenises it. std::regex,
// which it uses, calls itself once for each character of a word: a word of some ten thousand characters
// overflows the stack. Here the stack is on the heap, and a loop over one set of characters is one entry of
// it.
//
// Knows what the expressions in llama-vocab.cpp are made of: sets, escapes, groups, alternatives, greedy
// quantifiers, look-ahead and the end of the text.
#pragma once

#include "tokenizer_hooks.h"

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace rbee {

// Of characters, by their numbers.
class CharacterSet {
 public:
  void add(uint32_t first, uint32_t last) {
    for (uint32_t c = first; c <= last && c < low_.size(); c++)
      low_.set(c);
    if (last >= low_.size()) ranges_.emplace_back(first, last);
  }
  void add(const CharacterSet& other) { others_.push_back(other); }
  void complement() { negated_ = !negated_; }
  // Only what is in both.
  void restrict_to(const CharacterSet& other) {
    CharacterSet both;
    both.all_of_ = {*this, other};
    *this = both;
  }
  // Makes looking up fast; to be called once, last.
  void finish() {
    std::bitset<256> known;
    for (uint32_t c = 0; c < known.size(); c++)
      known[c] = look_up(c);
    known_ = known;
    finished_ = true;
  }
  bool has(uint32_t c) const { return finished_ && c < known_.size() ? known_[c] : look_up(c); }

 private:
  bool look_up(uint32_t c) const {
    bool found = c < low_.size() && low_[c];
    for (const auto& [first, last] : ranges_)
      found = found || (first <= c && c <= last);
    for (const CharacterSet& other : others_)
      found = found || other.look_up(c);
    if (!all_of_.empty()) {
      found = true;
      for (const CharacterSet& one : all_of_)
        found = found && one.look_up(c);
    }
    return found != negated_;
  }

  std::bitset<256> low_;
  std::vector<std::pair<uint32_t, uint32_t>> ranges_;
  std::vector<CharacterSet> others_;
  std::vector<CharacterSet> all_of_;
  bool negated_ = false;
  std::bitset<256> known_;
  bool finished_ = false;
};

// Thrown for an expression of another kind.
class UnknownRegex : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Thrown where an expression looks at the same characters again and again.
class TextTooHard : public std::runtime_error {
 public:
  TextTooHard()
      : std::runtime_error("The text cannot be cut into words in reasonable time: its runs are too long.") {}
};

template <typename Char>
class RegexSplitter {
 public:
  explicit RegexSplitter(const std::basic_string<Char>& source) : source_(source) {
    Alternatives alternatives = parse_alternatives();
    if (at_ != source_.size()) throw UnknownRegex("an unmatched parenthesis");
    for (const Sequence& sequence : alternatives) {
      Program program;
      compile(sequence, program);
      program.push_back({Op::match});
      // Where a loop without an end comes first and nothing behind it matches, nothing does that starts
      // within the same run either: it would go on from places that were all tried.
      const bool skips = program[0].op == Op::loop && program[0].min <= 1 && program[0].max == unbounded;
      programs_.push_back({std::move(program), skips, 0});
    }
    for (CharacterSet& set : sets_)
      set.finish();
  }

  // The lengths of matches and of what lies between them, of a text that is cut into such lengths already.
  std::vector<size_t> split(const std::basic_string<Char>& text, const std::vector<size_t>& lengths) {
    std::vector<size_t> result;
    result.reserve(lengths.size());
    steps_left_ = steps_per_character * text.size() + least_steps;
    size_t begin = 0;
    for (const size_t length : lengths) {
      text_ = text.data() + begin;
      size_ = length;
      split_one(result);
      begin += length;
    }
    return result;
  }

 private:
  static constexpr size_t unbounded = SIZE_MAX;
  static constexpr size_t steps_per_character = 64;
  static constexpr size_t least_steps = 4'000'000;

  enum class Op { set, loop, split, jump, look, end, match };

  struct Instruction {
    Op op;
    size_t set = 0; // its number
    size_t min = 0; // of a loop
    size_t max = 0;
    size_t first = 0; // split: where to go on first; jump: where to go on; look: which program
    size_t second = 0;
    bool negative = false;
  };
  using Program = std::vector<Instruction>;

  struct Node;
  using Sequence = std::vector<Node>;
  using Alternatives = std::vector<Sequence>;

  struct Node {
    enum class Kind { set, group, look, end } kind;
    size_t set = 0;
    Alternatives group;
    bool negative = false;
    size_t min = 1;
    size_t max = 1;
  };

  struct TopLevel {
    Program program;
    bool skips;
    size_t fails_before; // in the present text: it does not match at any place before that
  };

  // --- reading the expression ---

  bool more() const { return at_ < source_.size(); }
  uint32_t peek(size_t ahead = 0) const {
    return at_ + ahead < source_.size() ? number(source_[at_ + ahead]) : 0;
  }
  static uint32_t number(Char c) { return static_cast<uint32_t>(static_cast<std::make_unsigned_t<Char>>(c)); }
  uint32_t next() {
    if (!more()) throw UnknownRegex("it breaks off");
    return number(source_[at_++]);
  }

  Alternatives parse_alternatives() {
    Alternatives all(1);
    while (more() && peek() != ')') {
      if (peek() == '|') {
        at_++;
        all.emplace_back();
      } else {
        all.back().push_back(parse_quantified());
      }
    }
    return all;
  }

  Node parse_quantified() {
    Node node = parse_atom();
    if (!more()) return node;
    switch (peek()) {
    case '?':
      node.min = 0;
      node.max = 1;
      break;
    case '*':
      node.min = 0;
      node.max = unbounded;
      break;
    case '+':
      node.min = 1;
      node.max = unbounded;
      break;
    case '{': {
      at_++;
      node.min = parse_number();
      node.max = node.min;
      if (peek() == ',') {
        at_++;
        node.max = peek() == '}' ? unbounded : parse_number();
      }
      if (peek() != '}') throw UnknownRegex("a quantifier");
      break;
    }
    default:
      return node;
    }
    at_++;
    if (peek() == '?' || peek() == '+') throw UnknownRegex("a quantifier that is not greedy");
    if (node.kind == Node::Kind::look || node.kind == Node::Kind::end) throw UnknownRegex("a quantifier");
    return node;
  }

  size_t parse_number() {
    size_t value = 0;
    while (peek() >= '0' && peek() <= '9')
      value = value * 10 + (next() - '0');
    return value;
  }

  Node parse_atom() {
    const uint32_t c = next();
    if (c == '(') return parse_group();
    if (c == '$') return Node{Node::Kind::end, 0, {}, false, 1, 1};
    CharacterSet set;
    if (c == '[') {
      set = parse_set();
    } else if (c == '\\') {
      set = parse_escape();
    } else if (c == '.' || c == '^' || c == '*' || c == '+' || c == '?' || c == '{') {
      throw UnknownRegex("an operator");
    } else {
      set.add(c, c);
    }
    return set_node(std::move(set));
  }

  Node set_node(CharacterSet set) {
    sets_.push_back(std::move(set));
    return Node{Node::Kind::set, sets_.size() - 1, {}, false, 1, 1};
  }

  Node parse_group() {
    Node node{Node::Kind::group, 0, {}, false, 1, 1};
    if (peek() == '?') {
      at_++;
      const uint32_t kind = next();
      if (kind == '=' || kind == '!') {
        node.kind = Node::Kind::look;
        node.negative = kind == '!';
      } else if (kind != ':') {
        throw UnknownRegex("a group");
      }
    }
    node.group = parse_alternatives();
    if (next() != ')') throw UnknownRegex("a group");
    return simplified(std::move(node));
  }

  // A group of one set is that set; so is a set behind a look-ahead at another.
  Node simplified(Node node) {
    if (node.kind != Node::Kind::group || node.group.size() != 1) return node;
    const Sequence& parts = node.group[0];
    const auto is_one = [](const Node& part) {
      return part.kind == Node::Kind::set && part.min == 1 && part.max == 1;
    };
    if (parts.size() == 1 && is_one(parts[0])) return parts[0];
    const bool looks = parts.size() == 2 && parts[0].kind == Node::Kind::look && !parts[0].negative &&
                       parts[0].group.size() == 1 && parts[0].group[0].size() == 1 &&
                       is_one(parts[0].group[0][0]) && is_one(parts[1]);
    if (!looks) return node;
    CharacterSet both = sets_[parts[1].set];
    both.restrict_to(sets_[parts[0].group[0][0].set]);
    return set_node(std::move(both));
  }

  static CharacterSet named(uint32_t name) {
    CharacterSet set;
    switch (name) {
    case 's':
    case 'S':
      set.add('\t', '\r');
      set.add(' ', ' ');
      break;
    case 'd':
    case 'D':
      set.add('0', '9');
      break;
    default:
      throw UnknownRegex("an escape");
    }
    if (name == 'S' || name == 'D') set.complement();
    return set;
  }

  static std::optional<uint32_t> escaped(uint32_t c) {
    if (c == 'r') return '\r';
    if (c == 'n') return '\n';
    if (c == 't') return '\t';
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    return letter ? std::nullopt : std::optional<uint32_t>(c);
  }

  CharacterSet parse_escape() {
    const uint32_t c = next();
    const std::optional<uint32_t> literal = escaped(c);
    if (!literal) return named(c);
    CharacterSet set;
    set.add(*literal, *literal);
    return set;
  }

  CharacterSet parse_set() {
    CharacterSet set;
    const bool negated = peek() == '^';
    if (negated) at_++;
    while (peek() != ']') {
      uint32_t first = next();
      if (first == '[') throw UnknownRegex("a set within a set");
      if (first == '\\') {
        const uint32_t c = next();
        const std::optional<uint32_t> literal = escaped(c);
        if (!literal) {
          set.add(named(c));
          continue;
        }
        first = *literal;
      }
      uint32_t last = first;
      if (peek() == '-' && peek(1) != ']') {
        at_++;
        last = next();
        if (last == '\\') {
          const std::optional<uint32_t> literal = escaped(next());
          if (!literal) throw UnknownRegex("a range");
          last = *literal;
        }
        if (last < first) throw UnknownRegex("a range");
      }
      set.add(first, last);
    }
    at_++;
    if (negated) set.complement();
    return set;
  }

  // --- from what was read to instructions ---

  bool may_be_empty(const Node& node) const {
    if (node.kind == Node::Kind::look || node.kind == Node::Kind::end || node.min == 0) return true;
    if (node.kind == Node::Kind::set) return false;
    for (const Sequence& sequence : node.group) {
      bool empty = true;
      for (const Node& part : sequence)
        empty = empty && may_be_empty(part);
      if (empty) return true;
    }
    return false;
  }

  void compile(const Sequence& sequence, Program& program) {
    for (const Node& node : sequence)
      compile(node, program);
  }

  void compile(const Node& node, Program& program) {
    switch (node.kind) {
    case Node::Kind::end:
      program.push_back({Op::end});
      return;
    case Node::Kind::look: {
      Program inner;
      compile_once(node, inner);
      inner.push_back({Op::match});
      looks_.push_back(std::move(inner));
      Instruction look{Op::look};
      look.first = looks_.size() - 1;
      look.negative = node.negative;
      program.push_back(look);
      return;
    }
    case Node::Kind::set: {
      Instruction instruction{node.min == 1 && node.max == 1 ? Op::set : Op::loop};
      instruction.set = node.set;
      instruction.min = node.min;
      instruction.max = node.max;
      program.push_back(instruction);
      return;
    }
    case Node::Kind::group:
      break;
    }
    Node once = node;
    once.min = 1;
    once.max = 1;
    for (size_t i = 0; i < node.min; i++)
      compile_once(node, program);
    if (node.max == unbounded) {
      if (may_be_empty(once)) throw UnknownRegex("a loop over nothing");
      const size_t split = program.size();
      program.push_back({Op::split});
      compile_once(node, program);
      Instruction back{Op::jump};
      back.first = split;
      program.push_back(back);
      program[split].first = split + 1;
      program[split].second = program.size();
      return;
    }
    std::vector<size_t> splits;
    for (size_t i = node.min; i < node.max; i++) {
      splits.push_back(program.size());
      program.push_back({Op::split});
      compile_once(node, program);
    }
    for (const size_t split : splits) {
      program[split].first = split + 1;
      program[split].second = program.size();
    }
  }

  // The group by itself, without its quantifier.
  void compile_once(const Node& node, Program& program) {
    std::vector<size_t> jumps;
    for (size_t i = 0; i < node.group.size(); i++) {
      const size_t split = program.size();
      const bool last = i + 1 == node.group.size();
      if (!last) program.push_back({Op::split});
      compile(node.group[i], program);
      if (last) break;
      jumps.push_back(program.size());
      program.push_back({Op::jump});
      program[split].first = split + 1;
      program[split].second = program.size();
    }
    for (const size_t jump : jumps)
      program[jump].first = program.size();
  }

  // --- matching ---

  // What was not tried yet: `next` at `at`, and at all places down to `least`.
  struct Untried {
    size_t next;
    size_t at;
    size_t least;
  };

  void take_step() {
    tokenizer_checkpoint();
    if (steps_left_-- == 0) throw TextTooHard();
  }

  // Where a match that starts at `begin` and ends at `least_end` or behind it ends.
  std::optional<size_t> run(const Program& program, size_t begin, size_t least_end,
                            size_t* first_loop_end = nullptr) {
    std::vector<Untried> untried;
    size_t next = 0;
    size_t at = begin;
    while (true) {
      take_step();
      const Instruction& now = program[next];
      bool fails = false;
      switch (now.op) {
      case Op::set:
        fails = at >= size_ || !sets_[now.set].has(number(text_[at]));
        at++;
        next++;
        break;
      case Op::loop: {
        const CharacterSet& set = sets_[now.set];
        const size_t start = at;
        while (at < size_ && at - start < now.max && set.has(number(text_[at]))) {
          take_step();
          at++;
        }
        if (next == 0 && first_loop_end != nullptr) *first_loop_end = at;
        fails = at - start < now.min;
        next++;
        if (!fails && at - start > now.min) untried.push_back({next, at - 1, start + now.min});
        break;
      }
      case Op::split:
        untried.push_back({now.second, at, at});
        next = now.first;
        break;
      case Op::jump:
        next = now.first;
        break;
      case Op::look:
        fails = run(looks_[now.first], at, at).has_value() == now.negative;
        next++;
        break;
      case Op::end:
        fails = at != size_;
        next++;
        break;
      case Op::match:
        if (at >= least_end) return at;
        fails = true;
        break;
      }
      if (!fails) continue;
      if (untried.empty()) return std::nullopt;
      Untried& last = untried.back();
      next = last.next;
      at = last.at;
      if (last.at-- == last.least) untried.pop_back();
    }
  }

  std::optional<size_t> match_at(size_t begin, size_t least_end) {
    for (TopLevel& alternative : programs_) {
      if (begin < alternative.fails_before) continue;
      size_t run_end = begin;
      if (const auto end = run(alternative.program, begin, least_end, &run_end)) return end;
      if (alternative.skips && least_end == begin) alternative.fails_before = run_end;
    }
    return std::nullopt;
  }

  // As std::regex_iterator goes through a text.
  void split_one(std::vector<size_t>& lengths) {
    for (TopLevel& alternative : programs_)
      alternative.fails_before = 0;
    size_t told = 0;
    size_t begin = 0;
    bool behind_empty = false;
    while (begin <= size_) {
      const auto end = match_at(begin, behind_empty ? begin + 1 : begin);
      behind_empty = false;
      if (!end) {
        begin++;
        continue;
      }
      if (begin > told) lengths.push_back(begin - told);
      lengths.push_back(*end - begin);
      told = *end;
      behind_empty = *end == begin;
      begin = *end;
    }
    if (told < size_) lengths.push_back(size_ - told);
  }

  const std::basic_string<Char>& source_;
  size_t at_ = 0;
  std::vector<CharacterSet> sets_;
  std::vector<Program> looks_;
  std::vector<TopLevel> programs_;
  const Char* text_ = nullptr;
  size_t size_ = 0;
  size_t steps_left_ = 0;
};

} // namespace rbee
