#include "forbidden.h"

#include <stdexcept>

#ifdef __linux__
#include "every_thread.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <memory>
#include <utility>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#endif

namespace rbee {

#ifdef __linux__

namespace {

constexpr size_t max_rows = 1024;

// Runs in signal handlers, so system calls are all it makes.
int error_of(long status) {
  return status < 0 ? errno : 0;
}

int close_opened(long file) {
  const int error = error_of(file);
  if (file >= 0) close(static_cast<int>(file));
  return error;
}

int run_program(const ForbiddenTargets& to) {
  char* const none[] = {nullptr};
  return error_of(execve(to.program.c_str(), none, none));
}

int start_process(const ForbiddenTargets& /*to*/) {
  const long child = syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr);
  if (child == 0) _exit(0);
  return error_of(child);
}

int make_file(const ForbiddenTargets& to) {
  return close_opened(open(to.new_file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

int remove_file(const ForbiddenTargets& to) {
  return error_of(unlink(to.new_file.c_str()));
}

int read_file(const ForbiddenTargets& to) {
  return close_opened(open(to.file.c_str(), O_RDONLY | O_CLOEXEC));
}

int open_socket(const ForbiddenTargets& to) {
  const int made = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (made < 0) return errno;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(to.port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int error = error_of(connect(made, reinterpret_cast<const sockaddr*>(&address), sizeof address));
  close(made);
  return error;
}

int open_local_socket(const ForbiddenTargets& /*to*/) {
  return close_opened(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

// Both ask for what fails without a sandbox as well, but otherwise.
int trace_process(const ForbiddenTargets& to) {
  return error_of(syscall(SYS_ptrace, PTRACE_CONT, to.process, nullptr, nullptr));
}

int read_memory(const ForbiddenTargets& to) {
  char byte = 0;
  const iovec here{&byte, 1};
  const iovec there{nullptr, 1};
  return error_of(process_vm_readv(to.process, &here, 1, &there, 1, 0));
}

int send_signal(const ForbiddenTargets& to) {
  return error_of(kill(to.process, 0));
}

struct Attempt {
  const char* name;
  int (*run)(const ForbiddenTargets& to);
};

constexpr Attempt attempts[] = {
    {"run_program", run_program},
    {"start_process", start_process},
    {"make_file", make_file},
    {"remove_file", remove_file},
    {"read_file", read_file},
    {"open_socket", open_socket},
    {"open_local_socket", open_local_socket},
    {"trace_process", trace_process},
    {"read_memory", read_memory},
    {"send_signal", send_signal},
};

struct Row {
  pid_t thread;
  std::array<int, std::size(attempts)> errors;
};

struct Rows {
  explicit Rows(ForbiddenTargets to) : targets(std::move(to)) {}

  const ForbiddenTargets targets;
  std::atomic<size_t> count{0};
  std::array<Row, max_rows> rows{};
};

void try_here(void* context) {
  auto& all = *static_cast<Rows*>(context);
  const size_t at = all.count.fetch_add(1);
  if (at >= max_rows) return;
  Row& row = all.rows[at];
  row.thread = static_cast<pid_t>(syscall(SYS_gettid));
  for (size_t i = 0; i < std::size(attempts); i++)
    row.errors[i] = attempts[i].run(all.targets);
}

std::string name_of(pid_t thread) {
  std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/comm");
  std::string name;
  std::getline(file, name);
  return name;
}

} // namespace

std::vector<ThreadAttempts> try_forbidden(const ForbiddenTargets& targets) {
  auto rows = std::make_unique<Rows>(targets);
  if (!on_every_thread(try_here, rows.get())) {
    rows.release(); // for a thread that is late
    throw std::runtime_error("A thread did not get to its attempts.");
  }
  std::vector<ThreadAttempts> result;
  const size_t count = std::min(rows->count.load(), max_rows);
  for (size_t at = 0; at < count; at++) {
    const Row& row = rows->rows[at];
    ThreadAttempts thread{row.thread, name_of(row.thread), {}};
    for (size_t i = 0; i < std::size(attempts); i++)
      thread.errors[attempts[i].name] = row.errors[i];
    result.push_back(thread);
  }
  return result;
}

#else

std::vector<ThreadAttempts> try_forbidden(const ForbiddenTargets& /*targets*/) {
  throw std::runtime_error("Only Linux has this sandbox.");
}

#endif

} // namespace rbee
