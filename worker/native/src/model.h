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
  int device = 0;            // index within the backend
  std::string chat_template; // instead of the file's own: Jinja, or a name that llama.cpp knows; empty: none
};

// Layers and bytes in memory so far, while loading.
struct LoadProgress {
  int layers_loaded;
  int layers_total;
  double bytes_loaded;
};

// How a ranking model is given a query and a document: by a text that names both as `{query}` and
// `{document}`, or, where that is empty, by tokens around theirs.
struct PairFormat {
  std::string text;
  std::vector<llama_token> before;
  std::vector<llama_token> between;
  std::vector<llama_token> after;
};

class Model {
 public:
  // Loads; takes as long as reading the file does. `progress` is called from this thread, at most once a
  // percent; setting `cancel` ends the load. Throws EngineError: INVALID_MODEL, BACKEND_UNAVAILABLE,
  // DEVICE_NOT_FOUND, REQUEST_CANCELED.
  Model(const ModelOptions& options, const std::function<void(LoadProgress)>& progress,
        const std::atomic<bool>& cancel);
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const llama_model* get() const { return model_.get(); }
  llama_model* get() { return model_.get(); }
  const llama_vocab* vocab() const { return llama_model_get_vocab(model_.get()); }

  // Whether a chat template came with the file or the options; otherwise ChatML stands in.
  bool has_chat_template() const { return has_template_; }
  // False for a template of llama.cpp's own that it only knows by name.
  bool has_jinja_template() const { return jinja_; }
  const common_chat_templates* templates() const { return templates_.get(); }
  bool recurrent() const;
  // Whether it cannot continue text, because its tokens attend to those behind them.
  bool only_embeds() const;
  bool on_gpu() const { return on_gpu_; }

  PairFormat pair_format() const;
  std::string description() const;
  std::string metadata(const char* key) const;

  std::vector<llama_token> tokenize(const std::string& text, bool add_special, bool parse_special) const;
  std::string detokenize(const std::vector<llama_token>& tokens) const;

  // The bytes of one token as an answer shows them, those of a special token only with `special`; maybe no
  // whole UTF-8 character.
  std::string piece(llama_token token, bool special = false) const;

 private:
  void load_chat_template(const std::string& instead);
  void free_templates();

  bool on_gpu_;
  llama_model_ptr model_;
  common_chat_templates_ptr templates_;
  bool has_template_ = false;
  bool jinja_ = true;
};

} // namespace rbee
