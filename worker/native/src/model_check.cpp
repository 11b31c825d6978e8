#include "model_check.h"

#include "errors.h"
#include "gguf.h"

#include <cmath>
#include <cstring>
#include <memory>

namespace rbee {

namespace {

// As in llama.cpp; more is an assertion there.
constexpr uint32_t max_layers = 512;

struct GgufDeleter {
  void operator()(gguf_context* context) const { gguf_free(context); }
};
using Gguf = std::unique_ptr<gguf_context, GgufDeleter>;

EngineError invalid(const std::string& path, const std::string& why) {
  return {"INVALID_MODEL", "Model file " + path + " cannot be used: " + why + "."};
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

// Types without kernels that multiply by them.
bool can_multiply(ggml_type type) {
  switch (type) {
  case GGML_TYPE_I8:
  case GGML_TYPE_I16:
  case GGML_TYPE_I32:
  case GGML_TYPE_I64:
  case GGML_TYPE_F64:
  case GGML_TYPE_Q8_1:
  case GGML_TYPE_Q8_K:
    return false;
  default:
    return true;
  }
}

bool is_float(ggml_type type) {
  return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16;
}

void check_tensor(const std::string& path, const std::string& name, ggml_type type) {
  const bool is_norm = ends_with(name, "norm.weight");
  const bool is_matrix =
      name == "token_embd.weight" || name == "output.weight" ||
      (ends_with(name, ".weight") && (contains(name, ".attn_") || contains(name, ".ffn_down.") ||
                                      contains(name, ".ffn_up.") || contains(name, ".ffn_gate.")));
  if ((is_norm && !is_float(type)) || (is_matrix && !can_multiply(type))) {
    throw invalid(path, "tensor " + name + " is of type " + ggml_type_name(type) + ", which has no kernel");
  }
}

} // namespace

int check_model_file(const std::string& path) {
  const Gguf header(gguf_init_from_file(path.c_str(), {/*.no_alloc =*/true, /*.ctx =*/nullptr}));
  if (!header) throw invalid(path, "it is no GGUF file, or it is damaged");

  const int64_t architecture = gguf_find_key(header.get(), "general.architecture");
  if (architecture < 0 || gguf_get_kv_type(header.get(), architecture) != GGUF_TYPE_STRING) {
    throw invalid(path, "it names no architecture");
  }
  const std::string prefix = gguf_get_val_str(header.get(), architecture);
  const int64_t layers = gguf_find_key(header.get(), (prefix + ".block_count").c_str());
  if (layers < 0 || gguf_get_kv_type(header.get(), layers) != GGUF_TYPE_UINT32) {
    throw invalid(path, "it does not tell its number of layers");
  }
  const uint32_t count = gguf_get_val_u32(header.get(), layers);
  if (count == 0 || count > max_layers) throw invalid(path, "it claims " + std::to_string(count) + " layers");

  for (const char* key : {".attention.layer_norm_rms_epsilon", ".attention.layer_norm_epsilon"}) {
    const int64_t at = gguf_find_key(header.get(), (prefix + key).c_str());
    if (at < 0 || gguf_get_kv_type(header.get(), at) != GGUF_TYPE_FLOAT32) continue;
    const float epsilon = gguf_get_val_f32(header.get(), at);
    if (!std::isfinite(epsilon) || epsilon < 0)
      throw invalid(path, prefix + key + " is no small positive number");
  }
  for (int64_t i = 0; i < gguf_get_n_tensors(header.get()); i++) {
    check_tensor(path, gguf_get_tensor_name(header.get(), i), gguf_get_tensor_type(header.get(), i));
  }
  return static_cast<int>(count);
}

} // namespace rbee
