// One function on all threads of the process, those of other people's libraries included.
#pragma once

namespace rbee {

// Runs `work` once on every thread, the caller's first, and waits for it. Elsewhere than on the caller's
// thread it runs in a signal handler: it may only do what signal-safety(7) allows. A thread that starts
// meanwhile is covered too, though its creator may have run `work` before it. Returns false when a thread did
// not get to it in time, or on other systems than Linux, where only the caller's thread ran it. One call at a
// time.
bool on_every_thread(void (*work)(void* context), void* context);

} // namespace rbee
