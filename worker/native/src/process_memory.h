// What this process holds for itself alone.
#pragma once

#include <cstddef>

namespace rbee {

// Bytes that no file stands behind: what would be free if the process ended, without pages of mapped files.
// Source: resident less shared pages of proc_pid_statm(5); the physical footprint on macOS. 0 where the
// system does not tell.
size_t private_bytes();

// Makes what is freed in large pieces the system's again. Left alone, glibc raises the size from which it
// does so up to 32 MB (mallopt(3), M_MMAP_THRESHOLD), and keeps the rest of every large request.
void return_freed_memory();

} // namespace rbee
