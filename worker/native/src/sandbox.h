// What keeps native code inside the process once it needs nothing more of the system.
#pragma once

#include <string>
#include <vector>

namespace rbee {

// What the running kernel has for it.
struct SandboxSupport {
  // Version of landlock(7)'s interface; 0: there is none, or it is switched off.
  int landlock_abi = 0;
  bool seccomp = false;
};

SandboxSupport sandbox_support();

// Files, and folders with all that is in them. What does not exist is left out.
struct SandboxPaths {
  std::vector<std::string> read;
  // Patterns of glob(7). Also to be written, made and removed, and to be asked by ioctl(2): a GPU's devices
  // and its driver's caches. Empty: nothing can be written even where there is no landlock.
  std::vector<std::string> write;
};

// What came of it. A part that is not held has a sentence among the problems.
struct SandboxReport {
  SandboxSupport support;
  bool no_new_privs = false;
  // On all threads.
  bool landlock = false;
  bool seccomp = false;
  std::vector<std::string> problems;
};

// Confines every thread of this process, and all that they start, for good: it can run no program, open no
// socket, open no other files than those named, and reach no other process. What is open stays usable. Never
// throws for what the kernel lacks or refuses: the rest is done.
SandboxReport confine(const SandboxPaths& paths);

} // namespace rbee
