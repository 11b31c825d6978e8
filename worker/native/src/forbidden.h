// What a confined process must not be able to do, tried. Only tests call it.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace rbee {

// What the attempts go for.
struct ForbiddenTargets {
  std::string program;  // to be run; without a sandbox it had better not exist
  std::string new_file; // to be made
  std::string file;     // to be read
  int port = 0;         // of 127.0.0.1, to be connected to
  int process = 0;      // to be looked into
};

struct ThreadAttempts {
  int thread = 0;
  std::string name;
  // By what was tried: 0 when the kernel let it happen, else errno.
  std::map<std::string, int> errors;
};

// Tries everything on every thread there is. Throws std::runtime_error when a thread did not get to it.
std::vector<ThreadAttempts> try_forbidden(const ForbiddenTargets& targets);

} // namespace rbee
