// The regular expressions with which llama.cpp cuts a text into words before it tokenises it. std::regex,
// which it uses, calls itself once for each character of a word: a word of some ten thousand characters
// overflows the stack. Here the stack is on the heap, and a loop over one set of characters is one entry of
// it.
//
// Knows what the expressions in llama-vocab.cpp are made of: sets, escapes, groups, alternatives, greedy
// quantifiers, look-ahead and the end of the text.
#pragma once

#include "regex_syntax.h"
#include "tokenizer_hooks.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace rbee {

template <typename Char>
class RegexSplitter {
 public:
  explicit RegexSplitter(const std::basic_string<Char>& source) {
    RegexReader<Char> reader(source);
    const Alternatives alternatives = reader.read();
    sets_ = reader.take_sets();
    for (const Sequence& sequence : alternatives) {
      Program program;
      compile(sequence, program);
      program.push_back({Op::match});
      // Where a loop without an end comes first and nothing behind it matches, nothing does that starts
      // within the same run either: it would go on from places that were all tried.
      const bool skips = program[0].op == Op::loop && program[0].min <= 1 && program[0].max == unbounded;
      programs_.push_back({std::move(program), skips, 0});
    }
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
  using Node = typename RegexReader<Char>::Node;
  using Sequence = typename RegexReader<Char>::Sequence;
  using Alternatives = typename RegexReader<Char>::Alternatives;

  static constexpr size_t unbounded = RegexReader<Char>::unbounded;
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

  struct TopLevel {
    Program program;
    bool skips;
    size_t fails_before; // in the present text: it does not match at any place before that
  };

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
        fails = at >= size_ || !sets_[now.set].has(RegexReader<Char>::number(text_[at]));
        at++;
        next++;
        break;
      case Op::loop: {
        const CharacterSet& set = sets_[now.set];
        const size_t start = at;
        while (at < size_ && at - start < now.max && set.has(RegexReader<Char>::number(text_[at]))) {
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

  std::vector<CharacterSet> sets_;
  std::vector<Program> looks_;
  std::vector<TopLevel> programs_;
  const Char* text_ = nullptr;
  size_t size_ = 0;
  size_t steps_left_ = 0;
};

} // namespace rbee
