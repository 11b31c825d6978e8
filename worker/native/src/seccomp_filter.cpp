#include "seccomp_filter.h"

#ifdef __linux__

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

namespace rbee {

namespace {

#if defined(__x86_64__)
constexpr uint32_t own_architecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t own_architecture = AUDIT_ARCH_AARCH64;
#endif

// From 424 on the numbers are the same everywhere. Written out where Debian 12's headers are older than the
// call.
constexpr uint32_t sys_io_uring_setup = 425;
constexpr uint32_t sys_io_uring_enter = 426;
constexpr uint32_t sys_io_uring_register = 427;
constexpr uint32_t sys_mount_setattr = 442;
constexpr uint32_t sys_process_mrelease = 448;
constexpr uint32_t sys_fchmodat2 = 452;
constexpr uint32_t sys_setxattrat = 463;
constexpr uint32_t sys_removexattrat = 466;
constexpr uint32_t sys_open_tree_attr = 467;
constexpr uint32_t sys_file_setattr = 469;

constexpr uint32_t refused[] = {
    // Programs and processes.
    SYS_execve,
    SYS_execveat,
#ifdef SYS_fork
    SYS_fork,
    SYS_vfork,
#endif
    // Other processes.
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_process_madvise,
    sys_process_mrelease,
    SYS_pidfd_open,
    SYS_pidfd_getfd,
    SYS_pidfd_send_signal,
    SYS_kcmp,
    SYS_tkill,
    // What is shared with other processes by name.
    SYS_shmget,
    SYS_shmat,
    SYS_msgget,
    SYS_semget,
    SYS_mq_open,
    SYS_mq_unlink,
    // Sockets: those that are open stay, and accept others.
    SYS_socket,
    SYS_connect,
    SYS_bind,
    SYS_listen,
    // Ways round this filter, and into the kernel.
    sys_io_uring_setup,
    sys_io_uring_enter,
    sys_io_uring_register,
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
#ifdef SYS_kexec_file_load
    SYS_kexec_file_load,
#endif
#ifdef SYS_iopl
    SYS_iopl,
    SYS_ioperm,
    SYS_modify_ldt,
#endif
    // Other views of the file system.
    SYS_mount,
    SYS_umount2,
    SYS_move_mount,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
    SYS_open_tree,
    sys_open_tree_attr,
    sys_mount_setattr,
    SYS_pivot_root,
    SYS_chroot,
    SYS_setns,
    SYS_unshare,
    SYS_name_to_handle_at,
    SYS_open_by_handle_at,
    SYS_fanotify_init,
    SYS_quotactl,
    // The machine.
    SYS_reboot,
    SYS_swapon,
    SYS_swapoff,
    SYS_acct,
    SYS_syslog,
    SYS_vhangup,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_personality,
    // Owners, modes, times and attributes of files, which landlock leaves alone.
    SYS_fchmod,
    SYS_fchmodat,
    sys_fchmodat2,
    SYS_fchown,
    SYS_fchownat,
    SYS_utimensat,
    SYS_setxattr,
    SYS_lsetxattr,
    SYS_fsetxattr,
    SYS_removexattr,
    SYS_lremovexattr,
    SYS_fremovexattr,
    sys_setxattrat,
    sys_removexattrat,
    sys_file_setattr,
#ifdef SYS_chmod
    SYS_chmod,
    SYS_chown,
    SYS_lchown,
    SYS_utime,
    SYS_utimes,
    SYS_futimesat,
#endif
};

constexpr uint32_t refused_without_writing[] = {
    SYS_mkdirat,   SYS_mknodat,  SYS_unlinkat, SYS_linkat, SYS_symlinkat,
#ifdef SYS_renameat
    SYS_renameat,
#endif
    SYS_renameat2, SYS_truncate,
#ifdef SYS_creat
    SYS_creat,     SYS_mkdir,    SYS_rmdir,    SYS_mknod,  SYS_unlink,    SYS_link, SYS_symlink, SYS_rename,
#endif
};

constexpr uint32_t writing_flags = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC;

// A refusal that depends on one argument. The kernel looks at no more than its lower half either: all are
// ints.
struct Condition {
  enum Kind : uint8_t { any_bit, no_bit, equal, neither };
  uint32_t call;
  uint8_t argument;
  Kind kind;
  uint32_t value;
  uint32_t other = 0; // of `neither`
};

std::vector<Condition> conditions(unsigned own, bool no_writing) {
  std::vector<Condition> all = {
      {SYS_clone, 0, Condition::no_bit, CLONE_THREAD},
      // Signals, also by way of a file's owner.
      {SYS_kill, 0, Condition::neither, own, own},
      {SYS_tgkill, 0, Condition::neither, own, own},
      {SYS_rt_sigqueueinfo, 0, Condition::neither, own, own},
      {SYS_rt_tgsigqueueinfo, 0, Condition::neither, own, own},
      {SYS_fcntl, 1, Condition::equal, F_SETOWN},
      {SYS_fcntl, 1, Condition::equal, F_SETOWN_EX},
      {SYS_ioctl, 1, Condition::equal, FIOSETOWN},
      {SYS_ioctl, 1, Condition::equal, SIOCSPGRP},
      {SYS_prlimit64, 0, Condition::neither, 0, own},
      // Typing into the terminal that it was started from.
      {SYS_ioctl, 1, Condition::equal, TIOCSTI},
      {SYS_ioctl, 1, Condition::equal, TIOCLINUX},
      // A listening socket that is shut down could connect by this flag.
      {SYS_sendto, 3, Condition::any_bit, MSG_FASTOPEN},
      {SYS_sendmsg, 2, Condition::any_bit, MSG_FASTOPEN},
      {SYS_sendmmsg, 3, Condition::any_bit, MSG_FASTOPEN},
  };
  if (no_writing) {
    all.push_back({SYS_openat, 2, Condition::any_bit, writing_flags});
#ifdef SYS_open
    all.push_back({SYS_open, 1, Condition::any_bit, writing_flags});
#endif
  }
  return all;
}

class Program {
 public:
  Program() {
    load(offsetof(seccomp_data, arch));
    add(BPF_JMP | BPF_JEQ | BPF_K, own_architecture, 1, 0);
    refuse(EPERM);
    load_call();
#if defined(__x86_64__)
    // The calls of x32 are the same ones under other numbers.
    constexpr uint32_t x32_bit = 0x40000000;
    add(BPF_JMP | BPF_JGE | BPF_K, x32_bit, 0, 1);
    refuse(EPERM);
#endif
  }

  void refuse_call(uint32_t call, uint32_t error) {
    add(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1);
    refuse(error);
  }

  void refuse_if(const Condition& when) {
    constexpr uint8_t refusal = 1; // instructions
    constexpr uint8_t reload = 1;
    const bool two = when.kind == Condition::neither;
    add(BPF_JMP | BPF_JEQ | BPF_K, when.call, 0, static_cast<uint8_t>(2 + (two ? 1 : 0) + refusal + reload));
    load(offsetof(seccomp_data, args) + when.argument * sizeof(uint64_t)); // both machines are little-endian
    switch (when.kind) {
    case Condition::any_bit:
      add(BPF_JMP | BPF_JSET | BPF_K, when.value, 0, refusal);
      break;
    case Condition::no_bit:
      add(BPF_JMP | BPF_JSET | BPF_K, when.value, refusal, 0);
      break;
    case Condition::equal:
      add(BPF_JMP | BPF_JEQ | BPF_K, when.value, 0, refusal);
      break;
    case Condition::neither:
      add(BPF_JMP | BPF_JEQ | BPF_K, when.value, 1 + refusal, 0);
      add(BPF_JMP | BPF_JEQ | BPF_K, when.other, refusal, 0);
      break;
    }
    refuse(EPERM);
    load_call();
  }

  std::vector<sock_filter> finish() {
    add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
    return std::move(program_);
  }

 private:
  void load(size_t offset) {
    add(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset), 0, 0);
  }
  void load_call() {
    load(offsetof(seccomp_data, nr));
  }
  void refuse(uint32_t error) {
    add(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error, 0, 0);
  }

  void add(int code, uint32_t value, uint8_t if_true, uint8_t if_false) {
    program_.push_back({static_cast<uint16_t>(code), if_true, if_false, value});
  }

  std::vector<sock_filter> program_;
};

} // namespace

std::vector<sock_filter> seccomp_filter(unsigned own, bool no_writing) {
  Program program;
  for (const uint32_t call : refused)
    program.refuse_call(call, EPERM);
  program.refuse_call(SYS_clone3, ENOSYS);
  if (no_writing) {
    for (const uint32_t call : refused_without_writing)
      program.refuse_call(call, EPERM);
    program.refuse_call(SYS_openat2, ENOSYS);
  }
  for (const Condition& condition : conditions(own, no_writing))
    program.refuse_if(condition);
  return program.finish();
}

} // namespace rbee

#endif
