// Text as it may be shown: whole UTF-8 characters, and nothing that may turn out to be part of a stop string.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace rbee {

// The length of the longest prefix of `bytes` that does not end inside a character. Bytes that can never
// become one count as complete: they will be replaced.
size_t complete_utf8_length(std::string_view bytes);

// `bytes` with everything that is no UTF-8 replaced by U+FFFD, one for each maximal broken part.
std::string sanitise_utf8(std::string_view bytes);

// Gathers the pieces of one answer and gives every token the text that is certain to be its own. A token is
// held as long as its text is not certain. A character made of several tokens belongs to the last of them.
class TextStream {
 public:
  explicit TextStream(const std::vector<std::string>& stops);

  // Takes the next token's bytes. Returns the texts of the oldest held tokens that are released by it, in
  // order, one for each token, maybe none. All are released when a stop string is found; nothing of it is in
  // their texts.
  std::vector<std::string> push(const std::string& piece);

  // Whether a stop string was found.
  bool stopped() const { return stopped_by_ >= 0; }
  // Which one, counted as they were given; -1: none.
  int stopped_by() const { return stopped_by_; }

  // The texts of all held tokens, at the end of an answer that no stop string ended.
  std::vector<std::string> finish();

 private:
  // Looks for one stop string, byte by byte (Knuth, Morris and Pratt): each byte of the answer is looked at
  // once, however long the string is.
  class Seeker {
   public:
    explicit Seeker(std::string wanted);
    // Takes the next byte; returns whether the string ends with it.
    bool push(char byte);
    size_t length() const { return wanted_.size(); }
    // How much of the string the text ends with.
    size_t begun() const { return begun_; }

   private:
    size_t longer(size_t begun, char byte) const;

    std::string wanted_;
    std::vector<size_t> shorter_; // by length of a beginning: of the longest one that it ends with itself
    size_t begun_ = 0;
  };

  size_t certain_length(size_t known);
  std::vector<std::string> release(size_t count, size_t limit);

  std::vector<Seeker> stops_;
  std::string held_;         // bytes of the held tokens
  std::vector<size_t> ends_; // where in `held_` each of them ends
  int stopped_by_ = -1;
};

} // namespace rbee
