#include "every_thread.h"

#ifdef __linux__
#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <set>
#include <string>
#include <thread>

#include <dirent.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace rbee {

#ifdef __linux__

namespace {

constexpr auto time_limit = std::chrono::seconds(5);
constexpr auto poll_interval = std::chrono::milliseconds(1);
constexpr size_t max_threads = 8192;

// glibc keeps this signal for setuid(2), which has to change all threads as well, and leaves it out of every
// mask that a program asks for: no thread can have it blocked.
constexpr int thread_signal = 33;

// As the kernel has it. sigaction(3) refuses glibc's own signals.
struct KernelAction {
  void (*handler)(int, siginfo_t*, void*);
  unsigned long flags;
  void (*restorer)();
  uint64_t mask;
};

int kernel_sigaction(int signal, const KernelAction* action, KernelAction* old) {
  return static_cast<int>(syscall(SYS_rt_sigaction, signal, action, old, sizeof(uint64_t)));
}

struct Round {
  void (*work)(void*) = nullptr;
  void* context = nullptr;
  std::atomic<size_t> count{0};
  std::array<std::atomic<pid_t>, max_threads> done{};
};

void run_here(Round& round) {
  round.work(round.context);
  const size_t at = round.count.fetch_add(1);
  if (at < max_threads) round.done[at] = static_cast<pid_t>(syscall(SYS_gettid));
}

void on_signal(int /*signal*/, siginfo_t* info, void* /*context*/) {
  // setuid(2) sends it by tgkill(2).
  if (info->si_code != SI_QUEUE || info->si_pid != getpid()) return;
  const int error = errno;
  run_here(*static_cast<Round*>(info->si_value.sival_ptr));
  errno = error;
}

// Only sigaction(3) knows the function that returns from a handler: it is read from a signal that nobody
// uses.
bool install_handler(KernelAction& old) {
  struct sigaction unused {};
  int borrowed = SIGRTMAX;
  while (borrowed >= SIGRTMIN && (sigaction(borrowed, nullptr, &unused) != 0 || unused.sa_handler != SIG_DFL))
    borrowed--;
  if (borrowed < SIGRTMIN) return false;
  struct sigaction ours {};
  ours.sa_sigaction = on_signal;
  ours.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  sigfillset(&ours.sa_mask);
  KernelAction action{};
  const bool read =
      sigaction(borrowed, &ours, nullptr) == 0 && kernel_sigaction(borrowed, nullptr, &action) == 0;
  sigaction(borrowed, &unused, nullptr);
  action.handler = on_signal; // a sanitizer may have put its own there
  return read && kernel_sigaction(thread_signal, &action, &old) == 0;
}

bool ask(Round& round, pid_t thread) {
  siginfo_t info{};
  info.si_code = SI_QUEUE;
  info.si_pid = getpid();
  info.si_uid = getuid();
  info.si_value.sival_ptr = &round;
  return syscall(SYS_rt_tgsigqueueinfo, getpid(), thread, thread_signal, &info) == 0;
}

struct CloseFolder {
  void operator()(DIR* folder) const { closedir(folder); }
};

std::set<pid_t> threads() {
  std::set<pid_t> found;
  const std::unique_ptr<DIR, CloseFolder> folder(opendir("/proc/self/task"));
  if (!folder) return found;
  while (const dirent* entry = readdir(folder.get())) {
    const pid_t thread = std::atoi(entry->d_name);
    if (thread > 0) found.insert(thread);
  }
  return found;
}

std::set<pid_t> done_threads(const Round& round) {
  std::set<pid_t> done;
  const size_t count = std::min(round.count.load(), max_threads);
  for (size_t i = 0; i < count; i++)
    done.insert(round.done[i]);
  return done;
}

// Asks until a look at all threads finds none that has not been through it.
bool ask_all(Round& round) {
  const auto deadline = std::chrono::steady_clock::now() + time_limit;
  std::set<pid_t> asked;
  while (std::chrono::steady_clock::now() < deadline) {
    const std::set<pid_t> all = threads();
    if (all.empty()) return false;
    const std::set<pid_t> done = done_threads(round);
    bool all_done = true;
    for (const pid_t thread : all) {
      if (done.count(thread) > 0) continue;
      all_done = false;
      if (asked.count(thread) == 0 && ask(round, thread)) asked.insert(thread);
    }
    if (all_done) return true;
    std::this_thread::sleep_for(poll_interval);
  }
  return false;
}

} // namespace

bool on_every_thread(void (*work)(void* context), void* context) {
  auto round = std::make_unique<Round>();
  round->work = work;
  round->context = context;
  run_here(*round);
  KernelAction old{};
  if (!install_handler(old)) return false;
  if (ask_all(*round)) {
    kernel_sigaction(thread_signal, &old, nullptr);
    return true;
  }
  // A thread that is late must still find the handler, and what it is given.
  round.release();
  return false;
}

#else

bool on_every_thread(void (*work)(void* context), void* context) {
  work(context);
  return false;
}

#endif

} // namespace rbee
