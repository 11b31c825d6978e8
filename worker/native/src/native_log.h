// llama.cpp's log. Its logger is one per process, so this is as well.
#pragma once

#include <string>

namespace rbee {

// Sends llama.cpp's warnings and errors to stderr and drops the rest. Idempotent, not thread-safe: call it
// first.
void install_log();

// Forgets the error lines collected so far on this thread.
void clear_log_errors();

// The error lines that llama.cpp wrote on this thread since the last clear, joined by "; ".
std::string log_errors();

// While muted, what llama.cpp writes on this thread is dropped: a step that was aborted on purpose is no
// error.
void mute_log(bool muted);

} // namespace rbee
