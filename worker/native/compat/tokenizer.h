// Parts of llama.cpp's tokenisers that take time or stack out of proportion to the text, done again: with the
// same results (held by worker/native/test/tokenizer_test.cpp), in linear time as far as texts go, and to be
// stopped. Built into copies of llama-vocab.cpp and unicode.cpp, see CMakeLists.txt. Not reported upstream
// yet; each part goes when upstream has its own.
#pragma once

#include "regex_split.h"
#include "tokenizer_hooks.h"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <queue>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace rbee {

// Which of some strings begin where in a text.
class PrefixFinder {
 public:
  explicit PrefixFinder(std::vector<std::pair<std::string_view, size_t>> strings)
      : strings_(std::move(strings)) {
    std::sort(strings_.begin(), strings_.end());
  }

  // Calls `found` with the number of every string that `text` begins with.
  template <typename Found>
  void find(std::string_view text, Found found) const {
    auto low = strings_.begin();
    auto high = strings_.end();
    for (size_t length = 0; length < text.size() && low != high; length++) {
      const auto byte = static_cast<unsigned char>(text[length]);
      const auto at = [length](const auto& string) {
        return string.first.size() > length ? int(static_cast<unsigned char>(string.first[length])) : -1;
      };
      low = std::partition_point(low, high, [&](const auto& string) { return at(string) < byte; });
      high = std::partition_point(low, high, [&](const auto& string) { return at(string) <= byte; });
      for (auto whole = low; whole != high && whole->first.size() == length + 1; ++whole) {
        found(whole->second);
      }
    }
  }

 private:
  std::vector<std::pair<std::string_view, size_t>> strings_;
};

// A special token is looked for by its own text, the longest first; what one took is not looked at by the
// next.
struct SpecialToken {
  int32_t id;
  std::string_view text;
  bool strips_left;  // takes the white space before it
  bool strips_right; // and behind it
};

// A piece of text, or a special token.
struct TextFragment {
  int32_t token; // -1: text
  size_t offset;
  size_t length;
};

// Cuts a text at its special tokens, which are given in the order in which they are looked for. llama.cpp
// looks through all of the text for each of them, and through the list of what was found for each occurrence.
inline std::vector<TextFragment> cut_at_special_tokens(std::string_view text,
                                                       const std::vector<SpecialToken>& tokens) {
  std::vector<std::pair<std::string_view, size_t>> texts;
  for (size_t i = 0; i < tokens.size(); i++) {
    if (!tokens[i].text.empty()) texts.emplace_back(tokens[i].text, i);
  }
  const PrefixFinder finder(std::move(texts));
  std::vector<std::vector<size_t>> places(tokens.size());
  for (size_t at = 0; at < text.size(); at++) {
    tokenizer_checkpoint();
    finder.find(text.substr(at), [&](size_t i) { places[i].push_back(at); });
  }
  std::vector<bool> taken(text.size());
  const auto is_free = [&](size_t at) { return at < text.size() && !taken[at]; };
  const auto is_space = [&](size_t at) { return std::isspace(static_cast<unsigned char>(text[at])) != 0; };
  std::vector<std::pair<size_t, size_t>> found; // where, which
  for (size_t i = 0; i < tokens.size(); i++) {
    const SpecialToken& token = tokens[i];
    for (const size_t begin : places[i]) {
      tokenizer_checkpoint();
      const size_t end = begin + token.text.size();
      const auto bytes = taken.begin() + static_cast<std::ptrdiff_t>(begin);
      const auto bytes_end = taken.begin() + static_cast<std::ptrdiff_t>(end);
      if (std::find(bytes, bytes_end, true) != bytes_end) continue;
      std::fill(bytes, bytes_end, true);
      found.emplace_back(begin, i);
      for (size_t at = begin; token.strips_left && at > 0 && is_free(at - 1) && is_space(at - 1); at--) {
        taken[at - 1] = true;
      }
      for (size_t at = end; token.strips_right && is_free(at) && is_space(at); at++) {
        taken[at] = true;
      }
    }
  }
  std::sort(found.begin(), found.end());
  std::vector<TextFragment> fragments;
  size_t at = 0;
  const auto add_text = [&](size_t end) {
    while (at < end && taken[at])
      at++;
    size_t last = end;
    while (last > at && taken[last - 1])
      last--;
    if (last > at) fragments.push_back({-1, at, last - at});
    at = end;
  };
  for (const auto& [begin, i] : found) {
    add_text(begin);
    fragments.push_back({tokens[i].id, begin, tokens[i].text.size()});
    at = begin + tokens[i].text.size();
  }
  add_text(text.size());
  return fragments;
}

// Joins the characters of one word as a vocabulary's merges say: always the pair of the lowest rank, the
// leftmost first. llama.cpp looks up each pair by its texts, and copies them for it; here they have numbers,
// and each kind of pair is looked up once.
template <typename Vocab>
class WordMerger {
 public:
  explicit WordMerger(const Vocab& vocab) : vocab_(vocab) {}

  template <typename Symbol>
  void merge(std::vector<Symbol>& symbols) {
    const int count = static_cast<int>(symbols.size());
    ids_.clear();
    for (const Symbol& symbol : symbols) {
      tokenizer_checkpoint();
      ids_.push_back(id_of(std::string_view(symbol.text, symbol.n)));
    }
    queue_ = {};
    for (int i = 1; i < count; i++)
      add(i - 1, i);
    while (!queue_.empty()) {
      tokenizer_checkpoint();
      const Candidate best = queue_.top();
      queue_.pop();
      if (ids_[size_t(best.left)] != best.left_id || ids_[size_t(best.right)] != best.right_id) continue;
      Symbol& left = symbols[size_t(best.left)];
      Symbol& right = symbols[size_t(best.right)];
      left.n += right.n;
      right.n = 0;
      left.next = right.next;
      if (right.next >= 0) symbols[size_t(right.next)].prev = best.left;
      ids_[size_t(best.left)] = best.merged;
      ids_[size_t(best.right)] = nothing;
      add(left.prev, best.left);
      add(best.left, left.next);
    }
  }

 private:
  static constexpr int nothing = -1;

  struct Pair {
    int rank;
    int merged; // number of the pair's text
  };

  struct Candidate {
    int rank;
    int left; // places
    int right;
    int left_id; // numbers of the texts at these places
    int right_id;
    int merged;
    bool operator<(const Candidate& other) const {
      return rank > other.rank || (rank == other.rank && left > other.left);
    }
  };

  int id_of(std::string_view text) {
    const auto found = numbers_.find(text);
    if (found != numbers_.end()) return found->second;
    const std::string& kept = *kept_.emplace(text).first;
    texts_.push_back(&kept);
    numbers_.emplace(kept, static_cast<int>(texts_.size()) - 1);
    return static_cast<int>(texts_.size()) - 1;
  }

  const Pair& pair_of(int left, int right) {
    const uint64_t key = (uint64_t(uint32_t(left)) << 32) | uint32_t(right);
    const auto found = pairs_.find(key);
    if (found != pairs_.end()) return found->second;
    const std::string& left_text = *texts_[size_t(left)];
    const std::string& right_text = *texts_[size_t(right)];
    const int rank = vocab_.find_bpe_rank(left_text, right_text);
    return pairs_.emplace(key, Pair{rank, rank < 0 ? nothing : id_of(left_text + right_text)}).first->second;
  }

  void add(int left, int right) {
    if (left < 0 || right < 0) return;
    const int left_id = ids_[size_t(left)];
    const int right_id = ids_[size_t(right)];
    const Pair pair = pair_of(left_id, right_id);
    if (pair.rank >= 0) queue_.push({pair.rank, left, right, left_id, right_id, pair.merged});
  }

  const Vocab& vocab_;
  std::unordered_set<std::string> kept_; // of which all else only points to the texts
  std::vector<const std::string*> texts_;
  std::unordered_map<std::string_view, int> numbers_;
  std::unordered_map<uint64_t, Pair> pairs_;
  std::vector<int> ids_; // by place; `nothing` where a text was joined to the one before it
  std::priority_queue<Candidate> queue_;
};

} // namespace rbee
