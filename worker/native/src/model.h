// One model in memory: weights, vocabulary, chat template. Immutable once loaded, so safe to read from any
// thread.
#pragma once

#include "chat.h"
#include "llama-cpp.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace rbee {

struct ModelOptions {
  std::string path;
  std::string backend = "cpu";
  int device = 0; // index within the backend
};

// Layers and bytes in memory so far, while loading.
struct LoadProgress {
  int layers_loaded;
  int layers_total;
  double bytes_loaded;
};

struct ChatTurn {
  std::string role;
  std::string content;
};

class Model {
 public:
  // Loads; takes as long as reading the file does. `progress` is called from this thread, at most once a
  // percent; setting `cancel` ends the load. Throws EngineError: INVALID_MODEL, BACKEND_UNAVAILABLE,
  // DEVICE_NOT_FOUND, REQUEST_CANCELED.
  Model(const ModelOptions& options, const std::function<void(LoadProgress)>& progress,
        const std::atomic<bool>& cancel);

  const llama_model* get() const { return model_.get(); }
  llama_model* get() { return model_.get(); }
  const llama_vocab* vocab() const { return llama_model_get_vocab(model_.get()); }

  // Whether the file itself brings a chat template.
  bool has_chat_template() const { return templates_ != nullptr; }
  bool recurrent() const;
  bool on_gpu() const { return on_gpu_; }

  std::string description() const;
  std::string metadata(const char* key) const;

  std::vector<llama_token> tokenize(const std::string& text, bool add_special, bool parse_special) const;
  std::string detokenize(const std::vector<llama_token>& tokens) const;

  // The bytes of one token as an answer shows them; maybe no whole UTF-8 character.
  std::string piece(llama_token token) const;

  // A conversation as the model's own template renders it, up to where the assistant speaks. Throws
  // INVALID_REQUEST when the template refuses the conversation or the file has none.
  std::string render_chat(const std::vector<ChatTurn>& turns) const;

 private:
  void load_chat_template();

  bool on_gpu_;
  llama_model_ptr model_;
  common_chat_templates_ptr templates_;
};

} // namespace rbee
