// How the N-API side runs the engine's work: errors become JavaScript's, what takes long becomes a promise.
#pragma once

#include "addon_convert.h"
#include "addon_state.h"
#include "errors.h"
#include "preparation_pool.h"
#include "tokenizing.h"

#include <napi.h>

#include <memory>
#include <optional>

namespace rbee {

// What is being thrown, as an error of the engine. To be called in a handler only.
inline EngineError present_error() {
  try {
    throw;
  } catch (const EngineError& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return {"INSUFFICIENT_RAM", "Out of memory."};
  } catch (const std::exception& error) {
    return {"INTERNAL", error.what()};
  } catch (...) {
    return {"INTERNAL", "The engine threw a value that is not an exception."};
  }
}

// Turns whatever is thrown into what JavaScript throws: nothing else may leave a function that JavaScript
// calls.
template <typename Work>
auto guarded(Napi::Env env, Work work) {
  try {
    return work();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw Napi::Error(env, error_to_js(env, present_error()));
  }
}

// Work that settles a promise. Made and settled on the JavaScript thread.
class Promised {
 public:
  explicit Promised(Napi::Env env) : env_(env), deferred_(Napi::Promise::Deferred::New(env)) {}
  virtual ~Promised() = default;
  Promised(const Promised&) = delete;
  Promised& operator=(const Promised&) = delete;

  Napi::Promise promise() const { return deferred_.Promise(); }

  // On any thread.
  void attempt() noexcept {
    try {
      work();
    } catch (...) {
      fail(present_error());
    }
  }

  // On the JavaScript thread.
  void settle() {
    const Napi::HandleScope scope(env_);
    settled();
    if (!error_) {
      try {
        const Napi::Value value = result(env_);
        deferred_.Resolve(value);
        return;
      } catch (const Napi::Error& error) {
        deferred_.Reject(error.Value());
        return;
      } catch (...) {
        fail(present_error());
      }
    }
    deferred_.Reject(error_to_js(env_, *error_));
  }

 protected:
  virtual void work() = 0;
  virtual Napi::Value result(Napi::Env env) = 0;
  // Called before the promise settles, however the work went.
  virtual void settled() {}

 private:
  void fail(EngineError error) noexcept { error_.emplace(std::move(error)); }

  Napi::Env env_;
  Napi::Promise::Deferred deferred_;
  std::optional<EngineError> error_;
};

// For what waits rather than computes: on a thread of the runtime's pool.
class PromiseWork : public Promised {
 public:
  using Promised::Promised;

  static Napi::Promise start(std::unique_ptr<PromiseWork> work) {
    const Napi::Promise promise = work->promise();
    const Napi::Env env = work->promise().Env();
    std::make_unique<Runner>(env, std::move(work)).release()->Queue();
    return promise;
  }

 private:
  // Deletes itself when done, as every Napi::AsyncWorker.
  class Runner : public Napi::AsyncWorker {
   public:
    Runner(Napi::Env env, std::unique_ptr<PromiseWork> work)
        : Napi::AsyncWorker(env), work_(std::move(work)) {}

   protected:
    void Execute() override { work_->attempt(); }
    void OnOK() override { work_->settle(); }

   private:
    std::unique_ptr<PromiseWork> work_;
  };
};

// For what computes on what a request brings: on a thread of the engine's own pool, where it can be canceled.
class PreparedWork : public Promised, public Preparation {
 public:
  PreparedWork(Napi::Env env, Handle handle, size_t bytes,
               std::shared_ptr<CancelFlag> cancel = std::make_shared<CancelFlag>(StopReason::none))
      : Promised(env), Preparation(handle, bytes, std::move(cancel)) {}

  static Napi::Promise start(State& state, std::unique_ptr<PreparedWork> work) {
    const Napi::Promise promise = work->promise();
    state.preparations->add(std::move(work));
    return promise;
  }

  // On the JavaScript thread, for what takes less time than waking another thread does.
  static Napi::Promise run_here(std::unique_ptr<PreparedWork> work) {
    work->run();
    work->settle();
    return work->promise();
  }

  void run() noexcept override {
    const TokenizingCancel scope(*cancel);
    attempt();
  }

 protected:
  void work() final {
    try {
      if (cancel->load() == StopReason::none) prepare();
    } catch (...) {
      if (cancel->load() == StopReason::none) throw;
    }
    if (const StopReason reason = cancel->load(); reason != StopReason::none) canceled(reason);
  }

  virtual void prepare() = 0;
  // Its caller has left, before or after it was prepared.
  virtual void canceled(StopReason /*reason*/) {
    throw EngineError("REQUEST_CANCELED", "The request was canceled.");
  }
};

} // namespace rbee
