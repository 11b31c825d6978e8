// What a regular expression says, for regex_split.h.
#pragma once

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

// Reads an expression once.
template <typename Char>
class RegexReader {
 public:
  static constexpr size_t unbounded = SIZE_MAX;

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

  explicit RegexReader(const std::basic_string<Char>& source) : source_(source) {}

  // Throws UnknownRegex.
  Alternatives read() {
    Alternatives all = parse_alternatives();
    if (at_ != source_.size()) throw UnknownRegex("an unmatched parenthesis");
    for (CharacterSet& set : sets_)
      set.finish();
    return all;
  }

  // Of the nodes, by their numbers.
  std::vector<CharacterSet> take_sets() { return std::move(sets_); }

  // Of a character.
  static uint32_t number(Char c) { return static_cast<uint32_t>(static_cast<std::make_unsigned_t<Char>>(c)); }

 private:
  bool more() const { return at_ < source_.size(); }
  uint32_t peek(size_t ahead = 0) const {
    return at_ + ahead < source_.size() ? number(source_[at_ + ahead]) : 0;
  }
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

  const std::basic_string<Char>& source_;
  size_t at_ = 0;
  std::vector<CharacterSet> sets_;
};

} // namespace rbee
