// Behaviour of TextStream under every way of cutting a text into tokens.
#include "text_stream.h"

#include "expect_test.h"

#include <random>
#include <string>
#include <vector>

namespace {

using rbee::TextStream;

// What one answer handed out.
struct Output {
  std::string text;
  std::vector<std::string> tokens;
  bool stopped = false;
};

Output stream(const std::vector<std::string>& pieces, const std::vector<std::string>& stops) {
  TextStream text(stops);
  Output output;
  const auto take = [&](const std::vector<std::string>& released) {
    for (const std::string& token : released) {
      output.text += token;
      output.tokens.push_back(token);
    }
  };
  for (const std::string& piece : pieces) {
    take(text.push(piece));
    if (text.stopped()) {
      output.stopped = true;
      return output;
    }
  }
  take(text.finish());
  return output;
}

std::vector<std::string> cut(const std::string& text, std::mt19937& random) {
  std::vector<std::string> pieces;
  for (size_t at = 0; at < text.size();) {
    const size_t length = 1 + random() % 4;
    pieces.push_back(text.substr(at, length));
    at += length;
  }
  return pieces;
}

void whole_characters_only() {
  const std::string text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x90\x9D z";
  std::mt19937 random(1);
  for (int round = 0; round < 2000; round++) {
    const auto pieces = cut(text, random);
    const Output output = stream(pieces, {});
    expect(output.text == text, "the text survives any cut", output.text);
    expect(output.tokens.size() == pieces.size(), "every token is handed out", output.text);
    for (const std::string& token : output.tokens) {
      expect(rbee::complete_utf8_length(token) == token.size() && rbee::sanitise_utf8(token) == token,
             "a token never holds half a character", token);
    }
  }
}

void broken_bytes_become_replacement() {
  expect(stream({"a", "\xFF", "b"}, {}).text == "a\xEF\xBF\xBD"
                                                "b",
         "an impossible byte is replaced", stream({"a", "\xFF", "b"}, {}).text);
  expect(stream({"a\xF0\x9F"}, {}).text == "a\xEF\xBF\xBD", "a cut-off character is replaced once",
         stream({"a\xF0\x9F"}, {}).text);
  expect(stream({"\xC0\xAF"}, {}).text == "\xEF\xBF\xBD\xEF\xBF\xBD", "overlong forms are refused",
         stream({"\xC0\xAF"}, {}).text);
  expect(stream({"\xED\xA0\x80"}, {}).text == "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD",
         "surrogates are refused", stream({"\xED\xA0\x80"}, {}).text);
  std::mt19937 random(2);
  for (int round = 0; round < 5000; round++) {
    std::string bytes;
    for (size_t i = random() % 12; i > 0; i--) {
      bytes += static_cast<char>(random() % 256);
    }
    const auto pieces = cut(bytes, random);
    const Output output = stream(pieces, {});
    expect(output.text == rbee::sanitise_utf8(bytes), "any bytes give the same text however they are cut",
           output.text);
    expect(output.tokens.size() == pieces.size(), "every token is handed out", output.text);
  }
}

void stop_strings_never_leak() {
  const std::vector<std::string> stops = {"END", "</s>", "\xF0\x9F\x90\x9D"};
  std::mt19937 random(3);
  const std::string alphabet[] = {"E", "N", "D", "<", "/", "s", ">", "\xF0\x9F\x90\x9D", "x", " "};
  for (int round = 0; round < 20000; round++) {
    std::string text;
    for (size_t i = random() % 20; i > 0; i--) {
      text += alphabet[random() % 10];
    }
    size_t first = std::string::npos;
    for (const std::string& stop : stops) {
      first = std::min(first, text.find(stop));
    }
    const auto pieces = cut(text, random);
    const Output output = stream(pieces, stops);
    expect(output.stopped == (first != std::string::npos), "a stop string is found wherever it is cut", text);
    expect(output.text == text.substr(0, first), "nothing of a stop string is handed out, all before it is",
           output.text);
    expect(output.tokens.size() <= pieces.size(), "no token is handed out twice", output.text);
  }
}

void a_token_is_held_only_while_it_is_uncertain() {
  TextStream text({"###"});
  expect(text.push("abc").size() == 1, "plain text goes out at once", "");
  expect(text.push("#").empty(), "what may begin a stop string is held", "");
  const auto released = text.push("!");
  expect(released.size() == 2 && released[0] == "#" && released[1] == "!", "and goes out when it was none",
         "");
}

} // namespace

void text_stream_tests() {
  whole_characters_only();
  broken_bytes_become_replacement();
  stop_strings_never_leak();
  a_token_is_held_only_while_it_is_uncertain();
}
