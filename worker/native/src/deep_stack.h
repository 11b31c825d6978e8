// Work that follows a stranger's input by recursion, on a stack that holds as much of it as a budget lets it
// make.
#pragma once

#include <exception>
#include <functional>

namespace rbee {

// Runs `work` on a thread of its own with a stack of 256 MiB, of which only what is used becomes memory, and
// waits for it. Throws what it throws, and std::system_error where no thread can be had. Costs some 30 µs.
void on_deep_stack(const std::function<void()>& work);

} // namespace rbee
