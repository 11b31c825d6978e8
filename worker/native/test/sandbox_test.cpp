// A confined process, seen from all of its threads: those from before, those from after.
#include "sandbox.h"

#include "every_thread.h"
#include "expect_test.h"
#include "forbidden.h"

#ifdef __linux__
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <cerrno>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

#ifdef __linux__

namespace {

constexpr int threads_before = 5;

// Threads that wait, as an engine's and a pool's do between requests.
class Waiting {
 public:
  explicit Waiting(int count) {
    for (int i = 0; i < count; i++)
      threads_.emplace_back([this] { wait(); });
  }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;
  ~Waiting() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      over_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_)
      thread.join();
  }

 private:
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return over_; });
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::vector<std::thread> threads_;
};

// Blocks every signal that a program may block.
class Deaf {
 public:
  Deaf() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  Deaf(const Deaf&) = delete;
  Deaf& operator=(const Deaf&) = delete;
  ~Deaf() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

void add_one(void* count) {
  (*static_cast<std::atomic<int>*>(count))++;
}

void every_thread_is_reached_once() {
  const Deaf deaf; // the waiting threads inherit it
  const Waiting waiting(threads_before);
  std::atomic<int> count{0};
  expect(rbee::on_every_thread(add_one, &count), "no thread is late", "");
  expect(count == threads_before + 1, "each runs it once", std::to_string(count));
  count = 0;
  expect(rbee::on_every_thread(add_one, &count), "nor is one the second time", "");
  expect(count == threads_before + 1, "each runs it once more", std::to_string(count));
}

class Folder {
 public:
  Folder() : path_("/tmp/rbee_sandbox_XXXXXX") {
    if (mkdtemp(path_.data()) == nullptr) path_.clear();
    std::ofstream(in("readable")) << "may be read";
    std::ofstream(in("secret")) << "may not";
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    for (const char* name : {"readable", "secret", "made"})
      unlink(in(name).c_str());
    rmdir(path_.c_str());
  }

  std::string in(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

rbee::ForbiddenTargets targets(const Folder& folder) {
  rbee::ForbiddenTargets to;
  to.program = "/no/such/program";
  to.new_file = folder.in("made");
  to.file = folder.in("secret");
  to.port = 9; // discard: nobody listens
  to.process = getppid();
  return to;
}

void expect_refused(const rbee::ThreadAttempts& thread, const rbee::SandboxReport& report) {
  for (const auto& [what, error] : thread.errors) {
    // Reading is landlock's alone, writing is both's, all else is seccomp's.
    const bool held = what == "read_file" ? report.landlock : report.seccomp;
    if (!held) continue;
    expect(error == EPERM || error == EACCES, (thread.name + " is refused to " + what).c_str(),
           std::to_string(error));
  }
}

bool can_open(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file >= 0) close(file);
  return file >= 0;
}

void confined_threads_are_refused(const Folder& folder) {
  const Waiting before(threads_before);
  rbee::SandboxPaths paths;
  paths.read = {folder.in("readable"), "/proc/self", "/no/such/folder"};
  const rbee::SandboxReport report = rbee::confine(paths);
  const rbee::SandboxSupport support = rbee::sandbox_support();
  expect(report.no_new_privs, "no program can raise its privileges", "");
  expect(report.landlock == (support.landlock_abi > 0), "landlock holds where there is one", "");
  expect(report.seccomp == support.seccomp, "seccomp holds where there is one", "");
  expect(report.problems.empty() == (report.landlock && report.seccomp), "what does not hold is told", "");

  const Waiting after(1);
  const std::vector<rbee::ThreadAttempts> threads = rbee::try_forbidden(targets(folder));
  expect(threads.size() == threads_before + 2, "all threads try", std::to_string(threads.size()));
  for (const rbee::ThreadAttempts& thread : threads)
    expect_refused(thread, report);
  expect(can_open(folder.in("readable")), "what is named can be read", "");
  expect(can_open("/proc/self/statm"), "the process can be asked for its memory", "");
  expect(raise(SIGCONT) == 0, "the process may signal itself", "");
}

void a_path_for_writing_can_be_written(const Folder& folder) {
  rbee::SandboxPaths paths;
  paths.read = {"/proc/self"};
  paths.write = {folder.in("reada*")};
  const rbee::SandboxReport report = rbee::confine(paths);
  std::ofstream writable(folder.in("readable"));
  expect(static_cast<bool>(writable << "changed" << std::flush), "what is named can be written", "");
  if (!report.landlock) return;
  expect(!std::ofstream(folder.in("made")), "nothing else can be", "");
}

void without_a_sandbox_nothing_is_refused(const Folder& folder) {
  for (const rbee::ThreadAttempts& thread : rbee::try_forbidden(targets(folder))) {
    for (const auto& [what, error] : thread.errors)
      expect(error != EPERM && error != EACCES, ("free to " + what).c_str(), std::to_string(error));
  }
}

// Being confined can't be undone, so a process of its own is.
void in_a_process(void (*test)(const Folder& folder)) {
  const Folder folder;
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    test(folder);
    std::fflush(stdout);
    _exit(failure_count() == 0 ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the process holds", std::to_string(status));
}

} // namespace

// The thread sanitizer holds signals back, and starts threads of its own after fork(2).
#ifdef __SANITIZE_THREAD__
constexpr bool is_testable = false;
#else
constexpr bool is_testable = true;
#endif

void sandbox_tests() {
  if (!is_testable) return;
  every_thread_is_reached_once();
  in_a_process(without_a_sandbox_nothing_is_refused);
  in_a_process(confined_threads_are_refused);
  in_a_process(a_path_for_writing_can_be_written);
}

#else

void sandbox_tests() {}

#endif
