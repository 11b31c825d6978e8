#include "sandbox.h"

#ifdef __linux__
#include "every_thread.h"
#include "seccomp_filter.h"

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>

#include <fcntl.h>
#include <glob.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace rbee {

#ifdef __linux__

namespace {

// Of <linux/landlock.h>, which is absent or older than the kernel where this may be built. The numbers are
// the same on all machines.
namespace landlock {

constexpr long create_ruleset = 444;
constexpr long add_rule = 445;
constexpr long restrict_self = 446;

constexpr uint32_t ask_version = 1u << 0;
constexpr int path_beneath = 1;

struct RulesetAttributes {
  uint64_t files;
  uint64_t net; // since version 4
};

struct __attribute__((packed)) PathBeneath {
  uint64_t allowed;
  int32_t parent;
};

constexpr uint64_t execute = 1ull << 0;
constexpr uint64_t write_file = 1ull << 1;
constexpr uint64_t read_file = 1ull << 2;
constexpr uint64_t read_folder = 1ull << 3;
constexpr uint64_t of_version_1 = (1ull << 13) - 1;
constexpr uint64_t refer = 1ull << 13;      // version 2
constexpr uint64_t truncate = 1ull << 14;   // version 3
constexpr uint64_t ask_device = 1ull << 15; // version 5
constexpr uint64_t of_files = execute | write_file | read_file | truncate | ask_device;

constexpr uint64_t bind_tcp = 1ull << 0;
constexpr uint64_t connect_tcp = 1ull << 1;

} // namespace landlock

class FileDescriptor {
 public:
  explicit FileDescriptor(int value) : value_(value) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (value_ >= 0) close(value_);
  }

  int get() const { return value_; }
  // Stays open until the process ends.
  void leave_open() { value_ = -1; }

 private:
  int value_;
};

std::string because(const char* what, int error) {
  return std::string(what) + ": " + std::strerror(error);
}

uint64_t file_rights(int abi) {
  uint64_t rights = landlock::of_version_1;
  if (abi >= 2) rights |= landlock::refer;
  if (abi >= 3) rights |= landlock::truncate;
  if (abi >= 5) rights |= landlock::ask_device;
  return rights;
}

// False when the kernel refuses a rule for something that is there.
bool allow(int ruleset, const std::string& path, uint64_t rights) {
  FileDescriptor parent(open(path.c_str(), O_PATH | O_CLOEXEC));
  struct stat status {};
  if (parent.get() < 0 || fstat(parent.get(), &status) != 0) return true;
  if (!S_ISDIR(status.st_mode)) rights &= landlock::of_files;
  const landlock::PathBeneath rule{rights, parent.get()};
  if (syscall(landlock::add_rule, ruleset, landlock::path_beneath, &rule, 0) != 0) return false;
  // /proc makes a new folder for a process each time that nobody has the last one open, and a rule is for one
  // of them.
  if (path.rfind("/proc/", 0) == 0) parent.leave_open();
  return true;
}

std::vector<std::string> matches(const std::string& pattern) {
  glob_t found{};
  std::vector<std::string> paths;
  if (glob(pattern.c_str(), 0, nullptr, &found) == 0)
    paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  globfree(&found);
  return paths;
}

// Given to each thread.
struct Restriction {
  int ruleset;
  std::atomic<int> error{0};
};

// In a signal handler, see every_thread.h.
void restrict_thread(void* context) {
  auto* restriction = static_cast<Restriction*>(context);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      syscall(landlock::restrict_self, restriction->ruleset, 0) != 0) {
    restriction->error = errno;
  }
}

void apply_landlock(const SandboxPaths& paths, SandboxReport& report) {
  const int abi = report.support.landlock_abi;
  if (abi == 0) {
    report.problems.push_back("This kernel has no landlock, or it is switched off");
    return;
  }
  const uint64_t all = file_rights(abi);
  const landlock::RulesetAttributes attributes{all,
                                               abi >= 4 ? landlock::bind_tcp | landlock::connect_tcp : 0};
  FileDescriptor ruleset(
      static_cast<int>(syscall(landlock::create_ruleset, &attributes, sizeof attributes, 0)));
  if (ruleset.get() < 0) {
    report.problems.push_back(because("landlock makes no ruleset", errno));
    return;
  }
  bool complete = true;
  for (const std::string& path : paths.read)
    complete &= allow(ruleset.get(), path, landlock::read_file | landlock::read_folder);
  for (const std::string& pattern : paths.write) {
    for (const std::string& path : matches(pattern))
      complete &= allow(ruleset.get(), path, all & ~landlock::execute);
  }
  if (!complete) {
    // A worker that lacks a file it needs is worse off than one without landlock.
    report.problems.push_back(because("landlock refuses a rule", errno));
    return;
  }
  auto restriction = std::make_unique<Restriction>();
  restriction->ruleset = ruleset.get();
  if (!on_every_thread(restrict_thread, restriction.get())) {
    report.problems.push_back("landlock could not be applied to all threads");
    // For a thread that is late.
    ruleset.leave_open();
    restriction.release();
    return;
  }
  if (restriction->error != 0) {
    report.problems.push_back(because("landlock refuses to restrict a thread", restriction->error));
    return;
  }
  report.landlock = true;
}

void apply_seccomp(bool no_writing, SandboxReport& report) {
  std::vector<sock_filter> filter = seccomp_filter(static_cast<unsigned>(getpid()), no_writing);
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  // All threads at once; and without what kernels before 5.16 otherwise do to such a process against
  // speculation, which costs speed and protects nothing here.
  constexpr unsigned flags = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
  const long status = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  if (status == 0) {
    report.seccomp = true;
  } else if (status > 0) {
    report.problems.push_back("seccomp could not be applied to all threads: one has a filter of its own");
  } else {
    report.problems.push_back(because("seccomp refuses a filter", errno));
  }
}

} // namespace

SandboxSupport sandbox_support() {
  SandboxSupport support;
  const long abi = syscall(landlock::create_ruleset, nullptr, 0, landlock::ask_version);
  support.landlock_abi = abi > 0 ? static_cast<int>(abi) : 0;
  const uint32_t action = SECCOMP_RET_ERRNO;
  support.seccomp = syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
  return support;
}

SandboxReport confine(const SandboxPaths& paths) {
  SandboxReport report;
  report.support = sandbox_support();
  report.no_new_privs = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
  apply_landlock(paths, report);
  // Last: it refuses what the steps before it need. It also spreads no_new_privs to all threads.
  apply_seccomp(paths.write.empty(), report);
  return report;
}

#else

SandboxSupport sandbox_support() {
  return {};
}

SandboxReport confine(const SandboxPaths& /*paths*/) {
  SandboxReport report;
  report.problems.push_back("This system has no landlock and no seccomp");
  return report;
}

#endif

} // namespace rbee
