// What printable() lets through, and what it escapes.
#include "printable.h"

#include "expect_test.h"

#include <random>
#include <string>

namespace {

using rbee::printable;

constexpr size_t roomy = 1000;

void shows(const std::string& text, const std::string& wanted, const char* what) {
  const std::string shown = printable(text, roomy);
  expect(shown == wanted, what, shown);
}

void known_texts() {
  shows("größer – 日本語 🐝 \"x\" \\", "größer – 日本語 🐝 \"x\" \\", "text that people write stays");
  shows("a\x1B]52;c;eA==\x07z", "a\\u001b]52;c;eA==\\u0007z", "an escape sequence is escaped");
  shows("a\nb\r\tc", "a\\u000ab\\u000d\\u0009c", "line ends and tabs are escaped");
  shows("\x7F\xC2\x85\xC2\x9B", "\\u007f\\u0085\\u009b", "DEL and C1 are escaped");
  shows("\x9B"
        "31m",
        "\xEF\xBF\xBD"
        "31m",
        "a bare C1 byte is no UTF-8");
  shows("\u2028\u202E\u2066\u200B\uFEFF", "\\u2028\\u202e\\u2066\\u200b\\ufeff", "formats are escaped");
  shows("\U000E0041", "\\udb40\\udc41", "a tag is escaped as JSON has it");
  shows(std::string("a\0b", 3), "a\\u0000b", "a zero byte is escaped");
}

void bounds() {
  const std::string cut = printable(std::string(5000, 'x'), 100);
  expect(cut.size() < 120 && cut.substr(0, 100) == std::string(100, 'x'), "a long text is cut", cut);
  const std::string escaped = printable(std::string(5000, '\x1B'), 100);
  expect(escaped.size() < 130, "what it grows by counts", escaped);
  expect(printable("x", 0).empty(), "no room, no text", printable("x", 0));
}

void any_bytes() {
  std::mt19937 random(7);
  for (int round = 0; round < 20000; round++) {
    std::string text(random() % 40, '\0');
    for (char& byte : text)
      byte = static_cast<char>(random());
    const std::string shown = printable(text, roomy);
    for (size_t i = 0; i < shown.size(); i++) {
      const auto byte = static_cast<unsigned char>(shown[i]);
      const auto next = static_cast<unsigned char>(i + 1 < shown.size() ? shown[i + 1] : 0);
      expect(byte >= 0x20 && byte != 0x7F && !(byte == 0xC2 && next < 0xA0), "no control is left", shown);
    }
    expect(printable(shown, 10 * roomy) == shown, "escaping twice changes nothing", shown);
  }
}

} // namespace

void printable_tests() {
  known_texts();
  bounds();
  any_bytes();
}
