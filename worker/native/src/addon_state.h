// What one JavaScript `Engine` object and the work it started share; lives as long as any of them.
#pragma once

#include "embedder.h"
#include "engine.h"
#include "errors.h"

#include <atomic>
#include <memory>
#include <mutex>

namespace rbee {

struct State {
  std::mutex life; // held while loading and while closing: one waits for the other
  bool closed = false;
  std::unique_ptr<Engine> engine; // set once, by the load; this one or the next
  std::unique_ptr<Embedder> embedder;
  std::atomic<Engine*> ready{nullptr}; // the same, once they may be used
  std::atomic<Embedder*> embedder_ready{nullptr};
  std::atomic<bool> cancel_load{false};

  // Of whichever was loaded; null before.
  const Model* model() const {
    if (const Engine* loaded = ready) return &loaded->model();
    const Embedder* loaded = embedder_ready;
    return loaded != nullptr ? &loaded->model() : nullptr;
  }
};

using StatePtr = std::shared_ptr<State>;

} // namespace rbee
