#include "events.h"

#include <utility>

namespace rbee {

void EventQueue::push_token(Handle handle, GeneratedToken token, bool first, std::optional<Mark> mark) {
  std::unique_lock<std::mutex> lock(mutex_);
  Event& event = event_of(handle);
  event.tokens.push_back(std::move(token));
  if (mark) {
    event.mark = std::move(mark);
    event.marked = event.tokens.size();
  }
  wake_if(first, lock);
}

void EventQueue::push_ending(Handle handle, Ending ending) {
  std::unique_lock<std::mutex> lock(mutex_);
  event_of(handle).ending = std::move(ending);
  wake_if(true, lock);
}

void EventQueue::flush() {
  std::unique_lock<std::mutex> lock(mutex_);
  if (!events_.empty()) {
    wake_if(true, lock);
  }
}

std::vector<Event> EventQueue::take() {
  const std::lock_guard<std::mutex> lock(mutex_);
  waking_ = false;
  return std::exchange(events_, {});
}

Event& EventQueue::event_of(Handle handle) {
  for (Event& event : events_) {
    if (event.handle == handle) {
      return event;
    }
  }
  return events_.emplace_back(Event{handle, {}, 0, {}, {}});
}

void EventQueue::wake_if(bool urgent, std::unique_lock<std::mutex>& lock) {
  const Clock::time_point now = Clock::now();
  if (waking_ || (!urgent && now - last_wake_ < gather_time)) {
    return;
  }
  waking_ = true;
  last_wake_ = now;
  lock.unlock();
  try {
    wake_();
  } catch (...) {
    // Whoever was not woken takes no batch, so the next news has to wake again.
    lock.lock();
    waking_ = false;
    throw;
  }
}

} // namespace rbee
