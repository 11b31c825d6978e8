// How the N-API side runs the engine's work: errors become JavaScript's, what takes long becomes a promise.
#pragma once

#include "addon_convert.h"
#include "errors.h"

#include <napi.h>

#include <optional>

namespace rbee {

// Turns what the engine throws into what JavaScript throws.
template <typename Work>
auto guarded(Napi::Env env, Work work) {
  try {
    return work();
  } catch (const EngineError& error) {
    throw Napi::Error(env, error_to_js(env, error));
  } catch (const std::bad_alloc&) {
    throw Napi::Error(env, error_to_js(env, {"INSUFFICIENT_RAM", "Out of memory."}));
  }
}

// Work on a pool thread that settles a promise. Deletes itself when done, as every Napi::AsyncWorker.
class PromiseWork : public Napi::AsyncWorker {
 public:
  explicit PromiseWork(Napi::Env env)
      : Napi::AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)) {}

  // On a pool thread; gives up ownership of itself.
  Napi::Promise start() {
    const Napi::Promise promise = deferred_.Promise();
    Queue();
    return promise;
  }

  // On the JavaScript thread, for what takes less time than waking another thread does.
  Napi::Promise run_here() {
    Execute();
    OnOK();
    return deferred_.Promise();
  }

 protected:
  virtual void work() = 0;
  virtual Napi::Value result(Napi::Env env) = 0;
  // Called on the JavaScript thread before the promise settles, however the work went.
  virtual void settled() {}

  void Execute() override {
    try {
      work();
    } catch (const EngineError& error) {
      error_ = error;
    } catch (const std::bad_alloc&) {
      error_ = EngineError("INSUFFICIENT_RAM", "Out of memory.");
    } catch (const std::exception& error) {
      error_ = EngineError("INTERNAL", error.what());
    }
  }

  void OnOK() override {
    settled();
    if (error_) {
      deferred_.Reject(error_to_js(Env(), *error_));
    } else {
      deferred_.Resolve(result(Env()));
    }
  }

 private:
  Napi::Promise::Deferred deferred_;
  std::optional<EngineError> error_;
};

} // namespace rbee
