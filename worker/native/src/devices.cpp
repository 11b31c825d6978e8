#include "devices.h"

#include <dlfcn.h>

#include <algorithm>
#include <cctype>
#include <map>

namespace rbee {

namespace {

std::string backend_of(ggml_backend_dev_t device) {
  std::string name = ggml_backend_reg_name(ggml_backend_dev_backend_reg(device));
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  // ggml calls Metal "MTL".
  return name == "mtl" ? "metal" : name;
}

std::string library_of(const void* symbol) {
  Dl_info info{};
  if (dladdr(symbol, &info) == 0 || info.dli_fname == nullptr) return "";
  return info.dli_fname;
}

// `, code for haswell`, of `…/libggml-cpu-haswell.so`.
std::string variant_of(ggml_backend_dev_t device) {
  if (ggml_backend_dev_type(device) != GGML_BACKEND_DEVICE_TYPE_CPU) return "";
  const std::string path = library_of(
      ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), "ggml_threadpool_new"));
  static const std::string prefix = "libggml-cpu-";
  const size_t begin = path.rfind(prefix);
  if (begin == std::string::npos) return "";
  const std::string rest = path.substr(begin + prefix.size());
  return ", code for " + rest.substr(0, rest.rfind('.'));
}

} // namespace

void load_backends() {
#ifdef GGML_BACKEND_DL
  const std::string own = library_of(reinterpret_cast<const void*>(&load_backends));
  ggml_backend_load_all_from_path(own.substr(0, own.rfind('/')).c_str());
#endif
}

std::vector<Device> list_devices() {
  std::vector<Device> devices;
  std::map<std::string, int> counts;
  for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
    ggml_backend_dev_t handle = ggml_backend_dev_get(i);
    // Accelerators (BLAS and the like) help the CPU; nothing can be placed on them.
    if (ggml_backend_dev_type(handle) == GGML_BACKEND_DEVICE_TYPE_ACCEL) {
      continue;
    }
    Device device{backend_of(handle),
                  0,
                  ggml_backend_dev_name(handle),
                  ggml_backend_dev_description(handle) + variant_of(handle),
                  0,
                  0,
                  handle};
    device.index = counts[device.backend]++;
    ggml_backend_dev_memory(handle, &device.memory_free, &device.memory_total);
    devices.push_back(device);
  }
  return devices;
}

} // namespace rbee
