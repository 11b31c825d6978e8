// What the stress test knows of every request, and what it expects of its events.
#pragma once

#include "events.h"
#include "request.h"
#include "requests_stress.h"

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace rbee::stress {

// Counts over the whole run.
struct Totals {
  std::mutex mutex;
  std::map<std::string, uint64_t> outcomes; // by stop reason, or what else became of a request
  uint64_t tokens = 0;
  int failures = 0;

  void count(const std::string& outcome);
  // Says on stderr what is wrong.
  void fail(const std::string& what);
};

// The requests of one engine from announcement to ending. May be called from any thread.
class Ledger {
 public:
  explicit Ledger(Totals& totals) : totals_(totals) {}

  // Waits until fewer than `limit` requests are open, then opens one. 0 when `stop` was called.
  Handle open(int limit);
  // A request was prepared and is about to be submitted.
  void prepared(const Request& request, const RequestOptions& options);
  // A request was never submitted.
  void refused(Handle handle);
  // Checks a batch of events and closes what ended.
  void take(const std::vector<Event>& events);

  // A handle that was announced: an open one, where there is one.
  Handle any(Random& random) const;
  // Whether a request is open that has neither stop strings nor a grammar.
  bool is_plain(Handle handle) const;
  // `open` gives no more handles.
  void stop();
  void resume();
  // Waits until no request is open; false when that takes so long that it never will.
  bool drained();
  // Nothing may be open any more.
  void expect_none_open();

  // Whether requests may be refused for want of a slot.
  std::atomic<bool> may_be_busy{false};

 private:
  struct Entry {
    RequestOptions options;
    int prompt_tokens = 0;
    int max_tokens = 0;
    int tokens = 0;
    std::string text;
    bool prepared = false;
  };

  void check_token(const Entry& entry, const GeneratedToken& token);
  void check_ending(const Entry& entry, const Ending& ending);
  void expect(bool ok, const std::string& what);

  Totals& totals_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::unordered_map<Handle, Entry> open_;
  Handle last_ = 0;
  bool stopped_ = false;
};

} // namespace rbee::stress
