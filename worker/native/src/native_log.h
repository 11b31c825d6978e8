// llama.cpp's log. Its logger is one per process, so this is as well.
#pragma once

#include <string>

namespace rbee {

// Sends llama.cpp's warnings and errors to stderr and drops the rest. A model file has a say in them: each is
// one printable line of bounded length. Idempotent, not thread-safe: call it
// first.
void install_log();

// Forgets the error lines collected so far on this thread.
void clear_log_errors();

// The error lines that llama.cpp wrote on this thread since the last clear, joined by "; ".
std::string log_errors();

// Writes a line of our own to stderr, printable and of bounded length whatever is in it.
void log_line(const std::string& text);

// While muted, what llama.cpp writes on this thread is dropped: a step that was aborted on purpose is no
// error.
void mute_log(bool muted);

} // namespace rbee
