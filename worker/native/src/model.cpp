#include "model.h"

#include "abort_guard.h"
#include "bounded.h"
#include "budget_error.h"
#include "common.h"
#include "devices.h"
#include "errors.h"
#include "model_check.h"
#include "native_log.h"
#include "regex_split.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <system_error>
#include <vector>

namespace rbee {

namespace {

// For parsing a chat template and trying it out, which llama.cpp does with some forty short conversations.
constexpr std::chrono::milliseconds template_cpu_time{1500};
constexpr size_t max_template_bytes = 256 * 1024;
constexpr ptrdiff_t template_bytes = 64 * 1024 * 1024; // of memory

// A text of 1 MB takes less than a second, and about 100 bytes for each of its own.
constexpr std::chrono::seconds tokenize_cpu_time{60};
constexpr ptrdiff_t tokenize_bytes = 64 * 1024 * 1024;
constexpr ptrdiff_t tokenize_bytes_per_byte = 512;

ggml_backend_dev_t find_device(const ModelOptions& options) {
  bool backend_exists = false;
  for (const Device& device : list_devices()) {
    if (device.backend != options.backend) {
      continue;
    }
    backend_exists = true;
    if (device.index == options.device) {
      return device.handle;
    }
  }
  if (!backend_exists) {
    throw EngineError("BACKEND_UNAVAILABLE", "This build has no device of backend " + options.backend + ".");
  }
  throw EngineError("DEVICE_NOT_FOUND",
                    "Backend " + options.backend + " has no device " + std::to_string(options.device) + ".");
}

struct ProgressState {
  const std::function<void(LoadProgress)>& report;
  const std::atomic<bool>& cancel;
  int layers;
  double bytes;
  int last_percent = -1;
};

bool on_progress(float fraction, void* user_data) {
  auto& state = *static_cast<ProgressState*>(user_data);
  const int percent = static_cast<int>(fraction * 100);
  if (percent != state.last_percent) {
    state.last_percent = percent;
    state.report(
        {static_cast<int>(std::lround(fraction * state.layers)), state.layers, fraction * state.bytes});
  }
  return !state.cancel.load(std::memory_order_relaxed);
}

// Some templates are not Jinja but known to llama.cpp by name, as `llama3`; `chatml` is both.
bool is_known_template(const std::string& source) {
  if (source == "chatml") return false;
  std::vector<const char*> names(static_cast<size_t>(llama_chat_builtin_templates(nullptr, 0)));
  llama_chat_builtin_templates(names.data(), names.size());
  return std::any_of(names.begin(), names.end(), [&source](const char* name) { return source == name; });
}

EngineError has_no_token() {
  return {"INVALID_REQUEST", "The model's vocabulary has no token for a part of the text."};
}

double file_bytes(const std::string& path) {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (!file || std::fseek(file.get(), 0, SEEK_END) != 0) {
    throw EngineError("INVALID_MODEL", "Cannot open model file " + path + ".");
  }
  return static_cast<double>(std::ftell(file.get()));
}

} // namespace

Model::Model(const ModelOptions& options, const std::function<void(LoadProgress)>& progress,
             const std::atomic<bool>& cancel)
    : on_gpu_(options.backend != "cpu") {
  clear_log_errors();
  const AbortGuard guard;
  const double bytes = file_bytes(options.path);
  ProgressState state{progress, cancel, check_model_file(options.path), bytes};

  llama_model_params params = llama_model_default_params();
  ggml_backend_dev_t devices[2] = {nullptr, nullptr};
  ggml_backend_dev_t device = find_device(options);
  // An empty list keeps everything on the CPU, whatever else this build could use.
  devices[0] = on_gpu_ ? device : nullptr;
  params.devices = devices;
  params.n_gpu_layers = on_gpu_ ? -1 : 0;
  params.split_mode = LLAMA_SPLIT_MODE_NONE;
  params.progress_callback = on_progress;
  params.progress_callback_user_data = &state;

  model_.reset(llama_model_load_from_file(options.path.c_str(), params));
  if (cancel.load()) {
    throw EngineError("REQUEST_CANCELED", "Loading was canceled.");
  }
  if (!model_) {
    const std::string why = log_errors();
    throw EngineError("INVALID_MODEL",
                      "Model file " + options.path + " cannot be loaded" + (why.empty() ? "." : ": " + why));
  }
  if (llama_vocab_n_tokens(vocab()) <= 0) {
    throw EngineError("INVALID_MODEL", "Model file " + options.path + " has no vocabulary.");
  }
  try {
    tokenize("The 3 bees: caf\xC3\xA9 \xF0\x9F\x90\x9D\n", true, true);
  } catch (const std::exception& error) {
    throw EngineError("INVALID_MODEL", "The vocabulary of " + options.path + " has gaps: " + error.what());
  }
  load_chat_template(options.chat_template);
}

// A model whose template cannot be parsed still continues raw text.
void Model::load_chat_template(const std::string& instead) {
  const char* own = llama_model_chat_template(model_.get(), nullptr);
  std::string source = !instead.empty() ? instead : own != nullptr ? own : "";
  jinja_ = !is_known_template(source);
  if (jinja_ && source.size() > max_template_bytes) {
    if (!instead.empty()) {
      throw EngineError("INVALID_REQUEST", "The chat template is too large.");
    }
    log_line("the chat template is not used: it is too large");
    source.clear();
  }
  has_template_ = !source.empty();
  // Without any, llama.cpp's own ChatML.
  if (source.empty()) source = "chatml";
  try {
    // Parsing runs the template to learn what it can, and a template is a program that need not end.
    bounded("The chat template", {template_cpu_time, template_bytes},
            [this, &source] { templates_ = common_chat_templates_init(model_.get(), source); });
  } catch (const std::exception& error) {
    free_templates();
    if (!instead.empty()) {
      throw EngineError("INVALID_REQUEST", std::string("The chat template cannot be used: ") + error.what());
    }
    log_line(std::string("the chat template is not used: ") + error.what());
    has_template_ = false;
    templates_ = common_chat_templates_init(model_.get(), "chatml");
  }
}

Model::~Model() {
  free_templates();
}

// They are trees, freed by recursion.
void Model::free_templates() {
  if (!templates_) return;
  try {
    on_deep_stack([this] { templates_.reset(); });
  } catch (const std::system_error&) {
    static_cast<void>(templates_.release()); // rather than on a stack that may be too small
  }
}

bool Model::only_embeds() const {
  return metadata((metadata("general.architecture") + ".attention.causal").c_str()) == "false";
}

bool Model::recurrent() const {
  return llama_model_is_recurrent(model_.get()) || llama_model_is_hybrid(model_.get());
}

PairFormat Model::pair_format() const {
  PairFormat pair;
  if (const char* text = llama_model_chat_template(model_.get(), "rerank")) {
    pair.text = text;
    return pair;
  }
  const llama_token end =
      llama_vocab_eos(vocab()) != LLAMA_TOKEN_NULL ? llama_vocab_eos(vocab()) : llama_vocab_sep(vocab());
  if (llama_vocab_get_add_bos(vocab())) pair.before.push_back(llama_vocab_bos(vocab()));
  if (llama_vocab_get_add_eos(vocab())) {
    pair.between.push_back(end);
    pair.after.push_back(end);
  }
  if (llama_vocab_get_add_sep(vocab())) pair.between.push_back(llama_vocab_sep(vocab()));
  return pair;
}

std::string Model::description() const {
  char text[256] = {};
  llama_model_desc(model_.get(), text, sizeof(text));
  return text;
}

std::string Model::metadata(const char* key) const {
  char text[256] = {};
  llama_model_meta_val_str(model_.get(), key, text, sizeof(text));
  return text;
}

std::vector<llama_token> Model::tokenize(const std::string& text, bool add_special,
                                         bool parse_special) const {
  std::vector<llama_token> tokens;
  Spent spent = Spent::nothing;
  try {
    // What the vocabulary of a strange file makes of a text may have no end.
    Budget budget(
        {tokenize_cpu_time, tokenize_bytes + tokenize_bytes_per_byte * static_cast<ptrdiff_t>(text.size())});
    try {
      tokens = common_tokenize(vocab(), text, add_special, parse_special);
    } catch (const BudgetExhausted&) {
      spent = budget.spent();
    }
  } catch (const TextTooHard& error) {
    throw EngineError("INVALID_REQUEST", error.what());
  } catch (const std::out_of_range&) {
    throw has_no_token();
  }
  if (spent != Spent::nothing) throw budget_error("Tokenising the text", spent);
  const llama_token count = llama_vocab_n_tokens(vocab());
  const bool known = std::all_of(tokens.begin(), tokens.end(),
                                 [count](llama_token token) { return token >= 0 && token < count; });
  if (!known) throw has_no_token();
  return tokens;
}

std::string Model::detokenize(const std::vector<llama_token>& tokens) const {
  return common_detokenize(vocab(), tokens, /*special=*/true);
}

std::string Model::piece(llama_token token, bool special) const {
  return common_token_to_piece(vocab(), token, special);
}

} // namespace rbee
