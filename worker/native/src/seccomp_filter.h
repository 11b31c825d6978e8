// Which system calls a confined process may still make: a program for the kernel's seccomp(2).
#pragma once

#include <vector>

#ifdef __linux__
#include <linux/filter.h>
#endif

namespace rbee {

#ifdef __linux__
// Refuses what nobody needs who only computes and answers on open sockets: programs and processes, other
// processes' memory, signals to them, new sockets, mounts, kernel settings, owners and modes of files. With
// `no_writing` also opening files for writing, and making, moving and removing them. `own` is the id of this
// process. What is refused fails with EPERM; clone3 and openat2, whose arguments a filter can't see, with
// ENOSYS, so that the C library takes the calls that came before them.
std::vector<sock_filter> seccomp_filter(unsigned own, bool no_writing);
#endif

} // namespace rbee
