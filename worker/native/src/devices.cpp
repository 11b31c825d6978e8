#include "devices.h"

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

} // namespace

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
                  ggml_backend_dev_description(handle),
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
