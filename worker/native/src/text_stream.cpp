#include "text_stream.h"

#include <algorithm>

namespace rbee {

namespace {

constexpr const char* replacement = "\xEF\xBF\xBD";

struct Decoded {
  size_t length;   // bytes looked at: a whole character, or a maximal broken part
  bool valid;      // a whole character
  bool incomplete; // broken only because the text ends here
};

bool is_between(unsigned char byte, unsigned char low, unsigned char high) {
  return byte >= low && byte <= high;
}

// One character at `at`, after table 3-7 of the Unicode Standard (well-formed UTF-8 byte sequences).
Decoded decode(std::string_view bytes, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char first = byte(at);
  if (first < 0x80) {
    return {1, true, false};
  }
  size_t length = 0;
  unsigned char low = 0x80;
  unsigned char high = 0xBF;
  if (is_between(first, 0xC2, 0xDF)) {
    length = 2;
  } else if (is_between(first, 0xE0, 0xEF)) {
    length = 3;
    low = first == 0xE0 ? 0xA0 : 0x80;
    high = first == 0xED ? 0x9F : 0xBF;
  } else if (is_between(first, 0xF0, 0xF4)) {
    length = 4;
    low = first == 0xF0 ? 0x90 : 0x80;
    high = first == 0xF4 ? 0x8F : 0xBF;
  } else {
    return {1, false, false};
  }
  for (size_t i = 1; i < length; i++) {
    if (at + i == bytes.size()) {
      return {i, false, true};
    }
    if (!is_between(byte(at + i), low, high)) {
      return {i, false, false};
    }
    low = 0x80;
    high = 0xBF;
  }
  return {length, true, false};
}

} // namespace

size_t complete_utf8_length(std::string_view bytes) {
  // A character has at most four bytes: an incomplete one starts in the last three.
  for (size_t back = 1; back <= std::min<size_t>(3, bytes.size()); back++) {
    const size_t at = bytes.size() - back;
    if ((static_cast<unsigned char>(bytes[at]) & 0xC0) == 0x80) {
      continue;
    }
    return decode(bytes, at).incomplete ? at : bytes.size();
  }
  return bytes.size();
}

std::string sanitise_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (size_t at = 0; at < bytes.size();) {
    const Decoded character = decode(bytes, at);
    if (character.valid) {
      text += bytes.substr(at, character.length);
    } else {
      text += replacement;
    }
    at += character.length;
  }
  return text;
}

TextStream::Seeker::Seeker(std::string wanted) : wanted_(std::move(wanted)), shorter_(wanted_.size() + 1) {
  for (size_t length = 2; length <= wanted_.size(); length++) {
    shorter_[length] = longer(shorter_[length - 1], wanted_[length - 1]);
  }
}

// How much has begun behind one more byte.
size_t TextStream::Seeker::longer(size_t begun, char byte) const {
  while (begun > 0 && wanted_[begun] != byte)
    begun = shorter_[begun];
  return wanted_[begun] == byte ? begun + 1 : 0;
}

bool TextStream::Seeker::push(char byte) {
  if (begun_ == wanted_.size()) begun_ = shorter_[begun_];
  begun_ = longer(begun_, byte);
  return begun_ == wanted_.size();
}

TextStream::TextStream(const std::vector<std::string>& stops) {
  for (const std::string& stop : stops) {
    if (!stop.empty()) stops_.emplace_back(stop);
  }
}

std::vector<std::string> TextStream::push(const std::string& piece) {
  const size_t known = held_.size();
  held_ += piece;
  ends_.push_back(held_.size());
  const size_t certain = certain_length(known);
  if (stopped()) {
    return release(ends_.size(), certain);
  }
  size_t count = 0;
  while (count < ends_.size() && ends_[count] <= certain) {
    count++;
  }
  return release(count, certain);
}

std::vector<std::string> TextStream::finish() {
  return release(ends_.size(), held_.size());
}

// Up to where the held text is certain; finds stop strings in what follows the first `known` bytes.
size_t TextStream::certain_length(size_t known) {
  size_t stop_at = std::string::npos;
  for (size_t i = 0; i < stops_.size(); i++) {
    Seeker& stop = stops_[i];
    for (size_t end = known; end < held_.size(); end++) {
      if (!stop.push(held_[end])) continue;
      const size_t at = end + 1 - stop.length();
      if (at >= stop_at) break;
      stop_at = at;
      stopped_by_ = static_cast<int>(i);
      break;
    }
  }
  if (stopped()) return stop_at;
  size_t certain = complete_utf8_length(held_);
  for (const Seeker& stop : stops_) {
    // What may become one.
    certain = std::min(certain, held_.size() - stop.begun());
  }
  return certain;
}

std::vector<std::string> TextStream::release(size_t count, size_t limit) {
  std::vector<std::string> texts;
  size_t from = 0;
  for (size_t i = 0; i < count; i++) {
    const size_t end = std::min(ends_[i], limit);
    const bool all = i + 1 == count && end == limit;
    const std::string_view held = held_;
    const size_t to = all ? limit : complete_utf8_length(held.substr(0, end));
    texts.push_back(sanitise_utf8(held.substr(from, to - from)));
    from = to;
  }
  held_.erase(0, from);
  ends_.erase(ends_.begin(), ends_.begin() + static_cast<std::ptrdiff_t>(count));
  for (size_t& end : ends_) {
    end -= from;
  }
  return texts;
}

} // namespace rbee
