// The N-API side: one class, `Engine`, and `devices()`. Everything that can take long runs on another thread
// and answers with a promise; events come through one thread-safe function. Declared in
// worker/native/addon.ts.
#include "addon_chat.h"
#include "addon_convert.h"
#include "addon_sandbox.h"
#include "addon_sequence.h"
#include "addon_submit.h"
#include "addon_text.h"
#include "addon_work.h"
#include "devices.h"
#include "native_log.h"
#include "process_memory.h"

#include <napi.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace rbee {

namespace {

// Delivers one batch. Runs on the JavaScript thread; without an environment the process is going down.
void deliver(Napi::Env env, Napi::Function callback, State* state, void* /*data*/) {
  Engine* engine = state->ready;
  if (env == nullptr || engine == nullptr) {
    return;
  }
  guarded(env, [&] {
    const std::vector<Event> events = engine->take_events();
    Napi::Array batch = Napi::Array::New(env, events.size());
    for (uint32_t i = 0; i < events.size(); i++) {
      batch.Set(i, to_js(env, events[i]));
    }
    callback.Call({batch});
  });
}

// Settles the promise of what was prepared.
void deliver_prepared(Napi::Env env, Napi::Function /*callback*/, State* /*state*/, PreparedWork* prepared) {
  const std::unique_ptr<PreparedWork> work(prepared);
  if (env != nullptr) guarded(env, [&] { work->settle(); });
}

using EventFunction = Napi::TypedThreadSafeFunction<State, void, deliver>;
using PreparedFunction = Napi::TypedThreadSafeFunction<State, PreparedWork, deliver_prepared>;

class LoadWork : public PromiseWork {
 public:
  LoadWork(Napi::Env env, StatePtr state, EventFunction events, Napi::ThreadSafeFunction progress,
           ModelOptions model, EngineOptions engine, EmbedderOptions embedder)
      : PromiseWork(env), state_(std::move(state)), events_(std::move(events)),
        progress_(std::move(progress)), model_(std::move(model)), options_(std::move(engine)),
        embedder_options_(std::move(embedder)) {}

 protected:
  void work() override {
    const std::lock_guard<std::mutex> lock(state_->life);
    if (state_->closed) {
      throw EngineError("REQUEST_CANCELED", "Loading was canceled.");
    }
    const auto report = [this](LoadProgress progress) {
      progress_.NonBlockingCall([progress](Napi::Env env, Napi::Function callback) {
        if (env != nullptr) {
          callback.Call({to_js(env, progress)});
        }
      });
    };
    auto model = std::make_unique<Model>(model_, report, state_->cancel_load);
    if (embedder_options_.wanted || model->only_embeds()) {
      state_->embedder = std::make_unique<Embedder>(std::move(model), embedder_options_);
      state_->embedder_ready = state_->embedder.get();
      return;
    }
    std::unique_ptr<Model> draft_model;
    if (!options_.draft_model.empty()) {
      ModelOptions draft = model_;
      draft.path = options_.draft_model;
      draft.chat_template.clear();
      draft_model = std::make_unique<Model>(
          draft, [](LoadProgress) {}, state_->cancel_load);
      if (draft_model->only_embeds()) {
        throw EngineError("INVALID_MODEL", "The draft model makes embeddings; it cannot continue text.");
      }
    }
    state_->engine = std::make_unique<Engine>(std::move(model), std::move(draft_model), options_,
                                              [events = events_] { events.NonBlockingCall(); });
    state_->ready = state_->engine.get();
  }

  void settled() override { progress_.Release(); }

  Napi::Value result(Napi::Env env) override {
    return state_->engine ? facts_to_js(env, *state_->engine) : facts_to_js(env, *state_->embedder);
  }

 private:
  StatePtr state_;
  EventFunction events_;
  Napi::ThreadSafeFunction progress_;
  ModelOptions model_;
  EngineOptions options_;
  EmbedderOptions embedder_options_;
};

class CloseWork : public PromiseWork {
 public:
  CloseWork(Napi::Env env, StatePtr state, EventFunction events, PreparedFunction prepared)
      : PromiseWork(env), state_(std::move(state)), events_(std::move(events)),
        prepared_(std::move(prepared)) {}

 protected:
  void work() override { first_ = state_->close(); }

  // Only now is nobody left who could call them. What is queued is still delivered.
  void settled() override {
    if (!first_) return;
    events_.Release();
    prepared_.Release();
  }

  Napi::Value result(Napi::Env env) override { return env.Undefined(); }

 private:
  StatePtr state_;
  EventFunction events_;
  PreparedFunction prepared_;
  bool first_ = false;
};

} // namespace

class EngineWrap : public Napi::ObjectWrap<EngineWrap> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Engine",
                       {
                           InstanceMethod("load", &EngineWrap::load),
                           InstanceMethod("cancelLoad", &EngineWrap::cancel_load),
                           InstanceMethod("submit", &EngineWrap::submit),
                           InstanceMethod("cancel", &EngineWrap::cancel),
                           InstanceMethod("exportSequence", &EngineWrap::export_sequence),
                           InstanceMethod("heldBlocks", &EngineWrap::held_blocks),
                           InstanceMethod("times", &EngineWrap::times),
                           InstanceMethod("heartbeat", &EngineWrap::heartbeat),
                           InstanceMethod("tokenize", &EngineWrap::tokenize),
                           InstanceMethod("piece", &EngineWrap::piece),
                           InstanceMethod("detokenize", &EngineWrap::detokenize),
                           InstanceMethod("renderChat", &EngineWrap::render_chat),
                           InstanceMethod("embed", &EngineWrap::embed),
                           InstanceMethod("memory", &EngineWrap::memory),
                           InstanceMethod("close", &EngineWrap::close),
                       });
  }

  explicit EngineWrap(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<EngineWrap>(info), state_(std::make_shared<State>()) {
    guarded(info.Env(), [&] {
      if (!info[0].IsFunction()) {
        throw Napi::TypeError::New(info.Env(), "Engine needs a function that takes its events.");
      }
      // The finalizers keep the state alive until the last event was delivered or dropped.
      const auto let_go = [](Napi::Env, StatePtr* kept, State*) {
        const std::unique_ptr<StatePtr> gone(kept);
      };
      events_ = EventFunction::New(info.Env(), info[0].As<Napi::Function>(), "rbee events", 0, 1,
                                   state_.get(), let_go, std::make_unique<StatePtr>(state_).release());
      prepared_ = PreparedFunction::New(info.Env(), "rbee prepared", 0, 1, state_.get(), let_go,
                                        std::make_unique<StatePtr>(state_).release());
      state_->preparations =
          std::make_unique<PreparationPool>([prepared = prepared_](std::unique_ptr<Preparation> done) {
            std::unique_ptr<PreparedWork> work(static_cast<PreparedWork*>(done.release()));
            if (prepared.NonBlockingCall(work.get()) == napi_ok) work.release();
          });
      // Where nobody closes it, the environment does: threads must not outlive what they call.
      info.Env().AddCleanupHook(
          [](std::weak_ptr<State>* kept) {
            const std::unique_ptr<std::weak_ptr<State>> gone(kept);
            if (const StatePtr state = gone->lock()) state->close();
          },
          std::make_unique<std::weak_ptr<State>>(state_).release());
    });
  }

 private:
  Napi::Value load(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      if (loading_) {
        throw EngineError("INTERNAL", "load() was called before.");
      }
      const Napi::Object object = read_object(info[0], "options");
      ModelOptions model = read_model_options(object);
      EngineOptions options = read_engine_options(object);
      EmbedderOptions embedder = read_embedder_options(object);
      if (!info[1].IsFunction()) {
        throw EngineError("INVALID_REQUEST", "onProgress must be a function.");
      }
      auto progress =
          Napi::ThreadSafeFunction::New(info.Env(), info[1].As<Napi::Function>(), "rbee progress", 0, 1);
      loading_ = true;
      return PromiseWork::start(std::make_unique<LoadWork>(
          info.Env(), state_, events_, progress, std::move(model), std::move(options), std::move(embedder)));
    });
  }

  void cancel_load(const Napi::CallbackInfo& /*info*/) { state_->cancel_load = true; }

  Napi::Value submit(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      engine();
      const auto handle = info[0].ToNumber().Uint32Value();
      return start_submit(info.Env(), state_, handle, read_request(read_object(info[1], "request")));
    });
  }

  Napi::Value cancel(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const auto handle = info[0].ToNumber().Uint32Value();
      const auto reason =
          info[1].ToString().Utf8Value() == "deadline" ? StopReason::deadline : StopReason::canceled;
      bool known = state_->preparations->cancel(handle, reason);
      if (Engine* engine = state_->ready) known = engine->cancel(handle, reason) || known;
      return Napi::Boolean::New(info.Env(), known);
    });
  }

  Napi::Value export_sequence(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      engine();
      const auto handle = info[0].ToNumber().Uint32Value();
      return start_export(info.Env(), state_, handle, {info[1].ToBoolean(), info[2].ToBoolean()});
    });
  }

  Napi::Value held_blocks(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      engine();
      return start_look(info.Env(), state_);
    });
  }

  Napi::Value times(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] { return to_js(info.Env(), engine().times()); });
  }

  Napi::Value heartbeat(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      if (const Embedder* embedder = state_->embedder_ready) {
        return to_js(info.Env(), embedder->heartbeat(), {});
      }
      return to_js(info.Env(), engine().heartbeat(), engine().failure());
    });
  }

  Napi::Value tokenize(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      model();
      if (!info[1].IsString()) {
        throw EngineError("INVALID_REQUEST", "text must be a string.");
      }
      const Tokenizing what{info[1].As<Napi::String>(), info[2].ToBoolean(), info[3].ToBoolean(),
                            info[4].ToNumber().Int32Value()};
      return start_tokenizing(info.Env(), state_, info[0].ToNumber().Uint32Value(), what);
    });
  }

  Napi::Value piece(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const auto token = static_cast<llama_token>(info[0].ToNumber().Int32Value());
      check_tokens({token}, llama_vocab_n_tokens(model().vocab()));
      const std::string bytes = model().piece(token, /*special=*/true);
      return Napi::Buffer<char>::Copy(info.Env(), bytes.data(), bytes.size());
    });
  }

  Napi::Value detokenize(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const Model& loaded = model();
      std::vector<llama_token> tokens = read_tokens(info[1], "tokens");
      check_tokens(tokens, llama_vocab_n_tokens(loaded.vocab()));
      return start_detokenizing(info.Env(), state_, info[0].ToNumber().Uint32Value(), std::move(tokens));
    });
  }

  Napi::Value render_chat(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      model();
      if (!info[1].IsString()) {
        throw EngineError("INVALID_REQUEST", "request must be a string.");
      }
      return start_rendering(info.Env(), state_, info[0].ToNumber().Uint32Value(),
                             info[1].As<Napi::String>());
    });
  }

  Napi::Value embed(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const Model& loaded = model();
      if (state_->embedder_ready == nullptr) {
        throw EngineError("INVALID_REQUEST", "This model was not loaded for embeddings.");
      }
      return start_embedding(info.Env(), state_, read_texts(info[0], llama_vocab_n_tokens(loaded.vocab())));
    });
  }

  Napi::Value memory(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const Embedder* embedder = state_->embedder_ready;
      return to_js(info.Env(), embedder != nullptr && !closed_ ? embedder->memory() : engine().memory());
    });
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      state_->cancel_load = true;
      closed_ = true;
      return PromiseWork::start(std::make_unique<CloseWork>(info.Env(), state_, events_, prepared_));
    });
  }

  Engine& engine() const {
    Engine* engine = state_->ready;
    if (engine == nullptr || closed_) {
      throw EngineError("NOT_READY", "The model is not loaded.");
    }
    return *engine;
  }

  const Model& model() const {
    const Model* model = state_->model();
    if (model == nullptr || closed_) {
      throw EngineError("NOT_READY", "The model is not loaded.");
    }
    return *model;
  }

  StatePtr state_;
  EventFunction events_;
  PreparedFunction prepared_;
  bool loading_ = false;
  bool closed_ = false;
};

} // namespace rbee

static Napi::Value list_devices_for_js(const Napi::CallbackInfo& info) {
  return rbee::guarded(info.Env(), [&] {
    const auto devices = rbee::list_devices();
    Napi::Array array = Napi::Array::New(info.Env(), devices.size());
    for (uint32_t i = 0; i < devices.size(); i++) {
      array.Set(i, rbee::to_js(info.Env(), devices[i]));
    }
    return array;
  });
}

static Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  return rbee::guarded(env, [&] {
    rbee::return_freed_memory();
    rbee::install_log();
    rbee::load_backends();
    exports.Set("Engine", rbee::EngineWrap::define(env));
    exports.Set("ChatParser", rbee::define_chat_parser(env));
    exports.Set("llamaVersion", llama_version());
    exports.Set("devices", Napi::Function::New(env, list_devices_for_js));
    rbee::define_sandbox(env, exports);
    return exports;
  });
}

NODE_API_MODULE(rbee_engine, initialise)
