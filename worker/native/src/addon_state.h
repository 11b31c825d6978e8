// What one JavaScript `Engine` object and the work it started share; lives as long as any of them.
#pragma once

#include "embedder.h"
#include "engine.h"
#include "errors.h"
#include "preparation_pool.h"

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
  std::unique_ptr<PreparationPool> preparations; // set by the constructor; uses the engine, so goes before it

  // Of whichever was loaded; null before.
  const Model* model() const {
    if (const Engine* loaded = ready) return &loaded->model();
    const Embedder* loaded = embedder_ready;
    return loaded != nullptr ? &loaded->model() : nullptr;
  }

  // Of whichever was loaded.
  int context() const {
    const Engine* loaded = ready;
    return loaded != nullptr ? loaded->context() : embedder_ready.load()->context();
  }

  // Ends everything that runs and waits for it. Returns true for the first call.
  bool close() {
    cancel_load = true;
    const std::lock_guard<std::mutex> lock(life);
    const bool first = !closed;
    closed = true;
    // First what hands requests to the engine, then the engine.
    preparations->close();
    if (engine) engine->close();
    return first;
  }
};

using StatePtr = std::shared_ptr<State>;

} // namespace rbee
