#include "printable.h"

#include "text_stream.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>

namespace rbee {

namespace {

struct Range {
  uint32_t first;
  uint32_t last;
};

// The Unicode properties Cc, Zl, Zp and Default_Ignorable_Code_Point, and annotations; not the joiners and
// variation selectors that emoji and some scripts are written with.
constexpr std::array<Range, 19> escaped = {{
    {0x00, 0x1F},     {0x7F, 0x9F},       {0xAD, 0xAD},       {0x34F, 0x34F},     {0x61C, 0x61C},
    {0x115F, 0x1160}, {0x17B4, 0x17B5},   {0x180B, 0x180F},   {0x200B, 0x200B},   {0x200E, 0x200F},
    {0x2028, 0x202E}, {0x2060, 0x206F},   {0x3164, 0x3164},   {0xFEFF, 0xFEFF},   {0xFFA0, 0xFFA0},
    {0xFFF0, 0xFFFB}, {0x1BCA0, 0x1BCA3}, {0x1D173, 0x1D17A}, {0xE0000, 0xE0FFF},
}};

constexpr const char* ellipsis = " […]";

bool is_escaped(uint32_t code) {
  return std::any_of(escaped.begin(), escaped.end(),
                     [&](const Range& range) { return range.first <= code && code <= range.last; });
}

// The character at `at` of well-formed UTF-8, and how many bytes it has.
uint32_t code_at(const std::string& text, size_t at, size_t& length) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  length = byte(0) < 0x80 ? 1 : byte(0) < 0xE0 ? 2 : byte(0) < 0xF0 ? 3 : 4;
  if (length == 1) return byte(0);
  uint32_t code = byte(0) & (0x7FU >> length);
  for (size_t i = 1; i < length; i++) {
    code = (code << 6U) | (byte(i) & 0x3FU);
  }
  return code;
}

void append_unit(std::string& into, uint32_t unit) {
  std::array<char, 16> shown{};
  std::snprintf(shown.data(), shown.size(), "\\u%04x", unit);
  into += shown.data();
}

void append_escaped(std::string& into, uint32_t code) {
  if (code < 0x10000) return append_unit(into, code);
  append_unit(into, 0xD800 + ((code - 0x10000) >> 10U));
  append_unit(into, 0xDC00 + ((code - 0x10000) & 0x3FFU));
}

} // namespace

std::string printable(const std::string& text, size_t max_bytes) {
  if (max_bytes == 0) return "";
  std::string shown;
  const std::string read = sanitise_utf8(text.substr(0, max_bytes));
  for (size_t at = 0, length = 0; at < read.size(); at += length) {
    const uint32_t code = code_at(read, at, length);
    if (shown.size() >= max_bytes) return shown + ellipsis;
    if (is_escaped(code)) {
      append_escaped(shown, code);
    } else {
      shown.append(read, at, length);
    }
  }
  return text.size() > max_bytes ? shown + ellipsis : shown;
}

} // namespace rbee
