// Whether the tokenisers as they are built here (compat/tokenizer.h, compat/regex_split.h) give what
// llama.cpp's own give, for every vocabulary and every expression that llama.cpp brings, and in which time.
#include "../llama.cpp/src/unicode.h"
#include "expect_test.h"
#include "llama-cpp.h"
#include "tokenizer_hooks.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

namespace {

constexpr const char* alphabets[] = {
    "a",
    " ",
    "\n",
    "ab AB",
    "The 3 bees' caf\xC3\xA9 isn't 1,234.56!\n  \t",
    "\xF0\x9F\x98\x80\xF0\x9F\x90\x9D\xE2\x80\x8D\xEF\xB8\x8F",      // emoji, joiner, selector
    "\xE4\xBD\xA0\xE5\xA5\xBD\xE3\x81\x82\xE3\x82\xA2\xEA\xB0\x80",  // Han, kana, Hangul
    "e\xCC\x81\xE0\xA4\x95\xE0\xA5\x8D\xD8\xB9\xD9\x8E\xE0\xB8\x81", // combining marks
    "0123456789\xD9\xA3\xE0\xA5\xA9",                                // digits of several scripts
    "aZ\xC3\x89\xD0\x96\xE4\xBD\xA0 9\n'sdmt\xF0\x9F\x98\x80<>|_[]()\r\n\xE2\x80\xA8\xC2\xA0",
    "\x01\x7F\xEF\xBF\xBD\xEF\xBB\xBF",
};

std::vector<std::string> characters_of(const std::string& text) {
  std::vector<std::string> characters;
  for (size_t at = 0; at < text.size();) {
    const size_t length = unicode_len_utf8(text[at]);
    characters.push_back(text.substr(at, length));
    at += length;
  }
  return characters;
}

class Texts {
 public:
  explicit Texts(uint32_t seed) : random_(seed) {}

  // Runs of one character and random stretches of several alphabets, with some of `words` between them.
  std::string draw(size_t bytes, const std::vector<std::string>& words) {
    std::string text;
    while (text.size() < bytes) {
      const auto characters = characters_of(alphabets[below(std::size(alphabets))]);
      const size_t length = 1 + below(below(4) == 0 ? 300 : 12);
      const bool run = below(3) == 0;
      const std::string& one = characters[below(characters.size())];
      for (size_t i = 0; i < length; i++)
        text += run ? one : characters[below(characters.size())];
      if (!words.empty() && below(3) == 0) {
        const std::string& word = words[below(words.size())];
        text += below(5) == 0 ? word.substr(0, word.size() / 2) : word;
      }
    }
    return text;
  }

  size_t below(size_t end) { return random_() % end; }

 private:
  std::mt19937 random_;
};

class AsUpstream {
 public:
  AsUpstream() { rbee::tokenizer_hooks.upstream = true; }
  ~AsUpstream() { rbee::tokenizer_hooks.upstream = false; }
};

std::vector<llama_token> tokenize(const llama_vocab* vocab, const std::string& text, bool parse_special) {
  std::vector<llama_token> tokens(text.size() + 16);
  const int count = llama_tokenize(vocab, text.data(), static_cast<int32_t>(text.size()), tokens.data(),
                                   static_cast<int32_t>(tokens.size()), true, parse_special);
  tokens.resize(static_cast<size_t>(std::max(0, count)));
  return tokens;
}

std::vector<std::string> special_words(const llama_vocab* vocab) {
  std::vector<std::string> words;
  for (llama_token token = 0; token < llama_vocab_n_tokens(vocab); token++) {
    const int marks = LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_USER_DEFINED | LLAMA_TOKEN_ATTR_UNKNOWN;
    if ((llama_vocab_get_attr(vocab, token) & marks) != 0)
      words.push_back(llama_vocab_get_text(vocab, token));
  }
  return words;
}

void same_tokens(const std::string& name, const llama_vocab* vocab) {
  Texts texts(1);
  const auto words = special_words(vocab);
  for (int i = 0; i < 60; i++) {
    // Short texts have their special tokens found by llama.cpp itself.
    const std::string text = texts.draw(i % 2 == 0 ? 4000 : texts.below(400), words);
    const bool parse_special = i % 3 != 0;
    const auto ours = tokenize(vocab, text, parse_special);
    const AsUpstream upstream;
    if (ours == tokenize(vocab, text, parse_special)) continue;
    expect(false, ("tokens differ from llama.cpp's: " + name).c_str(), text);
    return;
  }
}

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

// Long texts of one kind come to an end, neither too late nor by the stack's.
void in_time(const std::string& name, const llama_vocab* vocab) {
  constexpr size_t bytes = 250'000;
  const auto words = special_words(vocab);
  std::vector<std::string> texts;
  for (const char* alphabet : alphabets) {
    const auto characters = characters_of(alphabet);
    std::string run;
    while (run.size() < bytes)
      run += characters[0];
    texts.push_back(std::move(run));
    std::string mixed;
    for (size_t i = 0; mixed.size() < bytes; i++)
      mixed += characters[(i * 7 + i / 3) % characters.size()];
    texts.push_back(std::move(mixed));
  }
  texts.push_back(Texts(2).draw(bytes, words));
  if (!words.empty()) {
    std::string specials;
    for (size_t i = 0; specials.size() < bytes; i++)
      specials += words[i % words.size()];
    texts.push_back(std::move(specials));
  }
  double slowest = 0;
  std::string which;
  for (const std::string& text : texts) {
    const double start = cpu_seconds();
    std::string how = "answered";
    try {
      tokenize(vocab, text, true);
    } catch (const std::exception& error) {
      how = error.what();
    }
    const double seconds = (cpu_seconds() - start) * 1e6 / static_cast<double>(text.size());
    if (seconds < slowest) continue;
    slowest = seconds;
    which = text.substr(0, 24) + " (" + how + ")";
  }
  std::printf("%-40s slowest text: %.2f s of CPU a megabyte, %s\n", name.c_str(), slowest, which.c_str());
}

void stops(const llama_vocab* vocab) {
  struct Asked {
    int times = 0;
  } asked;
  rbee::tokenizer_hooks.flag = &asked;
  rbee::tokenizer_hooks.canceled = [](const void* flag) {
    return ++const_cast<Asked*>(static_cast<const Asked*>(flag))->times > 3;
  };
  bool stopped = false;
  try {
    tokenize(vocab, std::string(100'000, 'a'), true);
  } catch (const rbee::TokenizingStopped&) {
    stopped = true;
  }
  rbee::tokenizer_hooks = {};
  expect(stopped, "tokenising stops when it is told to", std::to_string(asked.times));
}

// The texts of string literals in a piece of C++.
std::vector<std::string> literals_in(const std::string& code) {
  std::vector<std::string> literals;
  std::istringstream lines(code);
  for (std::string line; std::getline(lines, line);) {
    const size_t open = line.find('"');
    const size_t comment = line.find("//");
    if (open == std::string::npos || comment < open) continue;
    std::string text;
    for (size_t at = open + 1; at < line.size() && line[at] != '"'; at++) {
      if (line[at] != '\\') {
        text += line[at];
        continue;
      }
      const char escaped = line[++at];
      text += escaped == 'r' ? '\r' : escaped == 'n' ? '\n' : escaped == 't' ? '\t' : escaped;
    }
    literals.push_back(text);
  }
  return literals;
}

void same_words() {
  std::ifstream file(std::string(RBEE_LLAMA_FOLDER) + "/src/llama-vocab.cpp");
  const std::string code((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const std::string start = "regex_exprs = {";
  int kinds = 0;
  for (size_t at = code.find(start); at != std::string::npos; at = code.find(start, at + 1)) {
    const auto expressions = literals_in(code.substr(at, code.find("};", at) - at));
    kinds++;
    Texts texts(static_cast<uint32_t>(kinds));
    for (int i = 0; i < 20; i++) {
      const std::string text = texts.draw(600, {"<sentinel:12>", "IMGIMGABCZ", " 'll", "'S", "123456"});
      const auto ours = unicode_regex_split(text, expressions, true);
      const AsUpstream upstream;
      if (ours == unicode_regex_split(text, expressions, true)) continue;
      expect(false, ("words differ from llama.cpp's: " + expressions.back()).c_str(), text);
      break;
    }
  }
  expect(kinds > 20, "the expressions are found", std::to_string(kinds));
}

} // namespace

void tokenizer_tests() {
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  same_words();
  int vocabularies = 0;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(RBEE_LLAMA_FOLDER) + "/models")) {
    if (entry.path().extension() != ".gguf") continue;
    llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    const llama_model_ptr model(llama_model_load_from_file(entry.path().c_str(), params));
    expect(model != nullptr, "a vocabulary can be loaded", entry.path().string());
    if (!model) continue;
    const llama_vocab* vocab = llama_model_get_vocab(model.get());
    const std::string name = entry.path().filename().string();
    same_tokens(name, vocab);
    in_time(name, vocab);
    stops(vocab);
    vocabularies++;
  }
  expect(vocabularies > 10, "the vocabularies are found", std::to_string(vocabularies));
}
