// What engine_bounds tells of its inputs.
#pragma once

#include <cstdio>
#include <map>
#include <string>

namespace rbee::bounds {

// The longest of each kind, for people.
class Figures {
 public:
  void add(const std::string& kind, double ms, const std::string& of) {
    Longest& longest = longest_[kind];
    if (ms > longest.ms) longest = {ms, of.substr(0, 60)};
    counts_[kind]++;
  }
  void print() const {
    for (const auto& [kind, longest] : longest_) {
      std::printf("%-34s %5d inputs, longest %7.1f ms: %s\n", kind.c_str(), counts_.at(kind), longest.ms,
                  longest.of.c_str());
    }
  }

 private:
  struct Longest {
    double ms = -1;
    std::string of;
  };
  std::map<std::string, Longest> longest_;
  std::map<std::string, int> counts_;
};

} // namespace rbee::bounds
